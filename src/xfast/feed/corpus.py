"""LiveCorpus: the posts that retrieval can find, kept in step with the events of a feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.events import AccountState, EventBatch, Kind
from xfast.ids import as_uint64
from xfast.phoenix import Candidates, Corpus, CorpusBuilder, Retriever, Tower
from xfast.thunder import Clock

__all__ = ["LiveCorpus"]


class LiveCorpus:
    """The corpora of a feed, driven by its events: what was applied can be found at once.

    Parameters
    ----------
    tower
        The retrieval model that serves every cluster without its own.
    clusters
        Retrieval models of single clusters; each encodes the posts anew.
    retention_seconds
        How old a post may be that can be found.
    clock
        The feed's.
    options
        ``index``, ``engine`` and ``precision`` of :class:`~xfast.phoenix.Retriever`.

    Attributes
    ----------
    builder
        Rules and figures of the first model's.
    retriever
        What searches the first model's.
    retrievers
        All of them by cluster; ``"*"`` is the first.
    """

    def __init__(
        self,
        tower: Tower,
        *,
        retention_seconds: float,
        clock: Clock,
        clusters: Mapping[str, Tower] | None = None,
        **options: Any,
    ) -> None:
        towers = {"*": tower, **(clusters or {})}
        self.retrievers = {
            name: Retriever(each, Corpus.empty(each.config.emb_size), **options) for name, each in towers.items()
        }
        self._builders = [
            CorpusBuilder(each, retention_seconds=retention_seconds, clock=clock) for each in self.retrievers.values()
        ]
        self.retriever, self.builder = self.retrievers["*"], self._builders[0]

    def __len__(self) -> int:
        return self.retriever.size

    def apply(self, events: EventBatch) -> None:
        """Take in posts, deletions and account states, and let them count."""
        for builder in self._builders:
            builder.ingest(events)
            builder.flush()

    def set_states(self, states: Mapping[int, int], *, time_ms: int = 0) -> None:
        """Account states that are known from elsewhere; events of a later time overrule them."""
        users, values = as_uint64(list(states)), list(states.values())
        self.apply(EventBatch.of(Kind.ACCOUNT, np.full(len(users), time_ms), user_id=users, state=values))

    def forget(self, user_ids: Sequence[int], *, time_ms: int) -> int:
        """Forget the posts of users for good; return how many could be found."""
        before = len(self)
        self.set_states(dict.fromkeys(user_ids, int(AccountState.ERASED)), time_ms=time_ms)
        return before - len(self)

    def tick(self) -> None:
        """Drop what is too old."""
        for builder in self._builders:
            builder.tick()

    def holds(self, post_id: int) -> bool:
        """Whether the post can be found now."""
        return bool((self.retriever.posts()[0] == np.uint64(post_id)).any())

    def vectors(self, post_ids: npt.NDArray[np.uint64], author_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        """Vectors ``[N, D]`` of posts, whether they are in the corpus or not."""
        return self.retriever.encode_candidates(Candidates(post_ids, author_ids))

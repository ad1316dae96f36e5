"""The retriever: a viewer's vector, candidate vectors, and the corpus posts nearest to a viewer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.ids import as_int64, as_uint64
from xfast.phoenix import hashing
from xfast.phoenix.artifacts import Corpus, Tower, check_corpus
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.engines import retrieval_engine
from xfast.phoenix.features import Candidates, ContextFeatures, Engagements, Keep
from xfast.phoenix.search import ExactIndex

__all__ = ["Hits", "Retriever", "UserVector"]

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Hits:
    """Posts found, best first: [k] for one query vector, [Q, k] for a matrix of them."""

    post_ids: U64
    author_ids: U64
    scores: F32
    rows: npt.NDArray[np.int64]
    """Row of the corpus."""

    def __len__(self) -> int:
        return len(self.post_ids)


class UserVector(NamedTuple):
    """The user tower's output."""

    vector: F32
    """[D], unit length"""
    norm: float
    """Length of the pooled vector before it was normalised."""


class Retriever:
    """Find the posts of a corpus that are nearest to a viewer.

    Parameters
    ----------
    tower
        ``load_artifacts(...).retrieval``.
    corpus
        What can be found; None for encoding only.
    index : {"exact"}
        How to search.
    engine, precision, config_overrides
        As for :class:`~xfast.phoenix.ranker.Ranker`.

    Raises
    ------
    ParameterError
        An unknown index, engine or precision, or a tower that is no retrieval model.
    ArtifactError
        The corpus is not as wide as the model, or the overrides ask for other parameter shapes.
    NotImplementedError
        The engine, precision or index cannot run here; the message says why.
    """

    def __init__(
        self,
        tower: Tower,
        corpus: Corpus | None = None,
        *,
        index: str = "exact",
        engine: Literal["auto", "native", "xla", "pallas"] = "auto",
        precision: Literal["float32", "bfloat16", "int8"] = "float32",
        config_overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if tower.name != "retrieval":
            raise ParameterError(f"tower is the {tower.name} model, must be the retrieval model")
        if index.startswith("faiss:"):
            raise NotImplementedError(f"index={index!r}: this build searches exactly only; use 'exact'")
        if index != "exact":
            raise ParameterError(f"index is {index!r}, must be 'exact'")
        self._tower = tower.override(config_overrides)
        self._engine = retrieval_engine(self._tower, engine, precision)
        self._corpus = corpus
        self._index: ExactIndex | None = None
        if corpus is not None:
            check_corpus(corpus, self._tower, "corpus")
            self._index = ExactIndex(corpus)

    @property
    def config(self) -> PhoenixConfig:
        """The configuration, overrides included."""
        return self._tower.config

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self._engine.precision

    def encode(self, engagements: Engagements, *, keep: Keep = "oldest") -> F32:
        """Return the viewer's vector, f32 [D] of unit length (zeros for a viewer without user and history)."""
        return self.user_vector(engagements, keep=keep).vector

    def user_vector(self, engagements: Engagements, *, keep: Keep = "oldest") -> UserVector:
        """The viewer's vector and its length before normalising (PHOENIX §5)."""
        return UserVector(*self._engine.encode(ContextFeatures.build(self._tower, engagements, keep=keep)))

    def encode_candidates(self, candidates: Candidates) -> F32:
        """Vectors of posts, f32 [C, D] of unit length; of the candidates only the ids matter."""
        posts = self._tower.tables.gather("item", hashing.rows_of(candidates.post_ids, "item", self.config))
        authors = self._tower.tables.gather("author", hashing.rows_of(candidates.author_ids, "author", self.config))
        return self._engine.encode_candidates(posts, authors)

    def search(
        self,
        user: npt.ArrayLike,
        k: int = 200,
        *,
        exclude_ids: npt.ArrayLike | None = None,
        topic_ids: npt.ArrayLike | None = None,
    ) -> Hits:
        """Return the ``k`` posts with the largest dot product, best first; equal scores by corpus row.

        Parameters
        ----------
        user : f32 [D] or [Q, D]
            One query or several.
        k
            How many; fewer come back if fewer posts remain.
        exclude_ids : integers, optional
            Posts to leave out.
        topic_ids : integers, optional
            Only posts that carry one of these (needs a corpus with ``topic_ids``).

        Raises
        ------
        ParameterError
            No corpus, ``k`` below 1, a query of another width or with values that are not finite, or a topic filter on
            a corpus without topics.
        """
        if self._index is None or self._corpus is None:
            raise ParameterError("corpus is None, must be given to search")
        if k < 1:
            raise ParameterError(f"k is {k}, must be at least 1")
        queries = np.asarray(user, np.float32)
        width = self.config.emb_size
        if queries.ndim not in (1, 2) or queries.shape[-1] != width:
            raise ParameterError(f"user has shape {queries.shape}, must be ({width},) or (Q, {width})")
        if not np.isfinite(queries).all():
            raise ParameterError("user holds values that are not finite")
        if topic_ids is not None and not self._index.has_topics:
            raise ParameterError("topic_ids is given, but the corpus has no topic_ids")
        found = self._index.search(
            np.atleast_2d(queries),
            k,
            exclude_ids=None if exclude_ids is None else as_uint64(exclude_ids, name="exclude_ids").reshape(-1),
            topic_ids=None if topic_ids is None else as_int64(topic_ids, name="topic_ids").reshape(-1),
        )
        rows, scores = (found.rows[0], found.scores[0]) if queries.ndim == 1 else found
        return Hits(self._corpus.post_ids[rows], self._corpus.author_ids[rows], scores, rows)

    def warmup(self, candidate_counts: Sequence[int] = ()) -> None:
        """Compile ahead: every history length, and the candidate tower at these counts."""
        self._engine.warmup(candidate_counts)

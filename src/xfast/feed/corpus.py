"""LiveCorpus: the posts that retrieval can find, kept in step with the events."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.events import AccountState, EventBatch
from xfast.ids import as_uint64
from xfast.phoenix.artifacts import Corpus, Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.features import Candidates, Engagements, Keep
from xfast.phoenix.retriever import Hits, Retriever

__all__ = ["LiveCorpus"]

U64 = npt.NDArray[np.uint64]
F32 = npt.NDArray[np.float32]


class LiveCorpus:
    """Original posts (no reposts, no promoted-only ones) young enough to be shown, with their vectors; searchable.

    Parameters
    ----------
    tower
        The retrieval model.
    max_age_ms
        Older posts fall out at :meth:`expire`.
    options
        ``engine``, ``precision`` of :class:`~xfast.phoenix.Retriever`.
    """

    def __init__(self, tower: Tower, *, max_age_ms: int, **options: Any) -> None:
        self._tower, self._options, self._max_age_ms = tower, options, max_age_ms
        self._encoder = Retriever(tower, **options)
        self._lock = threading.Lock()
        self._posts: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        self._vectors: dict[int, F32] = {}
        self._hidden: dict[int, int] = {}
        self._searcher: Retriever | None = None

    def __len__(self) -> int:
        return len(self._posts)

    @property
    def config(self) -> PhoenixConfig:
        """Of the retrieval model."""
        return self._encoder.config

    def apply(self, batch: EventBatch, now_ms: int) -> None:
        """Take in posts, deletions and account states."""
        posts = batch.columns("post")
        born = np.where(posts["created_at_ms"] > 0, posts["created_at_ms"], batch.time_ms[posts.rows])
        fresh = (posts["source_post_id"] == 0) & ~posts["nullcast"] & (born > now_ms - self._max_age_ms)
        at = np.flatnonzero(fresh)
        topics = posts["topic_ids"]
        with self._lock:
            if len(at):
                ids, authors = posts["post_id"][at], posts["author_id"][at]
                vectors = self._encoder.encode_candidates(Candidates(ids, authors))
                for row, post, author, vector in zip(at.tolist(), ids.tolist(), authors.tolist(), vectors, strict=True):
                    own = tuple(topics.values[topics.offsets[row] : topics.offsets[row + 1]].tolist())
                    self._posts.setdefault(post, (author, int(born[row]), own))
                    self._vectors.setdefault(post, vector)
            for post in batch.columns("delete")["post_id"].tolist():
                self._drop(post)
            accounts = batch.columns("account")
            self._set(dict(zip(accounts["user_id"].tolist(), accounts["state"].tolist(), strict=True)))
            self._searcher = None

    def set_states(self, states: Mapping[int, int]) -> None:
        """Account states that are known from elsewhere."""
        with self._lock:
            self._set(states)
            self._searcher = None

    def _set(self, states: Mapping[int, int]) -> None:
        for user, state in states.items():
            if state in (AccountState.UNKNOWN, AccountState.ACTIVE):
                self._hidden.pop(user, None)
            else:
                self._hidden[user] = state

    def forget(self, user_ids: Sequence[int]) -> int:
        """Drop the posts of users; return how many there were."""
        gone = set(user_ids)
        with self._lock:
            theirs = [post for post, (author, *_) in self._posts.items() if author in gone]
            for post in theirs:
                self._drop(post)
            self._searcher = None
        return len(theirs)

    def expire(self, now_ms: int) -> int:
        """Drop posts that are too old; return how many."""
        with self._lock:
            old = [post for post, (_, born, _) in self._posts.items() if born <= now_ms - self._max_age_ms]
            for post in old:
                self._drop(post)
            self._searcher = None if old else self._searcher
        return len(old)

    def _drop(self, post: int) -> None:
        self._posts.pop(post, None)
        self._vectors.pop(post, None)

    def _current(self) -> Retriever:
        with self._lock:
            if self._searcher is None:
                shown = [(post, *rest) for post, rest in self._posts.items() if rest[0] not in self._hidden]
                width = max((len(own) for *_, own in shown), default=0)
                topics = np.zeros((len(shown), max(width, 1)), np.int64)
                for row, (*_, own) in enumerate(shown):
                    topics[row, : len(own)] = np.array(own, np.uint64).view(np.int64)
                vectors = [self._vectors[post] for post, *_ in shown]
                matrix = np.stack(vectors) if vectors else np.zeros((0, self.config.emb_size), np.float32)
                corpus = Corpus(
                    as_uint64([row[0] for row in shown]), as_uint64([row[1] for row in shown]), matrix, None, topics
                )
                self._searcher = Retriever(self._tower, corpus, **self._options)
            return self._searcher

    def encode(self, engagements: Engagements, *, keep: Keep = "oldest") -> F32:
        """The viewer's vector."""
        return self._encoder.encode(engagements, keep=keep)

    def encode_candidates(self, candidates: Candidates) -> F32:
        """Vectors of posts."""
        return self._encoder.encode_candidates(candidates)

    def search(self, user: npt.ArrayLike, k: int = 200, **options: Any) -> Hits:
        """The posts nearest to a viewer."""
        return self._current().search(user, k, **options)

    def vectors(self, post_ids: U64) -> tuple[F32, npt.NDArray[np.bool_]]:
        """Vectors ``[N, D]`` of posts, and which of them are here."""
        found = [self._vectors.get(post) for post in post_ids.tolist()]
        known = np.array([vector is not None for vector in found], np.bool_)
        out = np.zeros((len(found), self.config.emb_size), np.float32)
        if known.any():
            out[known] = np.stack([vector for vector in found if vector is not None])
        return out, known

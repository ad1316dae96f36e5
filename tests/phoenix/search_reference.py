"""Exact top-k of a corpus by dot product, in NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.phoenix.artifacts import Corpus
from xfast.phoenix.npz import as_float32

__all__ = ["ExactIndex", "Found"]

F32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
# Rows turned into float32 at a time where the corpus is stored in 16 bits.
_BLOCK = 16_384


class Found(NamedTuple):
    """Corpus rows and their scores, best first."""

    rows: Rows
    """[Q, k]"""
    scores: F32
    """[Q, k]"""


class ExactIndex:
    """Top-k over all rows; equal scores are ordered by row, and equal rows always have equal scores.

    A matrix product picks everything that could be in the top k (its rounding depends on a row's place, within a bound
    that is subtracted from the threshold); the survivors' scores are then computed row by row in float64 and rounded.
    """

    def __init__(self, corpus: Corpus) -> None:
        vectors = corpus.representations
        if vectors.dtype == np.float32 and not vectors.flags.aligned:
            vectors = np.array(vectors)  # NumPy would copy an unaligned mapping at every product
        self._vectors = vectors
        self._post_ids = corpus.post_ids
        self._topic_ids = corpus.topic_ids
        self._order: Rows | None = None
        self._longest: float | None = None

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def has_topics(self) -> bool:
        """Whether a topic filter can work."""
        return self._topic_ids is not None

    def search(
        self,
        queries: F32,
        k: int,
        *,
        exclude_ids: npt.NDArray[np.uint64] | None = None,
        topic_ids: npt.NDArray[np.int64] | None = None,
    ) -> Found:
        """Best ``k`` rows (fewer if fewer remain) for queries [Q, D].

        Parameters
        ----------
        queries
            Finite float32 vectors.
        k
            How many; at least 1.
        exclude_ids
            Posts that must not be found.
        topic_ids
            Only posts that carry one of these topics.
        """
        dropped = self._dropped(exclude_ids, topic_ids)
        k = min(k, len(self) - (0 if dropped is None else int(dropped.sum())))
        rows = np.zeros((len(queries), k), np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        if k == 0:
            return Found(rows, scores)
        rough = self._products(queries)
        if dropped is not None:
            rough[:, dropped] = -np.inf
        # |error of a float32 dot product| <= D * 2**-24 * |row| * |query|; taken twice for each side of the comparison.
        slack = 4 * queries.shape[1] * 2.0**-24 * self._longest_row() * np.linalg.norm(queries.astype(float), axis=1)
        for q in range(len(queries)):
            threshold = np.partition(rough[q], len(self) - k)[len(self) - k] - slack[q]
            survivors = np.flatnonzero(rough[q] >= threshold)
            exact = (self._vectors[survivors].astype(np.float64) * queries[q].astype(np.float64)).sum(axis=1)
            exact = exact.astype(np.float32)
            best = np.lexsort((survivors, -exact))[:k]
            rows[q], scores[q] = survivors[best], exact[best]
        return Found(rows, scores)

    def _products(self, queries: F32) -> F32:
        if self._vectors.dtype == np.float32:
            return queries @ self._vectors.T
        products = np.empty((len(queries), len(self)), np.float32)
        for at in range(0, len(self), _BLOCK):
            products[:, at : at + _BLOCK] = queries @ as_float32(self._vectors[at : at + _BLOCK]).T
        return products

    def _longest_row(self) -> float:
        if self._longest is None:
            squares = [
                np.square(as_float32(self._vectors[at : at + _BLOCK])).sum(axis=1).max()
                for at in range(0, len(self), _BLOCK)
            ]
            self._longest = float(np.sqrt(max(squares))) * (1 + 1e-5)
        return self._longest

    def _dropped(
        self, exclude_ids: npt.NDArray[np.uint64] | None, topic_ids: npt.NDArray[np.int64] | None
    ) -> npt.NDArray[np.bool_] | None:
        if exclude_ids is None and topic_ids is None:
            return None
        dropped = np.zeros(len(self), bool)
        if exclude_ids is not None and len(exclude_ids):
            if self._order is None:
                self._order = np.argsort(self._post_ids, kind="stable")
            ranked = self._post_ids[self._order]
            first, last = (np.searchsorted(ranked, exclude_ids, side) for side in ("left", "right"))
            for start, stop in zip(first[last > first], last[last > first], strict=True):
                dropped[self._order[start:stop]] = True
        if topic_ids is not None and self._topic_ids is not None:
            wanted = np.isin(self._topic_ids, topic_ids[topic_ids != 0])
            dropped |= ~(wanted if wanted.ndim == 1 else wanted.any(axis=1))
        return dropped

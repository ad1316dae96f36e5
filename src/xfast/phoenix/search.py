"""Exact top-k of a corpus by dot product: an int8 scan that cannot lose a row, in C++ (csrc/retrieval)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.errors import ArtifactError
from xfast.phoenix import _native, _scan
from xfast.phoenix.artifacts import Corpus
from xfast.phoenix.engines import available_threads
from xfast.phoenix.quantization import Int8Matrix

__all__ = ["ExactIndex", "Found"]

F32 = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
_STORED = ("float32", "float16", "bfloat16")


class Found(NamedTuple):
    """Corpus rows and their scores, best first."""

    rows: Rows
    """[Q, k]"""
    scores: F32
    """[Q, k]"""


class ExactIndex:
    """Top-k over all rows; equal scores are ordered by row.

    Keeps one byte per number (and 4 per row) beside the corpus, which stays where it is, mapped or in memory, in
    float32, float16 or bfloat16. Scores are dot products in double precision, rounded to float32.
    """

    def __init__(self, corpus: Corpus, *, isa: str | None = None, threads: int | None = None) -> None:
        vectors: npt.NDArray[Any] = (
            corpus.representations[:] if isinstance(corpus.representations, Int8Matrix) else corpus.representations
        )
        if vectors.dtype.name not in _STORED or not vectors.flags.c_contiguous:
            vectors = np.ascontiguousarray(vectors, np.float32)
        self._index = _scan.Index(vectors.shape[1], isa or _native.isa())
        try:
            self._index.append(vectors, vectors.view(np.uint8), vectors.dtype.name)
        except ValueError as error:
            raise ArtifactError(f"{corpus.name}: 'candidate_representations': {error}") from error
        self._threads = threads or available_threads()
        self._post_ids = corpus.post_ids
        self._topic_ids = corpus.topic_ids
        self._order: Rows | None = None

    def __len__(self) -> int:
        return self._index.size

    @property
    def nbytes(self) -> int:
        """Memory of the quantised rows."""
        return self._index.nbytes

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
        rows, scores, _ = self._index.search(
            np.ascontiguousarray(queries), min(k, len(self)), self._excluded(exclude_ids), self._allowed(topic_ids),
            self._threads,
        )  # fmt: skip
        return Found(rows, scores)

    def _excluded(self, exclude_ids: npt.NDArray[np.uint64] | None) -> Rows:
        """Row numbers of posts, ascending."""
        if exclude_ids is None or len(exclude_ids) == 0:
            return np.zeros(0, np.int64)
        if self._order is None:
            self._order = np.argsort(self._post_ids, kind="stable")
        ranked = self._post_ids[self._order]
        first, last = (np.searchsorted(ranked, np.unique(exclude_ids), side) for side in ("left", "right"))
        spans = [self._order[start:stop] for start, stop in zip(first, last, strict=True) if stop > start]
        return np.sort(np.concatenate(spans)) if spans else np.zeros(0, np.int64)

    def _allowed(self, topic_ids: npt.NDArray[np.int64] | None) -> npt.NDArray[np.bool_] | None:
        if topic_ids is None or self._topic_ids is None:
            return None
        wanted = np.isin(self._topic_ids, topic_ids[topic_ids != 0])
        return np.ascontiguousarray(wanted if wanted.ndim == 1 else wanted.any(axis=1))

"""Approximate search by faiss, for corpora so large that reading one byte per number takes too long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.phoenix.artifacts import Corpus
from xfast.phoenix.search import NO_POSTS, ExactIndex, Found

__all__ = ["FaissIndex"]

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_BLOCK = 1 << 16  # rows that are in memory as float32 at once
_TRAINING_ROWS = 1 << 18
#: Proposals per wanted post; what the filters and the coarse codes cost is asked for again, four times as many.
_SPARE = 2


class _Moment(NamedTuple):
    """An index of faiss, and the rows that it was built from as the first of an exact one."""

    faiss: Any
    base: int
    exact: ExactIndex


class FaissIndex:
    """Top-k by an index of faiss, with the exact scan around it.

    faiss proposes rows; their scores are then computed exactly, so an answer may lack a post, but scores, order and
    filters are those of the exact search. Posts added later are searched exactly until :meth:`compact` builds the faiss
    index anew. A topic filter is answered by the exact scan alone: an approximate index looks where most posts are, and
    would find few of a rare topic.

    Parameters
    ----------
    factory
        faiss's factory string, such as ``IVF2048,SQ8``, ``HNSW32`` or ``PQ64x4fs``; inner product.
    corpus
        What it is trained on and built from; a corpus too small to train on is an error of faiss.
    nprobe
        Lists that an IVF index looks into.
    ef_search
        Breadth of the search in an HNSW index.

    Raises
    ------
    ParameterError
        faiss does not know the factory string, or cannot train with so few posts.
    NotImplementedError
        faiss is not installed.
    """

    def __init__(self, factory: str, corpus: Corpus, *, nprobe: int = 64, ef_search: int = 200) -> None:
        try:
            import faiss
        except ImportError as error:
            raise NotImplementedError(
                f"index='faiss:{factory}': faiss is not installed, 'pip install xfast[faiss]' adds it"
            ) from error
        self._faiss: Any = faiss
        self._factory, self._nprobe, self._ef_search = factory, nprobe, ef_search
        self._writer, self._builder = threading.Lock(), threading.Lock()
        self._missed: list[Callable[[ExactIndex], object]] | None = None  # changes since a build began
        self._moment = self._build(corpus)

    def _build(self, corpus: Corpus) -> _Moment:
        vectors = corpus.representations
        exact = ExactIndex.of(corpus)
        if len(corpus) == 0:
            return _Moment(None, 0, exact)
        try:
            index = self._faiss.index_factory(vectors.shape[1], self._factory, self._faiss.METRIC_INNER_PRODUCT)
            if not index.is_trained:
                chosen = np.random.default_rng(0).permutation(len(corpus))[:_TRAINING_ROWS]
                index.train(np.ascontiguousarray(vectors[np.sort(chosen)], np.float32))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise ParameterError(f"index is 'faiss:{self._factory}', faiss refuses it: {reason}") from error
        for at in range(0, len(corpus), _BLOCK):
            index.add(np.ascontiguousarray(vectors[at : at + _BLOCK], np.float32))
        for part in (index, self._faiss.downcast_index(getattr(index, "base_index", index))):
            if hasattr(part, "nprobe"):
                part.nprobe = self._nprobe
            if hasattr(part, "hnsw"):
                part.hnsw.efSearch = self._ef_search
        return _Moment(index, len(corpus), exact)

    def __len__(self) -> int:
        return len(self._moment.exact)

    @property
    def removed(self) -> int:
        """See :class:`~xfast.phoenix.search.SearchIndex`."""
        return self._moment.exact.removed

    @property
    def nbytes(self) -> int:
        """Memory of the rows that the exact scan keeps, and of the faiss index as it would be written."""
        moment = self._moment
        written = 0 if moment.faiss is None else len(self._faiss.serialize_index(moment.faiss))
        return moment.exact.nbytes + written

    @property
    def has_topics(self) -> bool:
        """See :class:`~xfast.phoenix.search.SearchIndex`."""
        return self._moment.exact.has_topics

    def append(self, posts: Corpus) -> None:
        """See :class:`~xfast.phoenix.search.SearchIndex`; found exactly until the next :meth:`compact`."""
        with self._writer:
            self._moment.exact.append(posts)
            if self._missed is not None:
                self._missed.append(lambda fresh: fresh.append(posts))

    def remove(self, post_ids: U64, author_ids: U64 = NO_POSTS) -> int:
        """See :class:`~xfast.phoenix.search.SearchIndex`."""
        with self._writer:
            if self._missed is not None:
                self._missed.append(lambda fresh: fresh.remove(post_ids, author_ids))
            return self._moment.exact.remove(post_ids, author_ids)

    def compact(self) -> int:
        """Build everything anew from the posts that are left; searches and changes go on meanwhile."""
        with self._builder:
            with self._writer:
                removed, kept = self._moment.exact.removed, self._moment.exact.contents()
                self._missed = []
            try:
                moment = self._build(kept)
                with self._writer:
                    for change in self._missed:
                        change(moment.exact)
                    self._moment = moment
            finally:
                self._missed = None
            return removed

    def search(self, queries: F32, k: int, *, exclude_ids: U64 = NO_POSTS, topic_ids: I64 | None = None) -> Found:
        """Best ``k`` rows among those that faiss proposes and those that are new, for queries [Q, D].

        Fewer columns come back where the index proposes fewer rows that may be found.
        """
        moment = self._moment
        if topic_ids is not None or moment.faiss is None or len(queries) == 0:
            return moment.exact.search(queries, k, exclude_ids=exclude_ids, topic_ids=topic_ids)
        k = min(k, len(moment.exact))
        fresh = moment.exact.search(queries, k, exclude_ids=exclude_ids, first_row=moment.base).rows
        wanted = min(_SPARE * k, moment.base)
        _, proposed = moment.faiss.search(np.ascontiguousarray(queries), wanted)
        best = [
            self._best(moment, query, k, exclude_ids, rows, new)
            for query, rows, new in zip(queries, proposed, fresh, strict=True)
        ]
        width = min(found.rows.shape[1] for found in best)
        return Found(*(np.concatenate([column[:, :width] for column in columns]) for columns in zip(*best)))

    @staticmethod
    def _best(moment: _Moment, query: F32, k: int, exclude_ids: U64, proposed: I64, fresh: I64) -> Found:
        while True:
            found = moment.exact.rank(query, proposed, k, exclude_ids=exclude_ids).rows[0]
            wanted = len(proposed)
            if len(found) == k or (proposed < 0).any() or wanted == moment.base:
                return moment.exact.rank(query, np.concatenate([found, fresh]), k, exclude_ids=exclude_ids)
            # The filter took too many: ask again.
            proposed = moment.faiss.search(query[None], min(4 * wanted, moment.base))[1][0]

    def contents(self) -> Corpus:
        """See :class:`~xfast.phoenix.search.SearchIndex`."""
        return self._moment.exact.contents()

    def posts(self) -> tuple[U64, U64, I64]:
        """See :class:`~xfast.phoenix.search.SearchIndex`."""
        return self._moment.exact.posts()

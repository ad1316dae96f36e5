"""Exact top-k of a corpus by dot product: an int8 scan that cannot lose a row, in C++ (csrc/retrieval)."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from xfast.errors import ArtifactError
from xfast.ids import as_int64
from xfast.phoenix import _native, _scan
from xfast.phoenix.artifacts import Corpus
from xfast.phoenix.engines import available_threads
from xfast.phoenix.stored import Int8Matrix

__all__ = ["NO_POSTS", "ExactIndex", "Found", "SearchIndex"]

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
#: No post, no author.
NO_POSTS: U64 = np.zeros(0, np.uint64)
_STORED = ("float32", "float16", "bfloat16")


class Found(NamedTuple):
    """Rows of the corpus, best first, and what they are."""

    rows: I64
    """[Q, k]"""
    scores: F32
    """[Q, k]"""
    post_ids: U64
    """[Q, k]"""
    author_ids: U64
    """[Q, k]"""


class SearchIndex(Protocol):
    """A corpus that can be searched while it changes: a search sees one moment of it."""

    def __len__(self) -> int:
        """Rows, removed ones included."""

    @property
    def removed(self) -> int:
        """Rows that were removed and not compacted away yet."""

    @property
    def nbytes(self) -> int:
        """Memory beside the corpus itself."""

    @property
    def has_topics(self) -> bool:
        """Whether a topic filter can work."""

    def append(self, posts: Corpus) -> None:
        """Add rows behind the existing ones."""

    def remove(self, post_ids: U64, author_ids: U64 = NO_POSTS) -> int:
        """Take out posts, and all posts of authors; returns how many rows went."""

    def compact(self) -> int:
        """Free what was removed; the order of rows stays, their numbers change. Returns how many rows went."""

    def search(self, queries: F32, k: int, *, exclude_ids: U64 = NO_POSTS, topic_ids: I64 | None = None) -> Found:
        """Best ``k`` rows (fewer if fewer remain) for queries [Q, D]."""

    def contents(self) -> Corpus:
        """The rows that can be found, in order."""

    def posts(self) -> tuple[U64, U64, I64]:
        """Their ids, authors and topics [n, M] without the vectors."""


class ExactIndex:
    """Top-k over all rows; equal scores are ordered by row.

    Keeps one byte per number (and 4 per row), the ids and the topics beside the vectors, which stay where they are,
    mapped or in memory, in float32, float16, bfloat16 or int8. Scores are dot products in double precision, rounded to
    float32.

    Parameters
    ----------
    dim
        Length of a vector.
    isa
        Instruction set; the best one of this processor if left out.
    threads
        For searching and adding; all processors of the process if left out.
    """

    def __init__(self, dim: int, *, isa: str | None = None, threads: int | None = None) -> None:
        self._threads = threads or available_threads()
        self._index = _scan.Index(dim, isa or _native.isa(), self._threads)
        self._has_topics = False

    @classmethod
    def of(cls, corpus: Corpus, *, isa: str | None = None, threads: int | None = None) -> ExactIndex:
        """An index over a corpus."""
        index = cls(corpus.representations.shape[1], isa=isa, threads=threads)
        index.append(corpus)
        return index

    def __len__(self) -> int:
        return self._index.size

    @property
    def removed(self) -> int:
        """See :class:`SearchIndex`."""
        return self._index.removed

    @property
    def segments(self) -> int:
        """How many pieces the rows lie in."""
        return self._index.segments

    @property
    def nbytes(self) -> int:
        """Memory of the quantised rows, ids, topics and marks."""
        return self._index.nbytes

    @property
    def has_topics(self) -> bool:
        """See :class:`SearchIndex`."""
        return self._has_topics

    def append(self, posts: Corpus) -> None:
        """Add rows behind the existing ones; their vectors are kept, not copied, unless few rows are added.

        Raises
        ------
        ArtifactError
            A vector is not finite; nothing was added.
        """
        vectors, scale = _stored(posts.representations)
        topics = np.zeros((len(posts), 0), np.int64)
        if posts.topic_ids is not None:
            self._has_topics = True
            topics = np.ascontiguousarray(as_int64(posts.topic_ids).reshape(len(posts), -1 if len(posts) else 0))
        post_ids, author_ids = (np.require(ids, np.uint64, ["C", "A"]) for ids in (posts.post_ids, posts.author_ids))
        data = vectors.view(np.uint8)
        try:
            self._index.append((vectors, scale), data, vectors.dtype.name, scale, post_ids, author_ids, topics)
        except ValueError as error:
            raise ArtifactError(f"{posts.name}: 'candidate_representations': {error}") from error

    def remove(self, post_ids: U64, author_ids: U64 = NO_POSTS) -> int:
        """See :class:`SearchIndex`."""
        return self._index.remove(np.ascontiguousarray(post_ids), np.ascontiguousarray(author_ids))

    def compact(self) -> int:
        """See :class:`SearchIndex`."""
        return self._index.compact()

    def search(
        self,
        queries: F32,
        k: int,
        *,
        exclude_ids: U64 = NO_POSTS,
        topic_ids: I64 | None = None,
        first_row: int = 0,
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
            Only posts that carry one of these topics; 0 is none.
        first_row
            Look at this row and later ones only.
        """
        topics = None if topic_ids is None else np.ascontiguousarray(topic_ids)
        exclude_ids = np.ascontiguousarray(exclude_ids)
        return Found(
            *self._index.search(np.ascontiguousarray(queries), k, exclude_ids, topics, self._threads, first_row)
        )

    def rank(
        self, query: F32, rows: I64, k: int, *, exclude_ids: U64 = NO_POSTS, topic_ids: I64 | None = None
    ) -> Found:
        """What :meth:`search` would answer to one query [D] if these rows were all; negative ones are skipped."""
        topics = None if topic_ids is None else np.ascontiguousarray(topic_ids)
        exclude_ids = np.ascontiguousarray(exclude_ids)
        return Found(*self._index.rank(np.ascontiguousarray(query), np.ascontiguousarray(rows), k, exclude_ids, topics))

    def contents(self) -> Corpus:
        """See :class:`SearchIndex`; the vectors as float32."""
        vectors, posts, authors, topics = self._index.contents(True)
        return Corpus(posts, authors, vectors, topic_ids=topics if self._has_topics else None)

    def posts(self) -> tuple[U64, U64, I64]:
        """See :class:`SearchIndex`."""
        return self._index.contents(False)[1:]


def _stored(representations: npt.NDArray[Any] | Int8Matrix) -> tuple[npt.NDArray[Any], F32 | None]:
    """Vectors in a form that the scan reads, and their scales if they are int8."""
    if isinstance(representations, Int8Matrix):
        values, scale = representations.values, representations.scale
        if scale.shape[1] == 1 and len(scale) == len(values) and values.flags.c_contiguous:
            return values, np.require(scale.reshape(-1), np.float32, ["C", "A"])
        return representations[:], None
    if representations.dtype.name in _STORED and representations.flags.c_contiguous:
        return representations, None
    return np.ascontiguousarray(representations, np.float32), None

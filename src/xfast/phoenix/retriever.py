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
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.engines import RetrievalEngine, retrieval_engine
from xfast.phoenix.features import Candidates, ContextFeatures, Engagements, Keep
from xfast.phoenix.search import NO_POSTS, ExactIndex, SearchIndex
from xfast.phoenix.tower import Corpus, Tower, check_corpus

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


@dataclass(frozen=True, eq=False)
class _State:
    """A model and the corpus that it encoded: replaced together, so that nothing is searched with the wrong one."""

    tower: Tower
    engine: RetrievalEngine
    index: SearchIndex | None


class Retriever:
    """Find the posts of a corpus that are nearest to a viewer.

    The corpus may change while others search: every search sees one moment of it.

    Parameters
    ----------
    tower
        ``load_artifacts(...).retrieval``.
    corpus
        What can be found; None for encoding only, :meth:`Corpus.empty` for one that is filled later.
    index : {"exact", "faiss:<factory>"}
        How to search: over all rows, or by an index that faiss builds from the factory string and the extra ``faiss``,
        such as ``"faiss:IVF2048,SQ8"`` (:class:`~xfast.phoenix.approximate.FaissIndex`).
    engine, precision, config_overrides
        As for :class:`~xfast.phoenix.ranker.Ranker`.

    Raises
    ------
    ParameterError
        An unknown index, engine or precision, or a tower that is no retrieval model.
    ArtifactError
        The corpus is not as wide as the model or has vectors that are not finite, or the overrides ask for other
        parameter shapes.
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
        if index != "exact" and not index.startswith("faiss:"):
            raise ParameterError(f"index is {index!r}, must be 'exact' or 'faiss:<factory>'")
        self._options: dict[str, Any] = {
            "index": index, "engine": engine, "precision": precision, "config_overrides": config_overrides
        }  # fmt: skip
        tower = tower.override(config_overrides)
        runs = retrieval_engine(tower, engine, precision)
        if corpus is None:
            self._state = _State(tower, runs, None)
            return
        check_corpus(corpus, tower, "corpus")
        self._state = _State(tower, runs, _index(index, corpus))

    @property
    def config(self) -> PhoenixConfig:
        """The configuration, overrides included."""
        return self._state.tower.config

    @property
    def engine(self) -> str:
        """Name of the engine that runs."""
        return self._state.engine.name

    @property
    def precision(self) -> str:
        """What it computes in."""
        return self._state.engine.precision

    # --- encoding -----------------------------------------------------------------------------------------------------

    def encode(self, engagements: Engagements, *, keep: Keep = "oldest") -> F32:
        """Return the viewer's vector, f32 [D] of unit length (zeros for a viewer without user and history)."""
        return self.user_vector(engagements, keep=keep).vector

    def user_vector(self, engagements: Engagements, *, keep: Keep = "oldest") -> UserVector:
        """The viewer's vector and its length before normalising (PHOENIX §5)."""
        state = self._state
        return UserVector(*state.engine.encode(ContextFeatures.build(state.tower, engagements, keep=keep)))

    def encode_candidates(self, candidates: Candidates) -> F32:
        """Vectors of posts, f32 [C, D] of unit length; of the candidates only the ids matter."""
        state = self._state
        tables, config = state.tower.tables, state.tower.config
        posts = tables.gather("item", hashing.rows_of(candidates.post_ids, "item", config))
        authors = tables.gather("author", hashing.rows_of(candidates.author_ids, "author", config))
        return state.engine.encode_candidates(posts, authors)

    # --- searching ----------------------------------------------------------------------------------------------------

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
            Posts to leave out; ones that the corpus does not hold do no harm.
        topic_ids : integers, optional
            Only posts that carry one of these (needs a corpus with ``topic_ids``); 0 is no topic.

        Raises
        ------
        ParameterError
            No corpus, ``k`` below 1, a query of another width or with values that are not finite, or a topic filter on
            a corpus without topics.
        """
        state = self._state
        index = _searchable(state)
        if k < 1:
            raise ParameterError(f"k is {k}, must be at least 1")
        queries = np.asarray(user, np.float32)
        width = state.tower.config.emb_size
        if queries.ndim not in (1, 2) or queries.shape[-1] != width:
            raise ParameterError(f"user has shape {queries.shape}, must be ({width},) or (Q, {width})")
        if not np.isfinite(queries).all():
            raise ParameterError("user holds values that are not finite")
        if topic_ids is not None and not index.has_topics:
            raise ParameterError("topic_ids is given, but the corpus has no topic_ids")
        found = index.search(
            np.atleast_2d(queries),
            k,
            exclude_ids=_ids(exclude_ids, "exclude_ids"),
            topic_ids=None if topic_ids is None else as_int64(topic_ids, name="topic_ids").reshape(-1),
        )
        rows, scores, posts, authors = (column[0] for column in found) if queries.ndim == 1 else found
        return Hits(posts, authors, scores, rows)

    def warmup(self, candidate_counts: Sequence[int] = ()) -> None:
        """Compile ahead: every history length, and the candidate tower at these counts."""
        self._state.engine.warmup(candidate_counts)

    # --- a corpus that lives ------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Posts that can be found."""
        index = self._state.index
        return 0 if index is None else len(index) - index.removed

    @property
    def removed(self) -> int:
        """Rows that were removed and still take memory; :meth:`compact` frees them."""
        index = self._state.index
        return 0 if index is None else index.removed

    def add(self, candidates: Candidates, *, topic_ids: npt.ArrayLike | None = None) -> None:
        """Encode posts and let them be found, behind the existing rows.

        Parameters
        ----------
        candidates
            The posts; only ids matter. Posts that the corpus holds already are there twice: remove them first.
        topic_ids : integers [C] or [C, M], optional
            Their topics, 0 for none.
        """
        topics = None if topic_ids is None else as_int64(topic_ids, name="topic_ids")
        vectors = self.encode_candidates(candidates)
        self.append(Corpus(candidates.post_ids, candidates.author_ids, vectors, topic_ids=topics, name="posts"))

    def append(self, posts: Corpus) -> None:
        """Let posts be found whose vectors are there already, behind the existing rows.

        Raises
        ------
        ParameterError
            No corpus to add to.
        ArtifactError
            The vectors are not as wide as the model's, or one is not finite; nothing was added.
        """
        state = self._state
        index = _searchable(state)
        check_corpus(posts, state.tower, "posts")
        index.append(posts)

    def remove(self, post_ids: npt.ArrayLike = (), author_ids: npt.ArrayLike = ()) -> int:
        """Take posts, and all posts of authors, out of later searches; returns how many rows went."""
        return _searchable(self._state).remove(_ids(post_ids, "post_ids"), _ids(author_ids, "author_ids"))

    def compact(self) -> int:
        """Free the memory of removed rows; the order of rows stays, their numbers change. Returns how many went."""
        return _searchable(self._state).compact()

    def contents(self) -> Corpus:
        """What can be found now, in order, with float32 vectors (a copy)."""
        return _searchable(self._state).contents()

    def posts(self) -> tuple[U64, U64, npt.NDArray[np.int64]]:
        """Ids, authors and topics [n, M] (0 for none) of what can be found now, in order."""
        return _searchable(self._state).posts()

    def sibling(self, tower: Tower, corpus: Corpus | None = None) -> Retriever:
        """A retriever for another model, with this one's index, engine, precision and overrides."""
        return Retriever(tower, corpus, **self._options)

    def swap(self, other: Retriever) -> None:
        """Answer with another retriever's model and corpus from now on.

        Calls under way finish with the old ones. A vector encoded before must not be searched after: whoever encodes
        and searches takes :meth:`pinned` first.
        """
        self._state, self._options = other._state, other._options

    def pinned(self) -> Retriever:
        """This retriever with the model and corpus of this moment: :meth:`swap` does not reach it, updates do."""
        same = object.__new__(Retriever)
        same._state, same._options = self._state, self._options
        return same


def _index(name: str, corpus: Corpus) -> SearchIndex:
    if name == "exact":
        return ExactIndex.of(corpus)
    from xfast.phoenix.approximate import FaissIndex

    return FaissIndex(name.removeprefix("faiss:"), corpus)


def _searchable(state: _State) -> SearchIndex:
    if state.index is None:
        raise ParameterError("corpus is None, must be given to search")
    return state.index


def _ids(ids: npt.ArrayLike | None, name: str) -> U64:
    return NO_POSTS if ids is None else as_uint64(ids, name=name).reshape(-1)

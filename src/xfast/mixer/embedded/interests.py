"""Retrieval by several interests: a history is split into groups of alike posts, and each group searches for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.ids import as_uint64
from xfast.mixer.clients import Retrieval, RetrievalRequest
from xfast.phoenix.clusters import fit_sequence, model_of

if TYPE_CHECKING:
    from xfast.phoenix import Retriever

__all__ = ["InterestRetrieval", "group_interests"]

_ROUNDS = 10


def group_interests(vectors: npt.NDArray[np.floating[Any]], groups: int) -> npt.NDArray[np.int64]:
    """Group unit vectors ``[S, D]`` by direction (spherical k-means); returns a group per row.

    Deterministic: the first centre is the newest row, each further one the row least like the centres so far.
    """
    centres = vectors[-1:].copy()
    while len(centres) < min(groups, len(vectors)):
        centres = np.vstack([centres, vectors[int(np.argmin((vectors @ centres.T).max(axis=1)))]])
    owner = np.argmax(vectors @ centres.T, axis=1)
    for _ in range(_ROUNDS):
        for group in range(len(centres)):
            members = vectors[owner == group]
            if len(members):
                mean = members.sum(axis=0)
                centres[group] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        moved = np.argmax(vectors @ centres.T, axis=1)
        if np.array_equal(moved, owner):
            break
        owner = moved
    return np.asarray(owner, np.int64)


class InterestRetrieval:
    """The client of the MOE source: one query vector per interest, answers merged in turns, best first.

    Parameters
    ----------
    retrievers
        Cluster id -> model; ``"*"`` serves every cluster without its own.
    interests
        Groups at most, at least 1.
    """

    def __init__(self, retrievers: Mapping[str, Retriever], *, interests: int = 3) -> None:
        if interests < 1:
            raise ParameterError(f"interests is {interests}, must be at least 1")
        self._retrievers = dict(retrievers)
        self._interests = interests

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Find posts for every interest."""
        return await asyncio.to_thread(self._retrieve, request)

    def _retrieve(self, request: RetrievalRequest) -> Retrieval:
        from xfast.phoenix import Candidates

        retriever = model_of(self._retrievers, request.cluster).pinned()
        sequence = fit_sequence(request.sequence, retriever.config.num_actions)
        histories = [sequence]
        if len(sequence) > 1:
            vectors = retriever.encode_candidates(Candidates(sequence.post_ids, sequence.author_ids))
            owner = group_interests(vectors, self._interests)
            # The largest interest answers first.
            order = np.argsort(-np.bincount(owner), kind="stable")
            histories = [_part(sequence, owner == group) for group in order if (owner == group).any()]
        queries = np.stack([retriever.encode(history, keep="newest") for history in histories])
        excluded = np.union1d(as_uint64(request.query.seen_ids), sequence.post_ids)
        hits = retriever.search(queries, request.max_results, exclude_ids=excluded)
        # Column by column: every interest's best, then every interest's second, …; a post counts where it came first.
        posts, authors, scores = hits.post_ids.T.ravel(), hits.author_ids.T.ravel(), hits.scores.T.ravel()
        _, first = np.unique(posts, return_index=True)
        chosen = np.sort(first)[: request.max_results]
        return Retrieval(posts[chosen], authors[chosen], scores=scores[chosen])


def _part(sequence: Any, rows: npt.NDArray[np.bool_]) -> Any:
    columns = ("post_ids", "author_ids", "actions", "product_surface", "continuous")
    given = {name: getattr(sequence, name) for name in columns}
    return replace(sequence, **{name: value[rows] for name, value in given.items() if value is not None})

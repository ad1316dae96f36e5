"""Fallback: fresh and popular posts for a viewer about whom nothing is known (fixed mode; ours)."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import U64, Maybe, answer, sequence_length
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source, eager

__all__ = ["FallbackClient", "FallbackSource"]


class FallbackClient(Protocol):
    """Fresh and popular posts."""

    def fresh_and_popular(self, query: ScoredPostsQuery, max_results: int) -> Maybe[tuple[U64, U64]]:
        """(post ids, author ids), best first, capped per author, by language and topic where the query has them."""
        ...


class FallbackSource(Source[ScoredPostsQuery, CandidateBatch]):
    """On for viewers with no follows and no history, so that a new viewer gets a feed; marked by its served type."""

    def __init__(self, client: FallbackClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        unknown = not len(query.user_features.followed_user_ids) and sequence_length(query.retrieval_sequence) == 0
        return unknown and not query.in_network_only and not query.has_cached_posts

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        posts, authors = await answer(self._client.fresh_and_popular(query, query.params.fallback_max_results))
        return CandidateBatch(
            {
                "tweet_id": as_uint64(posts),
                "author_id": as_uint64(authors),
                "served_type": np.full(len(posts), int(ServedType.FOR_YOU_FALLBACK), np.uint8),
            },
            length=len(posts),
        )

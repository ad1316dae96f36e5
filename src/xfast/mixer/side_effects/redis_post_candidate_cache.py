"""RedisPostCandidateCache: scored candidates are kept for the viewer's next request."""

from __future__ import annotations

import numpy as np

from xfast.mixer.cache_format import cache_key, encode_posts
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostCacheClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import SideEffect, SideEffectInput, descending, eager

__all__ = ["RedisPostCandidateCacheSideEffect", "cache_selection"]

TTL_SECS = 180


def cache_selection(selected: CandidateBatch, non_selected: CandidateBatch, max_posts: int) -> CandidateBatch:
    """Posts with a positive weighted score, best first, ties selected first, at most ``max_posts``."""
    batch = CandidateBatch.concat([selected, non_selected])
    weighted = batch.column("weighted_score").filled(0.0)
    positive = np.flatnonzero(weighted > 0)
    return batch.take(positive[descending(weighted[positive])][:max_posts])


class RedisPostCandidateCacheSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Write the cache under the key that CachedPosts reads, for 180 s; not for requests that came from the cache."""

    def __init__(self, client: PostCacheClient, *, production: bool, quirks: Quirks = "fixed") -> None:
        self._client = client
        self._production = production
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and not query.has_cached_posts

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        posts = cache_selection(data.selected, data.non_selected, data.query.params.max_posts_to_cache)
        if len(posts):
            payload = encode_posts(posts, quirks=self.quirks)
            await answer(self._client.set(cache_key(data.query), payload, TTL_SECS))

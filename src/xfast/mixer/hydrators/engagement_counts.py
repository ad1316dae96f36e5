"""EngagementCounts: likes, replies, reposts and quotes of a post (shipped dead; live in fixed mode)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Hydration, eager

_MINUTE_MS = 60_000
#: Counts of a young post move fast.
_YOUNG_MS = 30 * _MINUTE_MS


class EngagementCountsHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write the four counts of the original post; kept 5 minutes while it is younger than 30, else 10."""

    columns = ("fav_count", "reply_count", "repost_count", "quote_count")

    def __init__(self, client: PostsClient, cache: CacheStore | None = None) -> None:
        super().__init__(cache)
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.original_id.tolist()
        return keys

    def ttls_ms(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Sequence[float]:
        ages, _ = missing.ages_ms(query.request_time_ms)
        return [5 * _MINUTE_MS if age < _YOUNG_MS else 10 * _MINUTE_MS for age in ages.tolist()]

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        counts = await answer(self._client.engagement_counts(missing.original_id))
        return Hydration({name: counts[:, index] for index, name in enumerate(self.columns)})

"""Subscription: posts that an author reserves for subscribers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from xfast.mixer.candidates import CandidateBatch, optional_ids
from xfast.mixer.clients import PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Hydration, eager


class SubscriptionHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``subscription_author_id``; cached by own id."""

    columns = ("subscription_author_id",)

    def __init__(self, client: PostsClient, cache: CacheStore | None = None) -> None:
        super().__init__(cache)
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.tweet_id.tolist()
        return keys

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        authors = await answer(self._client.subscription_authors(missing.tweet_id))
        return Hydration({"subscription_author_id": optional_ids(authors)})

"""CoreData: text and relations of posts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xfast.mixer.candidates import CandidateBatch, optional_ids
from xfast.mixer.clients import CoreData, PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, eager


class CoreDataHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write text, parent, retweeted post and retweeted author; never the author. Cached by own id.

    In reference mode a missing row clears those four fields and is cached as such. In fixed mode it leaves them, sets
    ``core_data_failed`` (the filter drops the post) and is not cached; a parent id of 0 means none in either mode once
    core data has spoken.
    """

    columns = ("retweeted_user_id", "retweeted_tweet_id", "in_reply_to_tweet_id", "tweet_text", "created_at_ms")

    def __init__(self, client: PostsClient, cache: CacheStore | None = None, *, quirks: Quirks = "fixed") -> None:
        super().__init__(cache)
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        # Fixed mode asks for cached posts too: one of them may have been deleted since.
        return self.quirks == "fixed" or not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.tweet_id.tolist()
        return keys

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        data: CoreData = await answer(self._client.core_data(missing.tweet_id))
        found = data.found
        texts = np.where(found, data.texts, "")
        created = np.zeros(len(missing), np.int64) if data.created_at_ms is None else data.created_at_ms
        columns = {
            "retweeted_user_id": optional_ids(data.retweeted_user_ids, found),
            "retweeted_tweet_id": optional_ids(data.retweeted_ids, found),
            "in_reply_to_tweet_id": optional_ids(data.in_reply_to_ids, found),
            "tweet_text": texts,
            "created_at_ms": Column(created, found & (created > 0)),
        }
        if self.quirks == "reference":
            return Hydration(columns)
        return Hydration(columns, found, dict.fromkeys(np.flatnonzero(~found).tolist(), "no core data"))

    def update(self, query: ScoredPostsQuery, batch: CandidateBatch, result: Hydration) -> CandidateBatch:
        updated = super().update(query, batch, result)
        if self.quirks == "reference" or result.ok is None or result.failure is not None:
            return updated
        if np.count_nonzero(result.ok) == len(result.ok):
            return updated
        return updated.with_columns({"core_data_failed": ~result.ok})

"""VideoDuration: the shortest own video of a post."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, eager


class VideoDurationHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``min_video_duration_ms`` of the original post; a post that the service does not know is an error.

    Runs beside CoreData, so in reference mode a retweet that only core data reveals is looked up by its wrapper.
    """

    columns = ("min_video_duration_ms",)

    def __init__(self, client: PostsClient, cache: CacheStore | None = None) -> None:
        super().__init__(cache)
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.original_id.tolist()
        return keys

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        durations, has_video, known = await answer(self._client.video_durations(missing.original_id))
        unknown = dict.fromkeys(np.flatnonzero(~known).tolist(), "not in the video service's answer")
        return Hydration({"min_video_duration_ms": Column(durations, has_video)}, known, unknown)

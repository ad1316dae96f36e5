"""HasMedia: whether a post has media, and which."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from xfast.mixer._columns import present
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, eager


class HasMediaHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``has_media`` and the media entities of the original post."""

    columns = ("has_media", "media")

    def __init__(self, client: PostsClient, cache: CacheStore | None = None) -> None:
        super().__init__(cache)
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        wanted = query.params.enable_has_media_hydration or query.is_shadow_traffic
        return wanted and not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.original_id.tolist()
        return keys

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        has_media = await answer(self._client.has_media(missing.original_id))
        media = await answer(self._client.media(missing.original_id))
        return Hydration({"has_media": has_media, "media": Column(media, present(media))})

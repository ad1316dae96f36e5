"""LanguageCode: the language of a post."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from xfast.mixer._columns import present
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, eager


class LanguageCodeHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``language_code`` of the original post."""

    columns = ("language_code",)

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
        codes = await answer(self._client.language_codes(missing.original_id))
        return Hydration({"language_code": Column(codes, present(codes))})

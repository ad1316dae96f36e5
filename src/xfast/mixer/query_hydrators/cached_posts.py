"""CachedPosts: the scored candidates of a recent request."""

from __future__ import annotations

from typing import Any

from xfast.mixer.cache_format import cache_key, decode_posts
from xfast.mixer.clients import PostCacheClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Policy, QueryHydrator, eager

#: Fewer cached posts than this do not replace the sources.
MIN_CACHED_POSTS = 500


class CachedPostsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``cached_posts`` and ``has_cached_posts`` (from 500 posts on); late or failed reads change nothing.

    Parameters
    ----------
    min_posts
        500 as published; a small network may lower it.
    """

    fields = ("cached_posts", "has_cached_posts")
    policy = Policy(deadline_ms=300)

    def __init__(self, client: PostCacheClient, *, min_posts: int = MIN_CACHED_POSTS) -> None:
        self._client = client
        self._min_posts = min_posts

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_cached_posts

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        payload = await answer(self._client.get(cache_key(query)))
        if not payload:
            return {"cached_posts": None, "has_cached_posts": False}
        posts = decode_posts(payload)
        return {"cached_posts": posts, "has_cached_posts": len(posts) >= self._min_posts}

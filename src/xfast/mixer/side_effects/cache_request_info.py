"""CacheRequestInfo: the sizes of a request, for those who tune caches (shipped dead; live in fixed mode)."""

from __future__ import annotations

import json

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostCacheClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

_TTL_SECS = 180


class CacheRequestInfoSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Keep request id, time, cache use and list sizes under the viewer for 180 s."""

    def __init__(self, client: PostCacheClient) -> None:
        self._client = client

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        query = data.query
        info = {
            "request_id": query.request_id,
            "request_time_ms": query.request_time_ms,
            "has_cached_posts": query.has_cached_posts,
            "selected": len(data.selected),
            "non_selected": len(data.non_selected),
        }
        await answer(self._client.set(f"xfast:request:{query.user_id}", json.dumps(info).encode(), _TTL_SECS))

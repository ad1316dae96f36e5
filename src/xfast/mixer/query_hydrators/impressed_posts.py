"""ImpressedPosts: ids of posts that were on the viewer's screen (built and thrown away in May; live in fixed mode)."""

from __future__ import annotations

from typing import Any

from xfast.ids import as_uint64
from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class ImpressedPostsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``impressed_post_ids``, which the backup filter reads."""

    fields = ("impressed_post_ids",)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"impressed_post_ids": as_uint64(await answer(self._client.impressed_post_ids(query.user_id)))}

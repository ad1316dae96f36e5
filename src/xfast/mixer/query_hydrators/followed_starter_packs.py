"""FollowedStarterPacks: packs of accounts that the viewer followed when joining."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Policy, QueryHydrator, eager


class FollowedStarterPacksQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``followed_starter_packs``; unset without a row."""

    fields = ("followed_starter_packs",)
    policy = Policy(deadline_ms=300)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_context_features or query.is_shadow_traffic

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"followed_starter_packs": await answer(self._client.starter_packs(query.user_id))}

"""UserDemographics: what the viewer declared about themselves."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class UserDemographicsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``user_demographics``."""

    fields = ("user_demographics",)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_context_features or query.is_shadow_traffic

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"user_demographics": await answer(self._client.demographics(query.user_id))}

"""UserFeatures: what stores know about the viewer beside the four lists (shipped dead; live in fixed mode)."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class UserFeaturesQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``user_features.muted_keywords``."""

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> Any:
        return await answer(self._client.muted_keywords(query.user_id))

    def update(self, query: ScoredPostsQuery, partial: Any) -> None:
        query.user_features.muted_keywords = list(partial)

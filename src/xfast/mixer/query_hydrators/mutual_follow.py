"""MutualFollow: the MinHash signature of the viewer's follows."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class MutualFollowQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``viewer_minhash``."""

    fields = ("viewer_minhash",)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_mutual_follow_jaccard_hydration

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"viewer_minhash": await answer(self._client.minhash(query.user_id))}

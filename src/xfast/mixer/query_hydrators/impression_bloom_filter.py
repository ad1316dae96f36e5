"""ImpressionBloomFilter: serialised filters of what was on the viewer's screen."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class ImpressionBloomFilterQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``bloom_filter_entries`` of the home timeline; empty without a row."""

    fields = ("bloom_filter_entries",)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"bloom_filter_entries": list(await answer(self._client.impression_filters(query.user_id)))}

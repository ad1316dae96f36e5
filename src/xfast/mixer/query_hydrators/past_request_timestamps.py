"""PastRequestTimestamps: when the viewer asked before, polling aside."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import ServedHistoryClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class PastRequestTimestampsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``non_polling_timestamps``."""

    fields = ("non_polling_timestamps",)

    def __init__(self, client: ServedHistoryClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_urt_migration_components

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"non_polling_timestamps": list(await answer(self._client.read_timestamps(query.user_id)))}

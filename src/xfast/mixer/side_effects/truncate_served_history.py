"""TruncateServedHistory: history does not grow for ever."""

from __future__ import annotations

from collections.abc import Sequence

from xfast.mixer.clients import ServedHistoryClient, answer
from xfast.mixer.items import FeedItems
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.query_hydrators.served_history import platform
from xfast.pipeline import SideEffect, SideEffectInput, eager

__all__ = ["TruncateServedHistorySideEffect", "times_to_delete"]

_KEPT = 50


def times_to_delete(served_times_ms: Sequence[int | None], *, cap: int = _KEPT) -> list[int]:
    """Times of the responses after the first ``cap``; those without a time are skipped."""
    return [time for time in served_times_ms[cap:] if time is not None]


class TruncateServedHistorySideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Delete responses beyond the newest 50."""

    def __init__(self, client: ServedHistoryClient, *, production: bool) -> None:
        self._client = client
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        wanted = self._production and query.params.enable_urt_migration_components
        return wanted and len(query.served_history) > _KEPT

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        query = data.query
        times = times_to_delete([response.served_time_ms for response in query.served_history])
        if times:
            await answer(self._client.delete(query.user_id, platform(query.client_app_id), times))

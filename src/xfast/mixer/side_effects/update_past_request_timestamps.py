"""UpdatePastRequestTimestamps: remembers when the viewer really asked."""

from __future__ import annotations

from collections.abc import Sequence

from xfast.mixer.clients import ServedHistoryClient, answer
from xfast.mixer.enums import RequestContext
from xfast.mixer.items import FeedItems
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

__all__ = ["UpdatePastRequestTimestampsSideEffect", "push_timestamp"]

_KEPT = 10


def push_timestamp(now_ms: int, prior: Sequence[int], *, cap: int = _KEPT) -> list[int]:
    """Times with the newest first, at most ``cap``."""
    return [now_ms, *prior][:cap]


class UpdatePastRequestTimestampsSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Prepend this request's time; polling and background fetches do not count."""

    def __init__(self, client: ServedHistoryClient, *, production: bool) -> None:
        self._client = client
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return (
            self._production
            and query.params.enable_urt_migration_components
            and not query.is_polling
            and query.request_context != RequestContext.BACKGROUND_FETCH
        )

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        query = data.query
        times = push_timestamp(query.request_time_ms, query.non_polling_timestamps or [])
        await answer(self._client.write_timestamps(query.user_id, times))

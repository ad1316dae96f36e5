"""ServedHistory: what earlier pages contained, and whether suggestions may be shown again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xfast.ids import as_uint64
from xfast.mixer.clients import ServedHistoryClient, answer
from xfast.mixer.query import ScoredPostsQuery, ServedResponse
from xfast.pipeline import QueryHydrator, eager

__all__ = ["ServedHistoryQueryHydrator", "platform", "recently_served_ids", "who_to_follow_eligible"]

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS

#: Client application id -> platform whose history it shares; ids ours, the release publishes none.
_PLATFORMS = {1: "web", 2: "ios", 3: "android", 4: "ipad"}


def platform(client_app_id: int) -> str:
    """The platform of a client application."""
    return _PLATFORMS.get(client_app_id, "other")


def recently_served_ids(
    history: Sequence[ServedResponse], *, now_ms: int, duration_minutes: int, max_items: int
) -> list[int]:
    """Ids of recent responses, own then source, in order, duplicates kept, at most ``max_items``.

    A response counts while it is at most ``duration_minutes`` old; one without a time never does. Entries of every kind
    count, ads too.
    """
    oldest = now_ms - duration_minutes * _MINUTE_MS
    ids: list[int] = []
    for response in history:
        if response.served_time_ms is None or response.served_time_ms < oldest:
            continue
        for entry in response.entries:
            for item in entry.items:
                ids.append(item.tweet_id)
                if item.source_tweet_id is not None:
                    ids.append(item.source_tweet_id)
    return ids[:max_items]


def who_to_follow_eligible(history: Sequence[ServedResponse], *, now_ms: int, fatigue_hours: int) -> bool:
    """Whether suggestions may be shown: never shown before, or last shown at least ``fatigue_hours`` ago."""
    shown = [
        response.served_time_ms
        for response in history
        if response.served_time_ms is not None
        and any(entry.entity_type == "WHO_TO_FOLLOW" for entry in response.entries)
    ]
    return not shown or now_ms - max(shown) >= fatigue_hours * _HOUR_MS


class ServedHistoryQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``served_history``, ``served_ids`` (over the request's own) and ``who_to_follow_eligible``."""

    fields = ("served_history", "served_ids", "who_to_follow_eligible")

    def __init__(self, client: ServedHistoryClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_urt_migration_components

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        params, now = query.params, query.request_time_ms
        history = list(await answer(self._client.read(query.user_id, platform(query.client_app_id))))
        served = recently_served_ids(
            history,
            now_ms=now,
            duration_minutes=params.exclude_served_tweet_ids_duration,
            max_items=params.exclude_served_tweet_ids_number,
        )
        return {
            "served_history": history,
            "served_ids": as_uint64(served),
            "who_to_follow_eligible": who_to_follow_eligible(
                history, now_ms=now, fatigue_hours=params.who_to_follow_fatigue_hours
            ),
        }

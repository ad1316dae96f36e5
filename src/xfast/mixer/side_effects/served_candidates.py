"""ServedCandidates: one record per shown item, for joining with what viewers do."""

from __future__ import annotations

from xfast.mixer.clients import AdInfo, EventSink, answer
from xfast.mixer.enums import RequestContext
from xfast.mixer.items import FeedItem, FeedItems, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

__all__ = ["ServedCandidatesSideEffect", "entry_id", "provenance", "query_type"]

TOPIC = "served_candidates"
_PROVENANCE = {
    RequestContext.FOREGROUND: "Foreground",
    RequestContext.LAUNCH: "Launch",
    RequestContext.PULL_TO_REFRESH: "PTR",
    RequestContext.VIEWPORT_AWARE_REFRESH: "ViewportAwareRefresh",
}


def entry_id(item: FeedItem) -> str | None:
    """The timeline entry id of an item."""
    payload = item.item
    if isinstance(payload, ScoredPost | PushToHomePost):
        return f"tweet-{payload.tweet_id}"
    if isinstance(payload, AdInfo):
        return f"promotedTweet-{payload.post_id}"
    if isinstance(payload, WhoToFollowModule):
        return "who-to-follow"
    return "prompt" if isinstance(payload, Prompt) else None


def query_type(query: ScoredPostsQuery) -> str:
    """What the request asked for: older, newer, the first page, or something else."""
    if query.is_bottom_request:
        return "GET_OLDER"
    if query.is_top_request:
        return "GET_NEWER"
    return "GET_INITIAL" if query.cursor is None else "OTHER"


def provenance(query: ScoredPostsQuery) -> str:
    """Why the request was made, as analytics writes it."""
    try:
        return _PROVENANCE.get(RequestContext(query.request_context), "Other")
    except ValueError:
        return "Other"


class ServedCandidatesSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Publish a record per item of shadow traffic."""

    def __init__(self, sink: EventSink, *, production: bool) -> None:
        self._sink = sink
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and query.is_shadow_traffic and query.params.enable_urt_migration_components

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        query = data.query
        records = [
            {
                "user_id": query.user_id,
                "request_id": query.request_id,
                "entry_id": entry_id(item),
                "position": index,
                "query_type": query_type(query),
                "provenance": provenance(query),
                "time_ms": query.request_time_ms,
            }
            for index, item in enumerate(data.selected)
            if entry_id(item) is not None
        ]
        await answer(self._sink.publish(TOPIC, records))

"""PublishSeenIds: what the client says was on screen becomes impressions."""

from __future__ import annotations

from xfast.mixer.clients import EventSink, answer
from xfast.mixer.items import FeedItems
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

TOPIC = "impressions"
SURFACE = "HOME_TIMELINE"


class PublishSeenIdsSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Publish one impression per seen id, at the request's time."""

    def __init__(self, sink: EventSink, *, production: bool) -> None:
        self._sink = sink
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and len(query.seen_ids) > 0 and query.params.enable_publish_seen_ids_to_kafka

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        query = data.query
        records = [
            {"user_id": query.user_id, "tweet_id": tweet_id, "surface": SURFACE, "time_ms": query.request_time_ms}
            for tweet_id in query.seen_ids.tolist()
        ]
        await answer(self._sink.publish(TOPIC, records))

"""ClientEvents: counters in the form that client analytics uses."""

from __future__ import annotations

from xfast.mixer.clients import AdInfo, EventSink, answer
from xfast.mixer.items import FeedItems, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

__all__ = ["ClientEventsSideEffect", "client_events"]

TOPIC = "client_events"
CLIENT = "xfast"
_KINDS = (
    ("post", ScoredPost),
    ("ad", AdInfo),
    ("who_to_follow", WhoToFollowModule),
    ("prompt", Prompt),
    ("push_to_home", PushToHomePost),
)


def client_events(feed: FeedItems) -> dict[str, int]:
    """Counters named ``client:home:section:component:element:action``; those that are not positive are dropped.

    The "empty timeline" event has the value 0 and is therefore never sent.
    """
    events = {f"{CLIENT}:home:timeline:{kind}:item:served": len(feed.of_type(payload)) for kind, payload in _KINDS}
    events[f"{CLIENT}:home:timeline:timeline:empty:served"] = 0
    return {name: value for name, value in events.items() if value > 0}


class ClientEventsSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Publish what a page contained."""

    def __init__(self, sink: EventSink, *, production: bool) -> None:
        self._sink = sink
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and query.params.enable_urt_migration_components

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        events = client_events(data.selected)
        user = data.query.user_id
        records = [{"user_id": user, "event": name, "value": value} for name, value in events.items()]
        await answer(self._sink.publish(TOPIC, records))

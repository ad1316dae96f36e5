"""AdsInjectionLogging: where ads stood and what stood around them."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import AdInfo, EventSink, answer
from xfast.mixer.items import FeedItems, ScoredPost
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, eager

TOPIC = "ads_injection"


class AdsInjectionLoggingSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Publish the final order with ads, labels and counts; the position is the index in that order."""

    def __init__(self, sink: EventSink, *, production: bool) -> None:
        self._sink = sink
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and query.params.enable_ads_injection_logging

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        entries: list[dict[str, Any]] = []
        for position, item in enumerate(data.selected):
            if isinstance(item.item, ScoredPost):
                post = item.item
                labels = [label.name for label in post.safety_label_types]
                verdict = post.brand_safety_verdict.pascal
                entries.append({"position": position, "tweet_id": post.tweet_id, "verdict": verdict, "labels": labels})
            elif isinstance(item.item, AdInfo):
                ad = item.item
                entries.append(
                    {"position": position, "ad": ad.post_id, "impression_id": ad.impression_id, "risk": ad.risk}
                )
        shown = len(data.selected.of_type(AdInfo))
        record = {
            "user_id": data.query.user_id,
            "request_id": data.query.request_id,
            "entries": entries,
            "ads_in_response": shown,
            "items_retrieved": len(data.selected) + len(data.non_selected),
            "items_in_response": len(data.selected),
        }
        await answer(self._sink.publish(TOPIC, [record]))

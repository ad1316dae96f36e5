"""RerankingKafka: a sample of ranked lists for those who train rerankers."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import EventSink, answer
from xfast.mixer.heads import HEADS
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, descending, eager

__all__ = ["RerankingKafkaSideEffect", "surface"]

TOPIC = "reranking"
_SHARE = 0.05
_TOP = 50


def surface(query: ScoredPostsQuery) -> str:
    """The surface for metrics: ranked_following, topics, for_you_with_snoozed_topics, for_you."""
    if query.in_network_only:
        return "ranked_following"
    if query.is_topic_request:
        return "topics"
    return "for_you_with_snoozed_topics" if query.has_excluded_topics else "for_you"


class RerankingKafkaSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Publish the top 50 of selected and non-selected posts for 5 % of production requests; unset heads are 0."""

    def __init__(self, sink: EventSink, *, production: bool, rng: np.random.Generator | None = None) -> None:
        self._sink = sink
        self._production = production
        self._rng = rng or np.random.default_rng()

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and self._rng.random() < _SHARE

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        batch = CandidateBatch.concat([data.selected, data.non_selected])
        top = batch.take(descending(batch.column("score").filled(-np.inf))[:_TOP])
        prediction_ids = top.values("prediction_request_id")[top.is_set("prediction_request_id")]
        heads = np.nan_to_num(top.values("phoenix_scores"), nan=0.0)
        cached = top.is_set("last_scored_at_ms")
        scores = top.column("score")
        record: dict[str, Any] = {
            "user_id": data.query.user_id,
            "request_id": data.query.request_id,
            "prediction_id": int(prediction_ids[0]) if len(prediction_ids) else 0,
            "surface": surface(data.query),
            "total": len(batch),
            "candidates": [
                {
                    "tweet_id": int(top.tweet_id[row]),
                    "author_id": int(top.author_id[row]),
                    "score": scores.item(row),
                    "is_cached": bool(cached[row]),
                    "heads": dict(zip(HEADS, heads[row].tolist(), strict=True)),
                }
                for row in range(len(top))
            ],
        }
        await answer(self._sink.publish(TOPIC, [record]))

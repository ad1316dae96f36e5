"""PhoenixExperiments: shadow traffic is also scored by the other clusters, and the results published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import EventSink, PhoenixClient, PredictRequest, answer
from xfast.mixer.heads import DISCRETE_NUMBERS, HEAD_INDEX
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.scorers.phoenix_scorer import HOME_TIMELINE_RANKING, RANKED_FOLLOWING, decode_heads
from xfast.pipeline import SideEffect, SideEffectInput

_log = logging.getLogger("xfast.mixer")
TOPIC = "phoenix_experiments"
#: 20 discrete heads and the time of dwelling.
PUBLISHED_HEADS = (*DISCRETE_NUMBERS, "dwell_time")


class PhoenixExperimentsSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Publish ``phoenix.<Cluster>.<head>`` per selected post and shadow cluster, only heads that are set."""

    def __init__(self, client: PhoenixClient, sink: EventSink, clusters: Sequence[str]) -> None:
        self._client = client
        self._sink = sink
        self._clusters = tuple(clusters)

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.is_shadow_traffic

    async def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        query, batch = data.query, data.selected
        if query.scoring_sequence is None or not len(batch):
            return
        scores = await asyncio.gather(*(self._score(query, batch, cluster) for cluster in self._clusters))
        records = [
            {
                "user_id": query.user_id,
                "request_id": query.request_id,
                "prediction_id": query.prediction_id,
                "tweet_id": tweet_id,
                "scores": {name: values[row] for part in scores for name, values in part.items() if row in values},
            }
            for row, tweet_id in enumerate(batch.tweet_id.tolist())
        ]
        await answer(self._sink.publish(TOPIC, records))

    async def _score(self, query: ScoredPostsQuery, batch: CandidateBatch, cluster: str) -> dict[str, dict[int, float]]:
        surface = RANKED_FOLLOWING if query.in_network_only else HOME_TIMELINE_RANKING
        try:
            request = PredictRequest(cluster, query, query.scoring_sequence, surface, batch)
            heads: Any = decode_heads(await answer(self._client.predict(request)), batch.original_id)
        except Exception as error:
            _log.warning("shadow scoring on %s failed: %s", cluster, error)
            return {}
        named = {}
        for name in PUBLISHED_HEADS:
            column = heads[:, HEAD_INDEX[name]]
            named[f"phoenix.{cluster}.{name}"] = {row: float(v) for row, v in enumerate(column) if v == v}
        return named

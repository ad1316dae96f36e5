"""PhoenixScorer: predictions of the ranking model for every candidate (HOME_MIXER §8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.mixer._columns import gather
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import Clock, PhoenixClient, Prediction, PredictRequest, answer, sequence_length, system_clock
from xfast.mixer.heads import CONTINUOUS_NUMBERS, DISCRETE_NUMBERS, HEAD_INDEX, HEADS
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Scorer, eager

__all__ = ["PhoenixScorer", "decode_heads", "resolve_ranker_cluster"]

#: Product surfaces as the model numbers them.
HOME_TIMELINE_RANKING = 1
RANKED_FOLLOWING = 15

_LAP7, _FOU = "Experiment1Lap7", "Experiment1Fou"


def resolve_ranker_cluster(query: ScoredPostsQuery, history_length: int) -> str:
    """Which ranking model scores this request: a short history first, then deciders, then the configured one."""
    params = query.params
    threshold = params.phoenix_ranker_new_user_history_threshold
    if threshold > 0 and history_length < threshold:
        return params.phoenix_ranker_new_user_inference_cluster_id
    cluster = params.phoenix_inference_cluster_id
    if cluster == _FOU and query.decides("override_qf_use_lap7"):
        return _LAP7
    if cluster == _LAP7 and query.decides("override_qf_use_fou"):
        return _FOU
    return cluster


def decode_heads(prediction: Prediction, original_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Heads ``[N, 22]`` of posts by original id; NaN for what the model does not have."""
    heads = np.full((len(original_ids), len(HEADS)), np.nan)
    rows = prediction.rows_of(original_ids)
    actions, places = _layout(tuple(DISCRETE_NUMBERS.items()), prediction.width)
    prediction.fill(heads, rows, actions, places)
    outputs, places = _layout(tuple(CONTINUOUS_NUMBERS.items()), prediction.continuous.shape[1])
    gather(np.ascontiguousarray(prediction.continuous), rows, outputs, heads, places)
    return heads


@lru_cache(maxsize=64)
def _layout(numbers: tuple[tuple[str, int], ...], width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Columns of an answer of some width, and the heads that they are."""
    known = [(number, HEAD_INDEX[name]) for name, number in numbers if number < width]
    columns = np.array(known, np.int64).reshape(-1, 2)
    return np.ascontiguousarray(columns[:, 0]), np.ascontiguousarray(columns[:, 1])


class PhoenixScorer(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Fill ``phoenix_scores``, ``prediction_request_id`` and ``last_scored_at_ms``; off when posts come from the cache.

    Parameters
    ----------
    client
        The model, in this process or behind ``PhoenixService.Predict``.
    egress
        Asked first where ``UseEgressSidecar`` is on; a failure falls back to ``client`` once.
    clock
        Milliseconds since 1970.
    """

    def __init__(
        self, client: PhoenixClient, *, egress: PhoenixClient | None = None, clock: Clock = system_clock
    ) -> None:
        self._client = client
        self._egress = egress
        self._clock = clock

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    @eager
    async def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        if query.scoring_sequence is None:
            unset = Column(np.zeros(len(batch), np.uint64), np.zeros(len(batch), np.bool_))
            nothing = np.full((len(batch), len(HEADS)), np.nan)
            return Hydration({"phoenix_scores": nothing, "prediction_request_id": unset, "last_scored_at_ms": unset})
        asked_at = self._clock()
        request = PredictRequest(
            cluster=resolve_ranker_cluster(query, sequence_length(query.scoring_sequence)),
            query=query,
            sequence=query.scoring_sequence,
            product_surface=RANKED_FOLLOWING if query.in_network_only else HOME_TIMELINE_RANKING,
            candidates=batch[: query.params.max_scored_candidates],
        )
        prediction = await self._predict(query, request)
        if not isinstance(prediction, Prediction):
            raise DataError(f"the model answered with {type(prediction).__name__}, must be Prediction")
        size = len(batch)
        return Hydration(
            {
                "phoenix_scores": decode_heads(prediction, batch.original_id),
                "prediction_request_id": np.full(size, query.prediction_id, np.uint64),
                "last_scored_at_ms": np.full(size, asked_at, np.uint64),
            }
        )

    async def _predict(self, query: ScoredPostsQuery, request: PredictRequest) -> Prediction:
        if self._egress is not None and query.params.use_egress_sidecar:
            try:
                return await answer(self._egress.predict(request))
            except Exception as error:
                if self.metrics is not None:
                    self.metrics.count("PhoenixScorer.egress", result="fallback", error=type(error).__name__)
        return await answer(self._client.predict(request))

    def terms(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mapping[str, npt.NDArray[Any]]:
        heads = batch.values("phoenix_scores")
        return {f"p({name})" if name in DISCRETE_NUMBERS else name: heads[:, i] for i, name in enumerate(HEADS)}

"""OONScorer: posts from outside the network count less (HOME_MIXER §8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Hydration, Scorer

__all__ = ["OONScorer", "oon_factor"]

F64 = npt.NDArray[np.float64]


def oon_factor(query: ScoredPostsQuery) -> float:
    """The factor for posts whose ``in_network`` is exactly false.

    A topic request has its own; a young account that already follows enough people has its own; else the default.
    """
    params = query.params
    if query.is_topic_request:
        return params.topic_oon_weight_factor
    age = query.account_age_ms
    young = age is not None and age < params.new_user_age_threshold_secs * 1_000
    if young and len(query.user_features.followed_user_ids) >= params.new_user_min_following:
        return params.new_user_oon_weight_factor
    return params.oon_weight_factor


class OONScorer(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Multiply ``score`` of out-of-network posts; an unknown ``in_network`` is left alone."""

    def multipliers(self, query: ScoredPostsQuery, batch: CandidateBatch) -> F64:
        """The multiplier per row."""
        return np.where(batch.is_false("in_network"), oon_factor(query), 1.0)

    def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        scores = batch.column("score")
        return Hydration({"score": scores.values * self.multipliers(query, batch)}, ok=scores.mask())

    def terms(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mapping[str, npt.NDArray[Any]]:
        return {"out of network": self.multipliers(query, batch)}

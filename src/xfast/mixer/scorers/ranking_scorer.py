"""RankingScorer: weights, author diversity and the out-of-network factor in one pass (HOME_MIXER §8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.scorers.author_diversity_scorer import AuthorDiversityScorer
from xfast.mixer.scorers.oon_scorer import OONScorer
from xfast.mixer.scorers.weighted_scorer import Normalizer, WeightedScorer, keep_scores
from xfast.pipeline import Hydration, Scorer

F64 = npt.NDArray[np.float64]


class RankingScorer(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Write ``weighted_score`` (before diversity and network) and ``score`` (after); runs for cached posts too.

    In fixed mode a post without any prediction gets a score below every post that has one and the flag ``unscored``;
    in reference mode it gets the bare offset and may outrank posts that the model dislikes (upstream PR #142).
    """

    def __init__(self, quirks: Quirks = "fixed", *, normalize: Normalizer = keep_scores) -> None:
        self.quirks = quirks
        self.weighted = WeightedScorer(normalize)
        self.diversity = AuthorDiversityScorer(quirks)
        self.oon = OONScorer()

    def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        weighted, predicted = self.weighted.weigh(query, batch)
        scores = weighted * self.diversity.multipliers(query, batch, weighted) * self.oon.multipliers(query, batch)
        if self.quirks == "reference":
            return Hydration({"weighted_score": weighted, "score": scores})
        unscored = ~predicted
        if unscored.any():
            scores = _below_scored(scores, unscored, query.params.negative_scores_offset or 1.0)
        return Hydration({"weighted_score": weighted, "score": scores, "unscored": unscored})

    def terms(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mapping[str, npt.NDArray[Any]]:
        weighted = batch.values("weighted_score")
        return {
            **self.weighted.terms(query, batch),
            "author diversity": self.diversity.multipliers(query, batch, weighted),
            "out of network": self.oon.multipliers(query, batch),
            "score": batch.values("score"),
        }


def _below_scored(scores: F64, unscored: npt.NDArray[np.bool_], step: float) -> F64:
    """Shift unscored rows under the lowest scored one; among themselves diversity and network still decide."""
    lowest = min(0.0, float(np.min(scores, where=~unscored, initial=0.0)))
    return np.where(unscored, lowest - 2 * step + np.clip(scores, 0.0, step), scores)

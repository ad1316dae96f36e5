"""TopKScore: the highest scores, ties in input order (HOME_MIXER §9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer._columns import by_score
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Selector, descending


class TopKScoreSelector(Selector[ScoredPostsQuery, CandidateBatch]):
    """Select ``TOP_K_CANDIDATES_TO_SELECT`` posts by ``score``; posts without a score come last but may be selected."""

    def scores(self, query: ScoredPostsQuery, batch: CandidateBatch) -> npt.NDArray[Any]:
        return batch.column("score").filled(-np.inf)

    def order(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return descending(scores) if np.isnan(scores).any() else by_score(scores)

    def size(self, query: ScoredPostsQuery) -> int:
        return query.params.top_k_candidates_to_select

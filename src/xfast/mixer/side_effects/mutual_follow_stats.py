"""MutualFollowStats: the average overlap of circles in what was shown."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput


class MutualFollowStatsSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Observe the mean ``mutual_follow_jaccard`` of the selected posts that have one."""

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_mutual_follow_jaccard_hydration

    def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        column = data.selected.column("mutual_follow_jaccard")
        values = column.values[column.mask()]
        if self.metrics is not None and len(values):
            self.metrics.observe("MutualFollowStats.jaccard", float(values.mean()))

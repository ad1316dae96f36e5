"""ForYouResponseStats: how full pages are."""

from __future__ import annotations

from xfast.mixer.clients import AdInfo
from xfast.mixer.items import FeedItems, ScoredPost
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput

_SUFFICIENT = {"posts": 20, "ads": 5}


class ForYouResponseStatsSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Count posts, ads, empty and sufficient pages, of the response and of what was fetched."""

    def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        metrics = self.metrics
        if metrics is None:
            return
        response = {"posts": len(data.selected.of_type(ScoredPost)), "ads": len(data.selected.of_type(AdInfo))}
        metrics.count("ForYouResponseStats.lost", len(data.non_selected))
        for kind, count in response.items():
            metrics.count("ForYouResponseStats.response", count, kind=kind)
            if count == 0:
                metrics.count("ForYouResponseStats.empty", kind=kind)
            if count >= _SUFFICIENT[kind]:
                metrics.count("ForYouResponseStats.sufficient", kind=kind)
        metrics.count("ForYouResponseStats.fetched", len(data.selected) + len(data.non_selected), kind="items")

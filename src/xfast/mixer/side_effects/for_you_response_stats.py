"""ForYouResponseStats: how full pages are."""

from __future__ import annotations

from xfast.mixer.clients import AdInfo
from xfast.mixer.items import FeedItems, ScoredPost
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput

_KINDS: dict[str, type] = {"posts": ScoredPost, "ads": AdInfo}
#: From so many on a page counts as sufficient (HOME_MIXER §12).
_SUFFICIENT = {"posts": 20, "ads": 5}


class ForYouResponseStatsSideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Count posts, ads, empty and sufficient pages, of the response and of what was fetched for it."""

    def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        metrics = self.metrics
        if metrics is None:
            return
        for kind, payload in _KINDS.items():
            shown = len(data.selected.of_type(payload))
            counts = {"response": shown, "fetched": shown + len(data.non_selected.of_type(payload))}
            for scope, count in counts.items():
                metrics.count(f"ForYouResponseStats.{scope}", count, kind=kind)
                if count == 0:
                    metrics.count("ForYouResponseStats.empty", kind=kind, scope=scope)
                if count >= _SUFFICIENT[kind]:
                    metrics.count("ForYouResponseStats.sufficient", kind=kind, scope=scope)

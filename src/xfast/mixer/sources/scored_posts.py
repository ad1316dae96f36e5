"""ScoredPosts: the ranked posts of pipeline A as feed items of pipeline B."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import BrandSafetyVerdict
from xfast.mixer.items import FeedItem, FeedItems, scored_posts
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Pipeline, Source, eager


class ScoredPostsSource(Source[ScoredPostsQuery, FeedItems]):
    """Run the scored-posts pipeline on a copy of the hydrated query.

    Parameters
    ----------
    pipeline
        Pipeline A.
    quirks
        Decides what a post without a brand-safety verdict counts as.
    """

    def __init__(self, pipeline: Pipeline[ScoredPostsQuery, CandidateBatch], *, quirks: Quirks = "fixed") -> None:
        self._pipeline = pipeline
        self.quirks = quirks

    @eager
    async def source(self, query: ScoredPostsQuery) -> FeedItems:
        result = await self._pipeline.execute(
            query, explain=query.explain is not None, result_size=query.params.result_size
        )
        if query.explain is not None:
            query.explain.append(result)
        if query.ranked is not None:
            query.ranked.append(result.selected)
        missing = BrandSafetyVerdict.MEDIUM_RISK if self.quirks == "reference" else BrandSafetyVerdict.UNSPECIFIED
        return FeedItems([FeedItem(post) for post in scored_posts(result.selected, missing_verdict=missing)])

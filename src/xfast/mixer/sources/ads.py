"""Ads: what the ad index offers for this request."""

from __future__ import annotations

from xfast.mixer.clients import AdsClient, answer
from xfast.mixer.items import FeedItem, FeedItems
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source, eager


class AdsSource(Source[ScoredPostsQuery, FeedItems]):
    """Every ad as an item; off in previews."""

    def __init__(self, client: AdsClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_ads_source and not query.is_preview

    @eager
    async def source(self, query: ScoredPostsQuery) -> FeedItems:
        return FeedItems([FeedItem(ad) for ad in await answer(self._client.ads(query))])

"""WhoToFollow: up to three accounts worth following, as one module."""

from __future__ import annotations

from xfast.mixer.clients import WhoToFollowClient, answer
from xfast.mixer.items import FeedItem, FeedItems, WhoToFollowModule
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source, eager

_EXCLUDED = 200
_SHOWN = 3


class WhoToFollowSource(Source[ScoredPostsQuery, FeedItems]):
    """Suggestions without those shown before (the first 200 of them); nothing found gives no module."""

    def __init__(self, client: WhoToFollowClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_who_to_follow_module and query.who_to_follow_eligible

    @eager
    async def source(self, query: ScoredPostsQuery) -> FeedItems:
        shown = [
            user
            for response in query.served_history
            for entry in response.entries
            if entry.entity_type == "WHO_TO_FOLLOW"
            for user in entry.user_ids
        ]
        users = await answer(self._client.suggest(query, shown[:_EXCLUDED]))
        return FeedItems([FeedItem(WhoToFollowModule(tuple(users[:_SHOWN])))] if users else [])

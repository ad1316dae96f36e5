"""UpdateServedHistory: what this page contained, for the next ones."""

from __future__ import annotations

from xfast.mixer.clients import AdInfo, ServedHistoryClient, answer
from xfast.mixer.items import FeedItem, FeedItems, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.query import ScoredPostsQuery, ServedEntry, ServedItem, ServedResponse
from xfast.mixer.query_hydrators.served_history import platform
from xfast.pipeline import SideEffect, SideEffectInput, eager

__all__ = ["UpdateServedHistorySideEffect", "item_entries", "post_entries", "request_type"]

_CURSOR_TYPES = {"TOP": "NEWER", "BOTTOM": "OLDER", "GAP": "MIDDLE"}


def request_type(query: ScoredPostsQuery) -> str:
    """POLLING, INITIAL without a cursor, else by the cursor's kind."""
    if query.is_polling:
        return "POLLING"
    if query.cursor is None:
        return "INITIAL"
    return _CURSOR_TYPES.get(query.cursor.kind, "OTHER")


def post_entries(post: ScoredPost, position: int) -> list[ServedEntry]:
    """One entry per id of the sorted ancestors and the post itself, all at one position with the post's metadata."""
    return [
        ServedEntry(
            "TWEET",
            (
                ServedItem(
                    tweet_id,
                    source_tweet_id=post.retweeted_tweet_id or None,
                    author_id=post.author_id,
                    source_author_id=post.retweeted_user_id or post.author_id,
                    in_reply_to_tweet_id=post.in_reply_to_tweet_id or None,
                ),
            ),
            position,
            score=post.score,
            served_type=post.served_type.pascal,
        )
        for tweet_id in sorted({*post.ancestors, post.tweet_id})
    ]


def item_entries(item: FeedItem, position: int) -> list[ServedEntry]:
    """The entries of any item; a module without users has none."""
    payload = item.item
    if isinstance(payload, ScoredPost):
        return post_entries(payload, position)
    if isinstance(payload, AdInfo):
        ad = ServedItem(payload.post_id, author_id=payload.author_id)
        return [ServedEntry("PROMOTED_TWEET", (ad,), position, impression_id=f"{payload.impression_id:x}")]
    if isinstance(payload, WhoToFollowModule):
        users = tuple(user.user_id for user in payload.users)
        return [ServedEntry("WHO_TO_FOLLOW", (), position, user_ids=users)] if users else []
    if isinstance(payload, Prompt):
        return [ServedEntry("PROMPT", (), position)]
    if isinstance(payload, PushToHomePost):
        pushed = ServedItem(payload.tweet_id, author_id=payload.author_id, source_author_id=payload.author_id)
        return [ServedEntry("TWEET", (pushed,), position, served_type=payload.served_type.pascal)]
    return []


class UpdateServedHistorySideEffect(SideEffect[ScoredPostsQuery, FeedItems]):
    """Append this response to the served history of the viewer's platform."""

    def __init__(self, client: ServedHistoryClient, *, production: bool) -> None:
        self._client = client
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and query.params.enable_urt_migration_components

    @eager
    async def run(self, data: SideEffectInput[ScoredPostsQuery, FeedItems]) -> None:
        query = data.query
        entries = tuple(entry for position, item in enumerate(data.selected) for entry in item_entries(item, position))
        response = ServedResponse(query.request_time_ms, entries, request_type(query), query.request_id)
        await answer(self._client.append(query.user_id, platform(query.client_app_id), response))

"""PushToHome: the post of the notification that opened the app."""

from __future__ import annotations

import numpy as np

from xfast.mixer.clients import PostsClient, ReplyMixerClient, answer
from xfast.mixer.items import FeedItem, FeedItems, PushToHomePost
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source, eager

_FACEPILE = 3


class PushToHomeSource(Source[ScoredPostsQuery, FeedItems]):
    """The post with its author, relations and, for root posts, three scored repliers.

    Missing core data gives nothing, a failed lookup fails the source, a failed reply mixer gives an empty facepile.
    """

    def __init__(self, posts: PostsClient, replies: ReplyMixerClient) -> None:
        self._posts = posts
        self._replies = replies

    def enable(self, query: ScoredPostsQuery) -> bool:
        return bool(query.push_to_home_post_id)

    @eager
    async def source(self, query: ScoredPostsQuery) -> FeedItems:
        post_id = query.push_to_home_post_id or 0
        data = await answer(self._posts.core_data(np.array([post_id], np.uint64)))
        if not data.found[0]:
            return FeedItems()
        author, parent = int(data.author_ids[0]), int(data.in_reply_to_ids[0])
        conversation = 0 if data.conversation_ids is None else int(data.conversation_ids[0])
        facepile = () if parent else await self._facepile(query, post_id, author)
        return FeedItems([FeedItem(PushToHomePost(post_id, author, parent, conversation, facepile))])

    async def _facepile(self, query: ScoredPostsQuery, post_id: int, author: int) -> tuple[int, ...]:
        try:
            users = await answer(self._replies.repliers(query, post_id))
        except Exception as error:
            if self.metrics is not None:
                self.metrics.count("PushToHomeSource.reply_mixer", result="error", error=type(error).__name__)
            return ()
        return tuple(user for user in users if user not in (0, author))[:_FACEPILE]

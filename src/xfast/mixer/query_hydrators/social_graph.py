"""BlockedUserIds, MutedUserIds, FollowedUserIds, SubscribedUserIds: the viewer's lists, one call each."""

from __future__ import annotations

from typing import Any, ClassVar

from xfast.ids import as_uint64
from xfast.mixer.clients import SocialGraphClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager

__all__ = [
    "BlockedUserIdsQueryHydrator",
    "FollowedUserIdsQueryHydrator",
    "MutedUserIdsQueryHydrator",
    "SubscribedUserIdsQueryHydrator",
]


class _GraphListHydrator(QueryHydrator[ScoredPostsQuery]):
    """Reads one list of the social graph and overwrites only that list of ``user_features``."""

    list_name: ClassVar[str]

    def __init__(self, client: SocialGraphClient) -> None:
        self._client = client

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> Any:
        return as_uint64(await answer(getattr(self._client, self.list_name)(query.user_id)))

    def update(self, query: ScoredPostsQuery, partial: Any) -> None:
        setattr(query.user_features, self.list_name, partial)


class BlockedUserIdsQueryHydrator(_GraphListHydrator):
    """Users whom the viewer blocks."""

    list_name = "blocked_user_ids"


class MutedUserIdsQueryHydrator(_GraphListHydrator):
    """Users whom the viewer mutes."""

    list_name = "muted_user_ids"


class FollowedUserIdsQueryHydrator(_GraphListHydrator):
    """Users whom the viewer follows."""

    list_name = "followed_user_ids"


class SubscribedUserIdsQueryHydrator(_GraphListHydrator):
    """Users whom the viewer pays for."""

    list_name = "subscribed_user_ids"

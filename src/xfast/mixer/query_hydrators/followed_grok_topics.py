"""FollowedGrokTopics: topics that the viewer chose; a new viewer's choices also shape retrieval."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.topics import PARENT_COUNT, parent_topics
from xfast.pipeline import Policy, QueryHydrator, eager

__all__ = ["FollowedGrokTopicsQueryHydrator", "new_user_topics", "parent_flags"]


def parent_flags(topics: list[int]) -> npt.NDArray[np.bool_]:
    """Flags ``[32]`` in the order of :func:`xfast.mixer.topics.parent_topics`."""
    chosen, parents = set(topics), parent_topics()
    return np.array([topic in chosen for topic in parents] + [False] * (PARENT_COUNT - len(parents)), np.bool_)


def new_user_topics(query: ScoredPostsQuery, followed: list[int]) -> list[int]:
    """The followed topics, if this viewer is new and the request leaves room for them (HOME_MIXER §4)."""
    params = query.params
    switched_on = params.enable_new_user_topic_retrieval or params.enable_new_user_topic_filtering
    if not switched_on or query.is_topic_request or query.in_network_only:
        return []
    age = query.account_age_ms
    if age is None or age >= params.new_user_topic_age_threshold_secs * 1_000:
        return []
    return list(followed)


class FollowedGrokTopicsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``followed_grok_topics`` and, for new viewers, ``new_user_topic_ids`` (never emptying given ones)."""

    fields = ("followed_grok_topics", "new_user_topic_ids")
    policy = Policy(deadline_ms=300)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        params = query.params
        return (
            params.enable_context_features
            or query.is_shadow_traffic
            or params.enable_new_user_topic_retrieval
            or params.enable_new_user_topic_filtering
        )

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        followed = list(await answer(self._client.followed_topics(query.user_id)))
        return {
            "followed_grok_topics": parent_flags(followed),
            "new_user_topic_ids": new_user_topics(query, followed),
        }

    def update(self, query: ScoredPostsQuery, partial: Any) -> None:
        query.followed_grok_topics = partial["followed_grok_topics"]
        if partial["new_user_topic_ids"]:
            query.new_user_topic_ids = partial["new_user_topic_ids"]

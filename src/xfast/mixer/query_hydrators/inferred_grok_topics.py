"""InferredGrokTopics: topics that the viewer's engagements point to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients import UserFeaturesClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.topics import PARENT_COUNT, parent_topics, supertopic
from xfast.pipeline import Policy, QueryHydrator, eager

__all__ = ["InferredGrokTopicsQueryHydrator", "inferred_flags"]


def inferred_flags(topics: list[int], max_parents: int) -> npt.NDArray[np.bool_]:
    """Flags ``[32]`` of the first ``max_parents`` distinct parents, in the order of ``topics``."""
    index = {topic: place for place, topic in enumerate(parent_topics())}
    flags = np.zeros(PARENT_COUNT, np.bool_)
    for topic in topics:
        if int(flags.sum()) >= max_parents:
            break
        place = index.get(supertopic(topic))
        if place is not None:
            flags[place] = True
    return flags


class InferredGrokTopicsQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``inferred_grok_topics``."""

    fields = ("inferred_grok_topics",)
    policy = Policy(deadline_ms=300)

    def __init__(self, client: UserFeaturesClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_grok_topics_hydration

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        topics = list(await answer(self._client.inferred_topics(query.user_id)))
        return {"inferred_grok_topics": inferred_flags(topics, query.params.max_inferred_grok_topic_categories)}

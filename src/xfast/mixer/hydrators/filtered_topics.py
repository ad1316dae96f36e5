"""FilteredTopics: the topics of posts, as the request's experiment labels them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostsClient
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.topics import TopicExperiment, resolve_experiment
from xfast.pipeline import Hydration, Hydrator, Ragged, answers, eager


def topic_experiment(query: ScoredPostsQuery) -> TopicExperiment:
    """The experiment that decides which labels count for this request."""
    if query.is_bulk_topic_request or query.has_excluded_topics:
        return TopicExperiment.Unfiltered
    params = query.params
    topics = query.topic_ids or query.new_user_topic_ids
    return resolve_experiment(params.topic_filtering_overrides, topics, params.topic_filtering_id)


class FilteredTopicsHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``filtered_topic_ids`` and, where the experiment filters, ``unfiltered_topic_ids``; cached posts included.

    A retweet has its original's topics. No labels, or a failed lookup, is unset.
    """

    def __init__(self, client: PostsClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return (
            query.is_topic_request
            or query.has_excluded_topics
            or (query.params.enable_new_user_topic_filtering and query.has_new_user_topics)
        )

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        experiment = topic_experiment(query)
        wanted = {"filtered_topic_ids": experiment}
        if experiment != TopicExperiment.Unfiltered:
            wanted["unfiltered_topic_ids"] = TopicExperiment.Unfiltered
        originals = batch.original_id
        found = await answers(*(self._client.topics(originals, int(labels)) for labels in wanted.values()))
        return Hydration({name: _labelled(lists) for name, lists in zip(wanted, found, strict=True)})


def _labelled(lists: Sequence[Sequence[int] | None]) -> Ragged:
    return Ragged.from_lists([topics if topics else None for topics in lists], np.int64)

"""TopicIds: topic feeds, bulk topic feeds and excluded topics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.topics import all_production_topics, expand, expand_supertopic
from xfast.pipeline import Filter, Mask, Ragged

__all__ = ["TopicIdsFilter", "has_topic"]


def topic_set(topics: Iterable[int]) -> IdSet:
    """A membership set of (signed) topic ids."""
    return IdSet(as_uint64(list(topics)))


def has_topic(lists: Ragged, topics: Iterable[int]) -> Mask:
    """Mask of the rows whose list shares a topic with ``topics``."""
    return topic_set(topics).any_of_row(lists.values.view(np.uint64), lists.offsets)


class TopicIdsFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep posts of the requested topics and drop posts of excluded ones (HOME_MIXER §7.13).

    A request with up to six topics keeps a post that has one of them, or that mentions one in its unfiltered labels
    while its filtered labels have the topic's parent. A bulk request drops only posts whose topics are all unwanted.
    Excluding a topic drops, in reference mode, also every post without topics; in fixed mode only posts known to have
    it.
    """

    why = "outside the asked topics, or in an excluded one"

    def __init__(self, quirks: Quirks = "fixed") -> None:
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.is_topic_request or query.has_excluded_topics

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        filtered = batch.ragged("filtered_topic_ids")
        labelled: Mask = filtered.lengths() > 0
        keep = np.ones(len(batch), np.bool_)
        if query.is_bulk_topic_request:
            unwanted = topic_set(all_production_topics() - expand(query.topic_ids))
            keep = ~(labelled & unwanted.all_of_row(filtered.values.view(np.uint64), filtered.offsets))
        elif query.is_topic_request:
            keep = has_topic(filtered, expand(query.topic_ids))
            unfiltered = batch.ragged("unfiltered_topic_ids")
            for topic in dict.fromkeys(query.topic_ids):
                keep |= has_topic(unfiltered, expand((topic,))) & has_topic(filtered, expand_supertopic(topic))
        if query.has_excluded_topics:
            excluded = query.excluded_topic_ids
            keep &= ~has_topic(filtered, expand(excluded) | frozenset(excluded))
            if self.quirks == "reference":
                keep &= labelled
            if self.metrics is not None:
                for topic in excluded:
                    self.metrics.count("TopicIdsFilter.excluded_topic", topic_id=str(topic))
        return keep

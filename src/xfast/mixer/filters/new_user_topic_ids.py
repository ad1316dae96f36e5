"""NewUserTopicIds: a new viewer's chosen topics shape what comes from outside the network."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters.topic_ids import has_topic
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.topics import expand
from xfast.pipeline import Filter, Mask


class NewUserTopicIdsFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep in-network posts and posts of the chosen topics (HOME_MIXER §7.14)."""

    why = "outside the topics that the new viewer chose"

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_new_user_topic_filtering and query.has_new_user_topics and not query.is_topic_request

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        return batch.is_true("in_network") | has_topic(
            batch.ragged("filtered_topic_ids"), expand(query.new_user_topic_ids)
        )

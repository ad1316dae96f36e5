"""Phoenix: posts that the retrieval model finds for the viewer's history."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import RetrievalClient, sequence_length
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.sources.retrieval import retrieve
from xfast.pipeline import Source, eager

__all__ = ["PhoenixSource", "resolve_retrieval_cluster"]

_LAP7, _FOU = "Experiment1Lap7", "Experiment1Fou"


def resolve_retrieval_cluster(query: ScoredPostsQuery, history_length: int) -> str:
    """Which retrieval model serves: a short history first, then deciders, then the configured one."""
    params = query.params
    threshold = params.phoenix_retrieval_new_user_history_threshold
    if threshold > 0 and history_length < threshold:
        return params.phoenix_retrieval_new_user_inference_cluster_id
    cluster = params.phoenix_retrieval_inference_cluster_id
    if cluster == _LAP7 and query.decides("enable_phoenix_retrieval_lap7_to_fou"):
        return _FOU
    if cluster == _FOU and query.decides("enable_phoenix_retrieval_fou_to_lap7"):
        return _LAP7
    return cluster


class PhoenixSource(Source[ScoredPostsQuery, CandidateBatch]):
    """Off for topic requests of up to six topics, for new viewers with topics, in-network and cached requests."""

    def __init__(self, client: RetrievalClient, *, quirks: Quirks = "fixed") -> None:
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        topics_decide = query.is_topic_request and not query.is_bulk_topic_request
        new_user = query.params.enable_new_user_topic_retrieval and query.has_new_user_topics
        return not (topics_decide or new_user or query.in_network_only or query.has_cached_posts)

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        return await retrieve(
            self._client,
            query,
            cluster=resolve_retrieval_cluster(query, sequence_length(query.retrieval_sequence)),
            max_results=query.params.phoenix_max_results,
            served_type=ServedType.FOR_YOU_PHOENIX_RETRIEVAL,
            quirks=self.quirks,
            with_contexts=True,
        )

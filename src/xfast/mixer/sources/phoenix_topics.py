"""PhoenixTopics: retrieval inside the requested topics, or a new viewer's chosen ones."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import RetrievalClient
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.sources.retrieval import retrieve
from xfast.mixer.topics import resolve_experiment
from xfast.pipeline import Source, eager


class PhoenixTopicsSource(Source[ScoredPostsQuery, CandidateBatch]):
    """On where :class:`PhoenixSource` is off because of topics."""

    def __init__(self, client: RetrievalClient, *, quirks: Quirks = "fixed") -> None:
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        topics_decide = query.is_topic_request and not query.is_bulk_topic_request
        new_user = query.params.enable_new_user_topic_retrieval and query.has_new_user_topics
        return (topics_decide or new_user) and not query.in_network_only and not query.has_cached_posts

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        params = query.params
        topics = tuple(query.topic_ids if query.is_topic_request else query.new_user_topic_ids)
        mode = resolve_experiment(params.topic_filtering_overrides, topics, params.topic_filtering_id)
        return await retrieve(
            self._client,
            query,
            cluster=params.phoenix_retrieval_topic_inference_cluster_id,
            max_results=params.phoenix_max_results,
            served_type=ServedType.FOR_YOU_PHOENIX_RETRIEVAL,
            quirks=self.quirks,
            topic_ids=topics,
            mode=int(mode),
        )

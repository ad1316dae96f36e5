"""PhoenixMOE: retrieval by a mixture of experts (here: several interests of one history)."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import RetrievalClient
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.sources.retrieval import retrieve
from xfast.pipeline import Source, eager


class PhoenixMOESource(Source[ScoredPostsQuery, CandidateBatch]):
    """A second retrieval model, off unless ``EnablePhoenixMOESource``."""

    def __init__(self, client: RetrievalClient, *, quirks: Quirks = "fixed") -> None:
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        topics_decide = query.is_topic_request and not query.is_bulk_topic_request
        off = topics_decide or query.in_network_only or query.has_cached_posts
        return query.params.enable_phoenix_moe_source and not off

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        return await retrieve(
            self._client,
            query,
            cluster=query.params.phoenix_retrieval_moe_inference_cluster_id,
            max_results=query.params.phoenix_moe_max_results,
            served_type=ServedType.FOR_YOU_PHOENIX_RETRIEVAL_MOE,
            quirks=self.quirks,
        )

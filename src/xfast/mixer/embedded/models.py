"""Thunder and Phoenix in this process, as the mixer's clients; models run in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.ids import as_int64, as_uint64
from xfast.mixer.clients import InNetworkPosts, Prediction, PredictRequest, Retrieval, RetrievalRequest
from xfast.phoenix.clusters import fit_sequence, model_of

if TYPE_CHECKING:
    from xfast.phoenix import Candidates, Ranker, Retriever
    from xfast.thunder import PostStore

__all__ = ["LocalRanker", "LocalRetrieval", "LocalThunder", "candidates_of", "sequence_of"]

U64 = npt.NDArray[np.uint64]


class LocalThunder:
    """A channel to a :class:`xfast.thunder.PostStore` of this process."""

    def __init__(self, store: PostStore) -> None:
        self._store = store

    def in_network(
        self,
        *,
        user_id: int,
        following_ids: U64,
        max_results: int,
        exclude_ids: U64,
        algorithm: str,
        is_video_request: bool,
        debug: bool,
    ) -> InNetworkPosts:
        """Newest posts of the followed authors."""
        batch = self._store.in_network(
            int(as_int64([user_id])[0]),
            as_int64(following_ids),
            as_int64(exclude_ids),
            max_results=max_results,
            video_only=is_video_request,
        )
        return InNetworkPosts(
            as_int64(batch["post_id"]),
            as_int64(batch["author_id"]),
            as_int64(batch["in_reply_to_post_id"]),
            as_int64(batch["source_post_id"]),
            as_int64(batch["conversation_id"]),
        )


def candidates_of(request: PredictRequest) -> Candidates:
    """The original posts of a request, each once, with surface, impression and creation time."""
    from xfast.phoenix import Candidates

    batch, now_ms = request.candidates, request.query.request_time_ms
    ids, first = np.unique(batch.original_id, return_index=True)
    ages, known = batch.ages_ms(now_ms)
    return Candidates(
        ids,
        batch.original_author_id[first],
        product_surface=np.full(len(ids), request.product_surface, np.int32),
        impression_ts=np.full(len(ids), now_ms // 1_000, np.int32),
        created_ts=np.where(known, (now_ms - ages) // 1_000, 0)[first].astype(np.int32),
    )


def sequence_of(request: PredictRequest) -> Any:
    """The history of a request, with the vectors of its location where there are any and ``EnableIpFeature`` is on."""
    location = request.query.ip_location
    vectors = getattr(location, "embeddings", None) if request.query.params.enable_ip_feature else None
    return request.sequence if vectors is None else replace(request.sequence, ip_embeddings=vectors)


class LocalRanker:
    """Ranking models by cluster id; ``"*"`` serves every cluster without its own.

    Fills surface, impression and creation time of candidates; dwell and surfaces of the history come with it, and the
    vectors of the request's location where a locator gives any.
    """

    def __init__(self, rankers: Mapping[str, Ranker]) -> None:
        self._rankers = dict(rankers)

    def swap(self, cluster: str, ranker: Ranker) -> None:
        """Serve a cluster with another model from the next request on."""
        self._rankers = {**self._rankers, cluster: ranker}

    async def predict(self, request: PredictRequest) -> Prediction:
        """Score each original post once."""
        return await asyncio.to_thread(self._predict, request)

    def _predict(self, request: PredictRequest) -> Prediction:
        ranker = model_of(self._rankers, request.cluster)
        candidates = candidates_of(request)
        context = ranker.encode(fit_sequence(sequence_of(request), ranker.config.num_actions), keep="newest")
        scores = ranker.score(context, candidates)
        return Prediction(candidates.post_ids, None, scores.continuous, scores.probabilities)


class LocalRetrieval:
    """Retrieval models by cluster id over their corpora; topic requests search inside the topics."""

    def __init__(self, retrievers: Mapping[str, Retriever]) -> None:
        self._retrievers = dict(retrievers)

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Find the posts nearest to the viewer's history; seen and engaged posts are left out."""
        return await asyncio.to_thread(self._retrieve, request)

    def _retrieve(self, request: RetrievalRequest) -> Retrieval:
        retriever = model_of(self._retrievers, request.cluster).pinned()
        sequence = fit_sequence(request.sequence, retriever.config.num_actions)
        hits = retriever.search(
            retriever.encode(sequence, keep="newest"),
            request.max_results,
            exclude_ids=np.union1d(as_uint64(request.query.seen_ids), sequence.post_ids),
            topic_ids=list(request.topic_ids) or None,
        )
        return Retrieval(hits.post_ids, hits.author_ids, scores=hits.scores)

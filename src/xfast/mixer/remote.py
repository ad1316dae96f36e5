"""Phoenix behind ``PhoenixService``, as the mixer's clients (extra ``serve``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xfast.ids import as_uint64
from xfast.mixer.clients import Prediction, PredictRequest, Retrieval, RetrievalRequest
from xfast.mixer.embedded.models import candidates_of, sequence_of

if TYPE_CHECKING:
    from xfast.phoenix.service.client import PhoenixClient

__all__ = ["RemoteRanker", "RemoteRetrieval"]


class RemoteRanker:
    """A ranking model behind ``PhoenixService.Predict``; scores as in-process, bit for bit."""

    def __init__(self, client: PhoenixClient) -> None:
        self._client = client

    async def predict(self, request: PredictRequest) -> Prediction:
        """Score each original post once."""
        candidates = candidates_of(request)
        found = await self._client.predict(
            sequence_of(request), candidates, cluster=request.cluster, prediction_id=request.query.prediction_id
        )
        return Prediction(candidates.post_ids, None, found.continuous, found.probabilities)


class RemoteRetrieval:
    """A retrieval model and its corpus behind ``PhoenixService.Retrieve``; seen and engaged posts are left out."""

    def __init__(self, client: PhoenixClient) -> None:
        self._client = client

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Find the posts nearest to the viewer's history."""
        sequence: Any = request.sequence
        found = await self._client.retrieve(
            sequence,
            request.max_results,
            cluster=request.cluster,
            exclude_ids=np.union1d(as_uint64(request.query.seen_ids), sequence.post_ids),
            topic_ids=list(request.topic_ids),
            mode=request.mode or 0,
        )
        return Retrieval(found.post_ids, found.author_ids, scores=found.scores)

"""Phoenix over the network as the mixer's models: the answers of the models in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from tests.mixer.test_local_models import batch
from tests.mixer.world import NOW_MS
from tests.phoenix.models import random_tower, tiny_config
from xfast.mixer.clients import PredictRequest, RetrievalRequest
from xfast.mixer.embedded import LocalRanker, LocalRetrieval
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.remote import RemoteRanker, RemoteRetrieval
from xfast.mixer.scorers import PhoenixScorer
from xfast.phoenix import Corpus, Engagements, Ranker, Retriever
from xfast.phoenix.service.client import PhoenixClient, PhoenixUnavailableError
from xfast.phoenix.service.server import PhoenixServer


@pytest.fixture
def query() -> ScoredPostsQuery:
    made = ScoredPostsQuery(user_id=7, request_time_ms=NOW_MS, prediction_id=3)
    rng = np.random.default_rng(0)
    made.scoring_sequence = Engagements(7, [1, 2, 3], [4, 5, 6], rng.integers(0, 2, (3, 49)).astype(np.float32))
    made.seen_ids = np.arange(100, 110, dtype=np.uint64)
    return made


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker(random_tower(tiny_config()))


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    vectors = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(100, 150, dtype=np.uint64)
    return Retriever(random_tower(tiny_config(), "retrieval"), Corpus(ids, ids + np.uint64(1_000), vectors))


@pytest.fixture
async def client(ranker: Ranker, retriever: Retriever) -> AsyncIterator[PhoenixClient]:
    server = PhoenixServer({"*": ranker}, {"*": retriever})
    await server.start()
    async with PhoenixClient(f"127.0.0.1:{server.port}", timeout=20) as made:
        yield made
    await server.stop(1.0)


async def test_ranking(client: PhoenixClient, ranker: Ranker, query: ScoredPostsQuery) -> None:
    request = PredictRequest("any", query, query.scoring_sequence, 1, batch())
    remote, local = await RemoteRanker(client).predict(request), await LocalRanker({"*": ranker}).predict(request)
    assert np.array_equal(remote.post_ids, local.post_ids)
    for one, other in zip(
        remote.probabilities(request.candidates.original_id),
        local.probabilities(request.candidates.original_id),
        strict=True,
    ):
        assert np.array_equal(one, other)
    assert np.array_equal(remote.continuous, local.continuous)


async def test_retrieval(client: PhoenixClient, retriever: Retriever, query: ScoredPostsQuery) -> None:
    request = RetrievalRequest("any", query, query.scoring_sequence, 12)
    remote, local = (
        await RemoteRetrieval(client).retrieve(request),
        await LocalRetrieval({"*": retriever}).retrieve(request),
    )
    assert np.array_equal(remote.post_ids, local.post_ids)
    assert np.array_equal(remote.author_ids, local.author_ids)
    assert not set(remote.post_ids.tolist()) & set(query.seen_ids.tolist())


async def test_a_dead_egress_falls_back_to_the_direct_model(ranker: Ranker, query: ScoredPostsQuery) -> None:
    query.params = query.params.override({"UseEgressSidecar": True})
    async with PhoenixClient("127.0.0.1:1", timeout=20) as dead:
        scorer = PhoenixScorer(LocalRanker({"*": ranker}), egress=RemoteRanker(dead), clock=lambda: NOW_MS)
        assert np.isfinite((await scorer.score(query, batch())).columns["phoenix_scores"]).any()
        with pytest.raises(PhoenixUnavailableError, match="UNAVAILABLE"):
            await asyncio.wait_for(
                RemoteRanker(dead).predict(PredictRequest("any", query, query.scoring_sequence, 1, batch())), 20
            )

"""PhoenixService: the models behind a real gRPC socket answer with the bits of the models in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.errors import DataError, ParameterError
from xfast.events.wire import message_class
from xfast.phoenix import Candidates, Corpus, Engagements, Ranker, Retriever
from xfast.phoenix.service import messages
from xfast.phoenix.service.client import PhoenixClient, PhoenixUnavailableError
from xfast.phoenix.service.server import PhoenixServer, PhoenixServerOptions

CONFIG = tiny_config()


@pytest.fixture(scope="module")
def rankers() -> dict[str, Ranker]:
    return {"*": Ranker(random_tower(CONFIG)), "other": Ranker(random_tower(CONFIG, seed=5))}


@pytest.fixture(scope="module")
def retriever() -> Retriever:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(100, 150, dtype=np.uint64)
    topics = [[int(row) % 3] for row in range(50)]
    corpus = Corpus(ids, ids + np.uint64(1_000), vectors, topic_ids=topics)
    return Retriever(random_tower(CONFIG, "retrieval"), corpus)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
async def server(rankers: dict[str, Ranker], retriever: Retriever) -> AsyncIterator[PhoenixServer]:
    made = PhoenixServer(rankers, {"*": retriever}, PhoenixServerOptions(metrics_port=0, max_candidates=500))
    await made.start()
    yield made
    await made.stop(1.0)


@pytest.fixture
async def client(server: PhoenixServer) -> AsyncIterator[PhoenixClient]:
    async with PhoenixClient(f"127.0.0.1:{server.port}", timeout=20) as made:
        yield made


async def test_predictions_are_the_bits_of_the_model(client: PhoenixClient, rankers: Any, rng: Any) -> None:
    for cluster, name in (("", "*"), ("Experiment1Fou", "*"), ("other", "other")):
        sequence, candidates = random_engagements(CONFIG, rng), random_candidates(CONFIG, rng, 17)
        ranker = rankers[name]
        expected = ranker.score(ranker.encode(sequence, keep="newest"), candidates)
        for _ in range(2):  # the second time from the cache of encoded viewers
            got = await client.predict(sequence, candidates, cluster=cluster, prediction_id=2**64 - 1)
            assert np.array_equal(got.probabilities, expected.probabilities)
            assert np.array_equal(got.continuous, expected.continuous)
            assert got.prediction_id == 2**64 - 1


async def test_no_candidates_and_no_history(client: PhoenixClient, rng: Any) -> None:
    nobody = Engagements(0, [], [], np.empty((0, CONFIG.num_actions), np.float32))
    got = await client.predict(nobody, Candidates([], []))
    assert got.probabilities.shape == (0, CONFIG.num_actions)
    assert len((await client.predict(nobody, random_candidates(CONFIG, rng, 3))).probabilities) == 3


async def test_retrieval_finds_the_same_posts(client: PhoenixClient, retriever: Retriever, rng: Any) -> None:
    sequence = random_engagements(CONFIG, rng)
    excluded = np.arange(100, 120, dtype=np.uint64)
    for topics in ([], [1, 2]):
        expected = retriever.search(
            retriever.encode(sequence, keep="newest"), 12, exclude_ids=excluded, topic_ids=topics or None
        )
        got = await client.retrieve(sequence, 12, exclude_ids=excluded, topic_ids=topics)
        assert np.array_equal(got.post_ids, expected.post_ids)
        assert np.array_equal(got.author_ids, expected.author_ids)
        assert np.array_equal(got.scores, expected.scores)


async def test_wider_histories_are_cut_to_the_model(client: PhoenixClient, rankers: Any, rng: Any) -> None:
    sequence = random_engagements(CONFIG, rng)
    wide = Engagements(
        sequence.user_id, sequence.post_ids, sequence.author_ids, np.pad(sequence.actions, ((0, 0), (0, 42))),
        product_surface=sequence.product_surface, continuous=sequence.continuous,
    )  # fmt: skip
    candidates = random_candidates(CONFIG, rng, 4)
    one, other = [(await client.predict(each, candidates)).probabilities for each in (sequence, wide)]
    assert np.array_equal(one, other)


async def test_refusals_name_the_field(client: PhoenixClient, rng: Any) -> None:
    sequence = random_engagements(CONFIG, rng)
    with pytest.raises(PhoenixUnavailableError, match=r"INVALID_ARGUMENT: post_ids has 501 entries"):
        await client.predict(sequence, random_candidates(CONFIG, rng, 501))
    with pytest.raises(PhoenixUnavailableError, match=r"INVALID_ARGUMENT: max_results is 0"):
        await client.retrieve(sequence, 0)
    with pytest.raises(PhoenixUnavailableError, match=r"INVALID_ARGUMENT: actions has \d+ columns"):
        narrow = Engagements(1, [1], [2], np.ones((1, CONFIG.num_actions - 1), np.float32))
        await client.predict(narrow, random_candidates(CONFIG, rng, 1))


async def test_a_cluster_without_a_model_is_not_found(rankers: Any, rng: Any) -> None:
    server = PhoenixServer({"other": rankers["other"]}, {}, PhoenixServerOptions(cache_bytes=0))
    await server.start()
    async with PhoenixClient(f"127.0.0.1:{server.port}", timeout=20) as client:
        sequence = random_engagements(CONFIG, rng)
        with pytest.raises(PhoenixUnavailableError, match=r"NOT_FOUND.*Experiment1Fou.*other") as failure:
            await client.predict(sequence, random_candidates(CONFIG, rng, 1), cluster="Experiment1Fou")
        assert failure.value.code == "NOT_FOUND"
        with pytest.raises(PhoenixUnavailableError, match="NOT_FOUND"):
            await client.retrieve(sequence, 1)
    await server.stop(1.0)


class _Slow:
    """A model that does not answer before it is told to."""

    config = CONFIG

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)

    def pinned(self) -> _Slow:
        return self

    def encode(self, sequence: Engagements, *, keep: str) -> np.ndarray:
        self.asked.release()
        assert self.go.wait(20)
        return np.zeros(8, np.float32)

    def search(self, *_: Any, **__: Any) -> Any:
        empty = np.empty(0, np.uint64)
        return messages.Retrieved(empty, empty, np.empty(0, np.float32))


async def test_capacity_deadline_and_permits(rng: Any) -> None:
    slow: Any = _Slow()
    server = PhoenixServer({}, {"*": slow}, PhoenixServerOptions(max_concurrent=1, workers=1))
    await server.start()
    sequence = random_engagements(CONFIG, rng)
    async with PhoenixClient(f"127.0.0.1:{server.port}", timeout=20) as client:
        with pytest.raises(PhoenixUnavailableError, match="DEADLINE_EXCEEDED"):
            await client.retrieve(sequence, 1, timeout=0.2)
        # Nobody waits for the first request any more, but it still holds its thread and its permit.
        assert await asyncio.to_thread(slow.asked.acquire, timeout=20)
        with pytest.raises(PhoenixUnavailableError, match=r"RESOURCE_EXHAUSTED.*1 requests are in flight"):
            await client.retrieve(sequence, 1)
        slow.go.set()
        for _ in range(100):
            try:
                assert len((await client.retrieve(sequence, 1)).post_ids) == 0
                break
            except PhoenixUnavailableError as error:
                assert error.code == "RESOURCE_EXHAUSTED"
                await asyncio.sleep(0.02)
        else:
            pytest.fail("the permit never came back")
    await server.stop(1.0)


async def test_health_reflection_and_metrics(server: PhoenixServer, client: PhoenixClient, rng: Any) -> None:
    import grpc
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    await client.predict(random_engagements(CONFIG, rng), random_candidates(CONFIG, rng, 2))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        status = await check(health_pb2.HealthCheckRequest(service="xfast.phoenix.PhoenixService"))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol="xfast.phoenix.PhoenixService")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]
        assert b"Retrieve" in answers[0].file_descriptor_response.file_descriptor_proto[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.metrics_port)
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert 'xfast_phoenix_requests_total{code="OK",method="Predict"} 1.0' in text
    assert "xfast_phoenix_context_misses 1.0" in text


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 1, 6], scope="module")
def length(request: pytest.FixtureRequest) -> Iterator[int]:
    yield request.param


def test_messages_are_those_of_the_proto_file(length: int, rng: np.random.Generator) -> None:
    sequence = random_engagements(CONFIG, rng, np.ones(length, bool), ip_embeddings=np.ones((2, 8)))
    candidates = random_candidates(CONFIG, rng, length)
    data = messages.write_predict(messages.Predict("c", sequence, candidates, 7))
    plain = message_class("xfast.phoenix.PredictRequest").FromString(data)
    assert list(plain.post_ids) == candidates.post_ids.tolist()
    assert list(plain.sequence.actions) == sequence.actions.ravel().tolist()
    assert list(plain.created_ts) == (candidates.created_ts.tolist() if candidates.created_ts is not None else [])
    # And what another implementation of the file writes is read back the same.
    again = messages.read_predict(plain.SerializeToString())
    assert np.array_equal(again.candidates.post_ids, candidates.post_ids)
    assert np.array_equal(again.sequence.actions, sequence.actions)
    assert np.array_equal(again.sequence.ip_embeddings, sequence.ip_embeddings)
    assert (again.cluster, again.prediction_id) == ("c", 7)


@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (messages.read_predict, messages.read_retrieve, messages.read_predicted, messages.read_retrieved):
        try:
            read(data)
        except (DataError, ParameterError) as error:
            assert str(error)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("post_ids", b"1234567", "post_ids has 7 bytes, must be a packed list of uint64"),
        ("author_ids", bytes(8), "author_ids has 1 entries, post_ids has 0"),
        ("slots", bytes(4), r"slots has shape \(1,\), must be \(0,\)"),
    ],
)
def test_columns_that_do_not_fit_are_named(field: str, value: bytes, words: str) -> None:
    message = messages._message("PredictRequest")(**{field: value})
    with pytest.raises(ParameterError, match=words):
        messages.read_predict(message.SerializeToString())


def test_tables_need_their_width() -> None:
    message = messages._message("RetrieveRequest")()
    message.sequence.post_ids = bytes(16)
    message.sequence.author_ids = bytes(16)
    message.sequence.num_actions = 3
    message.sequence.actions = bytes(4 * 5)
    with pytest.raises(ParameterError, match=r"sequence\.actions has 5 values of width 3, must be 2 rows"):
        messages.read_retrieve(message.SerializeToString())


def test_options_and_models_are_checked(rankers: Any) -> None:
    with pytest.raises(ParameterError, match="at least one model"):
        PhoenixServer({}, {})
    with pytest.raises(ParameterError, match=r"address is 'x', must be host:port"):
        PhoenixServerOptions(address="x")
    with pytest.raises(ParameterError, match=r"workers is 0, must be in \[1, 256\]"):
        PhoenixServerOptions(workers=0)

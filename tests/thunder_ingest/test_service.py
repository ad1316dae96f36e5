"""The gRPC service in-process: answers, limits, overload, deadlines, health, reflection, compression, shutdown."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.thunder_ingest.model import NOW, OPTIONS, events
from xfast.errors import ParameterError, XfastError
from xfast.events import message_class
from xfast.thunder import ManualClock, PostStore
from xfast.thunder.client import ThunderClient, ThunderUnavailableError
from xfast.thunder.consumer import Consumer
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.logs import JsonFormatter
from xfast.thunder.lookup import InNetworkLookup
from xfast.thunder.service import METHOD, SERVICE, ServiceOptions, ThunderServer
from xfast.thunder.sources import MemorySource


def filled_store() -> PostStore:
    store = PostStore(clock=ManualClock(NOW), **{**OPTIONS, "max_results": 500, "max_video_results": 7})
    count = 2000
    ids = np.arange(1, count + 1)
    columns = {
        "post_id": ids,
        "author_id": 1 + ids % 20,
        "created_at": NOW - 1 - ids,
        "has_video": ids % 3 == 0,
    }
    store.insert(columns, now=NOW)
    return store


class SlowSource:
    """A source of followees that answers when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls: list[tuple[int, int]] = []
        self.error: Exception | None = None

    def __call__(self, user_id: int, limit: int) -> list[int]:
        self.calls.append((user_id, limit))
        assert self.go.wait(20)
        if self.error is not None:
            raise self.error
        return [1, 2]


class Running:
    def __init__(self, server: ThunderServer, source: SlowSource) -> None:
        self.server, self.source = server, source
        self.address = f"127.0.0.1:{server.port}"


@pytest_asyncio.fixture
async def running() -> AsyncIterator[Running]:
    source = SlowSource()
    lookup = InNetworkLookup(filled_store(), max_concurrent_requests=4, max_input_list=50, following_source=source)
    options = ServiceOptions(metrics_port=0, workers=6, stats_seconds=0.05)
    server = ThunderServer(lookup, options=options, clock=ManualClock(NOW))
    await server.start()
    yield Running(server, source)
    source.go.set()
    await server.stop(grace=1.0)


async def test_answers_are_those_of_the_store(running: Running) -> None:
    store = running.server.lookup.store
    async with ThunderClient(running.address) as client:
        for arguments in (
            {"following_ids": [1, 2, 3]},
            {"following_ids": [4], "exclude_ids": [23, 43], "max_results": 5},
            {"following_ids": [3, 9], "video_only": True},
            {"following_ids": []},
            {"following_ids": np.array([2**64 - 1, 7], np.uint64)},
        ):
            answer = await client.in_network(2**63 + 5, **arguments)  # type: ignore[arg-type]
            expected = store.in_network(2**63 + 5, **arguments)  # type: ignore[arg-type]
            assert len(answer["post_id"]) == len(expected)
            for name in expected.columns:
                np.testing.assert_array_equal(answer[name], expected[name])


async def test_messages_are_plain_protobuf(running: Running) -> None:
    """A client with generated classes needs nothing of ours."""
    request = message_class("xfast.thunder.GetInNetworkPostsRequest")(
        user_id=9, following_user_ids=[1, 2], exclude_tweet_ids=[20], max_results=3, algorithm="anything"
    )
    response = message_class("xfast.thunder.GetInNetworkPostsResponse")
    async with grpc.aio.insecure_channel(running.address) as channel:
        call = channel.unary_unary(
            METHOD, request_serializer=lambda m: m.SerializeToString(), response_deserializer=response.FromString
        )
        answer = await call(request, timeout=5)
    assert [post.post_id for post in answer.posts] == [1, 21, 40]
    assert [post.author_id for post in answer.posts] == [2, 2, 1]
    assert not answer.posts[0].HasField("conversation_id")


async def test_followees_and_excludes_are_cut_to_the_first(running: Running) -> None:
    async with ThunderClient(running.address) as client:
        answer = await client.in_network(9, [*range(100, 150), 1])
        assert len(answer["post_id"]) == 0
        answer = await client.in_network(9, [*range(100, 149), 1], max_results=1)
        assert answer["post_id"].tolist() == [20]
        answer = await client.in_network(9, [1], [*range(5000, 5050), 20], max_results=1)
        assert answer["post_id"].tolist() == [20]


async def test_overload_is_refused_at_once_and_permits_come_back(running: Running) -> None:
    async with ThunderClient(running.address) as client:
        held = [asyncio.create_task(client.in_network(n, [], debug=True, timeout=30)) for n in range(4)]
        while running.server.lookup.in_flight < 4:
            await asyncio.sleep(0.005)
        with pytest.raises(ThunderUnavailableError, match="capacity") as refused:
            await client.in_network(9, [1], timeout=30)
        assert refused.value.code == "RESOURCE_EXHAUSTED"
        assert running.server.lookup.rejected == 1 and running.server.lookup.in_flight == 4
        running.source.go.set()
        answers = await asyncio.gather(*held)
        assert all(len(answer["post_id"]) == 200 for answer in answers)
        assert running.server.lookup.in_flight == 0
        assert len((await client.in_network(9, [1], timeout=30))["post_id"]) == 100
    assert sorted(running.source.calls) == [(n, 50) for n in range(4)]


async def test_deadline_ends_the_wait_and_frees_the_permit(running: Running) -> None:
    async with ThunderClient(running.address) as client:
        with pytest.raises(ThunderUnavailableError) as late:
            await client.in_network(1, [], debug=True, timeout=0.1)
        assert late.value.code == "DEADLINE_EXCEEDED"
        for _ in range(400):
            if running.server.lookup.in_flight == 0:
                break
            await asyncio.sleep(0.005)
        assert running.server.lookup.in_flight == 0


async def test_followees_are_fetched_for_debug_requests_only(running: Running) -> None:
    running.source.go.set()
    async with ThunderClient(running.address) as client:
        assert len((await client.in_network(9, []))["post_id"]) == 0
        assert running.source.calls == []
        assert len((await client.in_network(9, [], debug=True))["post_id"]) == 200
        assert running.source.calls == [(9, 50)]
        running.source.error = ConnectionError("no graph")
        with pytest.raises(ThunderUnavailableError) as failed:
            await client.in_network(9, [], debug=True)
        assert failed.value.code == "INTERNAL"


async def test_a_failing_lookup_is_internal_and_logged(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(running.server.lookup, "lookup", broken)
    async with ThunderClient(running.address) as client:
        with pytest.raises(ThunderUnavailableError) as failed:
            await client.in_network(9, [1])
    assert failed.value.code == "INTERNAL" and "secret" not in str(failed.value)
    assert "a secret of the house" in caplog.text
    assert running.server.lookup.in_flight == 0


async def raw(running: Running, message: bytes, metadata: Any = None) -> tuple[bytes, dict[str, Any]]:
    async with grpc.aio.insecure_channel(running.address) as channel:
        call = channel.unary_unary(METHOD)(message, timeout=5, metadata=metadata)
        return await call, dict(await call.initial_metadata())


async def test_malformed_requests_are_refused(running: Running) -> None:
    cases: list[tuple[bytes, Any]] = [
        (b"\x12\x05\x01", None),
        (b"plain", (("xfast-encoding", "zstd"),)),
        (b"", (("xfast-encoding", "br"),)),
    ]
    for message, metadata in cases:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(running, message, metadata)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert running.server.lookup.in_flight == 0


async def test_zstd_both_ways_and_no_bombs(running: Running) -> None:
    import zstandard

    request = message_class("xfast.thunder.GetInNetworkPostsRequest")(user_id=9, following_user_ids=[1, 2])
    message = request.SerializeToString()
    plain, metadata = await raw(running, message)
    assert "xfast-encoding" not in metadata
    packed = zstandard.ZstdCompressor().compress(message)
    both = (("xfast-encoding", "zstd"), ("xfast-accept-encoding", "zstd"))
    answer, metadata = await raw(running, packed, both)
    assert metadata["xfast-encoding"] == "zstd"
    assert zstandard.ZstdDecompressor().decompress(answer) == plain and len(answer) < len(plain)
    async with ThunderClient(running.address, zstd=True) as client:
        assert len((await client.in_network(9, [1, 2]))["post_id"]) == 200
    bomb = zstandard.ZstdCompressor().compress(bytes(50 << 20))
    with pytest.raises(grpc.aio.AioRpcError, match="larger than 4194304 bytes"):
        await raw(running, bomb, both[:1])


async def test_gzip_of_the_transport() -> None:
    server = ThunderServer(InNetworkLookup(filled_store()), options=ServiceOptions(compression="gzip"))
    await server.start()
    try:
        request = message_class("xfast.thunder.GetInNetworkPostsRequest")(user_id=9, following_user_ids=[1, 2])
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", compression=grpc.Compression.Gzip) as channel:
            answer = await channel.unary_unary(METHOD)(request.SerializeToString(), timeout=5)
        posts = message_class("xfast.thunder.GetInNetworkPostsResponse").FromString(answer).posts
        assert len(posts) == 200
    finally:
        await server.stop(0.1)


async def test_health_follows_readiness(running: Running) -> None:
    async with grpc.aio.insecure_channel(running.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for ready, expected in ((False, "NOT_SERVING"), (True, "SERVING"), (False, "NOT_SERVING")):
            await running.server.set_ready(ready)
            for name in ("", SERVICE):
                answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == expected


async def test_reflection_describes_the_service(running: Running) -> None:
    async with grpc.aio.insecure_channel(running.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        ]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(requests), timeout=5)]
    names = {service.name for service in answers[0].list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers[1:])


async def http(running: Running, path: str) -> tuple[str, str]:
    assert running.server.metrics_port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", running.server.metrics_port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = data.partition("\r\n\r\n")
    return head.split("\r\n")[0].split(" ", 1)[1], body


async def test_metrics_and_probes_over_http(running: Running) -> None:
    async with ThunderClient(running.address) as client:
        await client.in_network(9, [1, 2], [5], max_results=10)
    status, text = await http(running, "/metrics")
    assert status == "200 OK"
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['xfast_thunder_requests_total{code="OK"}'] == "1.0"
    assert values["xfast_thunder_returned_posts_sum"] == "10.0"
    assert values["xfast_thunder_following_sum"] == "2.0"
    assert values["xfast_thunder_freshness_seconds_sum"] == "2.0"
    assert values["xfast_thunder_returned_eligible_ratio_count"] == "1.0"
    assert values['xfast_thunder_store{what="posts"}'] == "2000.0"
    assert float(values['xfast_thunder_memory_bytes{part="total"}']) > 0
    assert values["xfast_thunder_in_flight"] == "0.0"
    assert (await http(running, "/healthz"))[0] == "200 OK"
    assert (await http(running, "/readyz"))[0] == "503 Service Unavailable"
    await running.server.set_ready(True)
    assert (await http(running, "/readyz"))[0] == "200 OK"
    assert (await http(running, "/etc/passwd"))[0] == "404 Not Found"


async def test_metrics_show_lag_and_dead_letters() -> None:
    source = MemorySource(2)
    store = PostStore(clock=ManualClock(NOW), **OPTIONS)

    class Nowhere:
        def put(self, letters: object) -> None: ...
        def close(self) -> None: ...

    consumer = Consumer(source, StoreTarget(store, clock=ManualClock(NOW)), Nowhere())
    server = ThunderServer(InNetworkLookup(store), [consumer])
    source.put([*events(20), b"\xff"])
    consumer.start()
    consumer.wait_ready(20)
    consumer.stop()
    text = server.metrics.render().decode()
    assert 'xfast_ingest_lag{consumer="thunder",partition="0"} 0.0' in text
    assert 'xfast_ingest_events_total{consumer="thunder",what="dead_letters"} 1.0' in text
    assert 'xfast_ingest_events_total{consumer="thunder",what="messages"} 21.0' in text


async def test_shutdown_lets_requests_finish_and_refuses_new_ones(running: Running) -> None:
    async with ThunderClient(running.address) as client:
        held = asyncio.create_task(client.in_network(1, [], debug=True, timeout=30))
        while running.server.lookup.in_flight < 1:
            await asyncio.sleep(0.005)
        stopping = asyncio.create_task(running.server.stop(grace=20))
        await asyncio.sleep(0.05)
        running.source.go.set()
        assert len((await held)["post_id"]) == 200
        await stopping
        with pytest.raises(ThunderUnavailableError) as refused:
            await client.in_network(1, [1], timeout=5)
        assert refused.value.code == "UNAVAILABLE"


async def test_statistics_are_logged_as_fields(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "xfast.thunder.service"):
        for _ in range(400):
            if any(record.message == "statistics" for record in caplog.records):
                break
            await asyncio.sleep(0.01)
    record = next(record for record in caplog.records if record.getMessage() == "statistics")
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "statistics" and line["level"] == "info"
    assert line["store"]["posts"] == 2000 and line["rejected"] == 0


def test_log_lines_hold_exceptions_and_odd_values() -> None:
    try:
        raise ValueError("ouch")
    except ValueError:
        import sys

        record = logging.makeLogRecord({"msg": "failed %s", "args": ("x",), "exc_info": sys.exc_info(), "what": {1, 2}})
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "failed x" and "ValueError: ouch" in line["exception"] and line["what"] == "{1, 2}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "localhost"}, "address is 'localhost', must be host:port"),
        ({"metrics_port": 70000}, "metrics_port is 70000"),
        ({"workers": 0}, "workers is 0"),
        ({"compression": "br"}, "compression is 'br'"),
        ({"max_message_bytes": 1}, "max_message_bytes is 1"),
        ({"stats_seconds": 0}, "stats_seconds is 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        ServiceOptions(**options)


async def test_a_taken_address_is_an_error_that_names_it(running: Running) -> None:
    other = ThunderServer(InNetworkLookup(PostStore()), options=ServiceOptions(address=running.address))
    with pytest.raises(XfastError, match=f"address {running.address} cannot be bound"):
        await other.start()
    await other.stop()

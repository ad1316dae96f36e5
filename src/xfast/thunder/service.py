"""The gRPC service ``InNetworkPostsService`` on grpc.aio (THUNDER §4; extra ``serve``).

The messages are read and written natively (csrc/eventlog/service_messages.cpp), the lookup runs in a pool of threads
without the GIL, and the event loop does nothing but admission and bookkeeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from xfast.errors import ParameterError, XfastError
from xfast.thunder import _wire
from xfast.thunder.clock import Clock, SystemClock
from xfast.thunder.consumer import Consumer
from xfast.thunder.lookup import AtCapacityError, FollowingSourceError, InNetworkLookup
from xfast.thunder.metrics import ServiceMetrics

logger = logging.getLogger(__name__)

SERVICE = "xfast.thunder.InNetworkPostsService"
METHOD = f"/{SERVICE}/GetInNetworkPosts"


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How the service listens.

    Parameters
    ----------
    address
        ``host:port`` of the gRPC socket; port 0 takes a free one.
    metrics_port
        Port of ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP on the same host; None: none; 0: a free one.
    workers
        Threads for lookups.
    compression
        ``"gzip"`` compresses answers for clients whose gRPC library accepts it; zstd is used whenever a client asks
        for it (in_network_service.proto says how).
    max_message_bytes
        Larger requests are refused.
    stats_seconds
        How often a line of statistics is logged (THUNDER §5).
    """

    address: str = "127.0.0.1:0"
    metrics_port: int | None = None
    workers: int = 2
    compression: Literal["none", "gzip"] = "none"
    max_message_bytes: int = 4 << 20
    stats_seconds: float = 5.0

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ParameterError(f"address is {self.address!r}, must be host:port")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise ParameterError(f"metrics_port is {self.metrics_port}, must be in [0, 65535] or None")
        if not 1 <= self.workers <= 256:
            raise ParameterError(f"workers is {self.workers}, must be in [1, 256]")
        if self.compression not in ("none", "gzip"):
            raise ParameterError(f"compression is {self.compression!r}, must be 'none' or 'gzip'")
        if not 1024 <= self.max_message_bytes <= 1 << 30:
            raise ParameterError(f"max_message_bytes is {self.max_message_bytes}, must be in [1024, 1073741824]")
        if not 0.01 <= self.stats_seconds <= 3600:
            raise ParameterError(f"stats_seconds is {self.stats_seconds}, must be in [0.01, 3600]")


def _grpc() -> Any:
    try:
        import grpc
    except ImportError as error:
        raise XfastError("the service needs grpcio: pip install 'xfast[serve]'") from error
    return grpc


class ThunderServer:
    """The service with health checking, reflection and metrics. Not ready until :meth:`set_ready`.

    Parameters
    ----------
    lookup
        Answers the requests; holds the store, the permits and the limits.
    consumers
        The ingestion, for the metrics.
    options, clock
        See :class:`ServiceOptions`; the clock dates the freshness of answers.
    """

    def __init__(
        self,
        lookup: InNetworkLookup,
        consumers: Iterable[Consumer] = (),
        options: ServiceOptions | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self._grpc = _grpc()
        self.lookup = lookup
        self.consumers = tuple(consumers)
        self.options = options or ServiceOptions()
        self.clock: Clock = clock or SystemClock()
        self.metrics = ServiceMetrics(lookup, self.consumers)
        self.port = 0
        self.metrics_port: int | None = None
        self._ready = False
        self._zstd = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._server: Any = None
        self._health: Any = None
        self._http: asyncio.Server | None = None
        self._statistics: asyncio.Task[None] | None = None

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the sockets. The health service says NOT_SERVING until the server is set ready.

        Raises
        ------
        XfastError
            The address cannot be bound.
        """
        from grpc_health.v1 import health, health_pb2_grpc

        grpc = self._grpc
        self._pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="xfast-lookup")
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self.options.max_message_bytes),
                ("grpc.so_reuseport", 0),
            ],
            compression=grpc.Compression.Gzip if self.options.compression == "gzip" else None,
        )
        handler = grpc.unary_unary_rpc_method_handler(self._get_in_network_posts)  # bytes in, bytes out
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"GetInNetworkPosts": handler}),)
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._enable_reflection()
        try:
            self.port = self._server.add_insecure_port(self.options.address)
        except RuntimeError as error:
            raise XfastError(f"address {self.options.address} cannot be bound: {error}") from None
        await self.set_ready(False)
        await self._server.start()
        if self.options.metrics_port is not None:
            host = self.options.address.rpartition(":")[0].strip("[]")
            self._http = await asyncio.start_server(self._answer_http, host, self.options.metrics_port)
            self.metrics_port = self._http.sockets[0].getsockname()[1]
        self._statistics = asyncio.create_task(self._log_statistics())
        logger.info("listening", extra={"port": self.port, "metrics_port": self.metrics_port})

    def _enable_reflection(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        from xfast.events.wire import message_class

        pool = descriptor_pool.DescriptorPool()
        ours = message_class("xfast.thunder.GetInNetworkPostsRequest").DESCRIPTOR.file
        for file in (ours, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            pool.Add(proto)
        names = (SERVICE, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=pool)

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether to send traffic here. Requests are answered in either case."""
        from grpc_health.v1 import health_pb2

        self._ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace: float = 10.0) -> None:
        """Become not ready, refuse new requests, let those in flight finish for ``grace`` seconds, close all."""
        if self._server is None:
            return
        await self.set_ready(False)
        if self._statistics is not None:
            self._statistics.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._statistics
        await self._server.stop(grace)
        if self._http is not None:
            self._http.close()
            await self._http.wait_closed()
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._server = None
        logger.info("stopped")

    # --- one request ----------------------------------------------------------------------------------------------

    async def _get_in_network_posts(self, message: bytes, context: Any) -> bytes:
        began = self.clock.monotonic()
        code = self._grpc.StatusCode.OK
        try:
            with self.lookup.admit():
                return await self._answer(message, context)
        except AtCapacityError as error:
            code = self._grpc.StatusCode.RESOURCE_EXHAUSTED
            await context.abort(code, str(error))
        except FollowingSourceError as error:
            code = self._grpc.StatusCode.INTERNAL
            await context.abort(code, str(error))
        except TimeoutError:
            code = self._grpc.StatusCode.DEADLINE_EXCEEDED
            await context.abort(code, "the deadline passed before the answer was ready")
        except (ParameterError, ValueError) as error:
            code = self._grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(error))
        except asyncio.CancelledError:
            code = self._grpc.StatusCode.CANCELLED
            raise
        except self._grpc.aio.AbortError:
            raise
        except Exception:
            code = self._grpc.StatusCode.INTERNAL
            logger.exception("a lookup failed")
            await context.abort(code, "the lookup failed; the server's log says why")
        finally:
            self.metrics.requests.labels(code.name).inc()
            self.metrics.seconds.observe(self.clock.monotonic() - began)
        raise AssertionError("context.abort() always raises")

    async def _answer(self, message: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata() or ())
        compress = metadata.get("xfast-accept-encoding") == "zstd"
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise TimeoutError
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, self._look_up, message, metadata.get("xfast-encoding"), compress
        )
        # The deadline bounds the wait for a thread and for the source of followees; a lookup itself is far shorter.
        answer = await asyncio.wait_for(work, left)
        if compress:
            await context.send_initial_metadata((("xfast-encoding", "zstd"),))
        return answer

    def _look_up(self, message: bytes, encoding: str | None, compress: bool) -> bytes:
        """Everything that costs time, in a thread of the pool."""
        if encoding is not None:
            message = self._decompress(message, encoding)
        user_id, following, excluded, wanted, video_only, _, debug = _wire.decode_request(message)
        self.metrics.following.observe(len(following))
        self.metrics.excluded.observe(len(excluded))
        self.metrics.wanted.observe(max(0, wanted))
        began = self.clock.monotonic()
        batch = self.lookup.lookup(
            user_id, following, excluded, max_results=max(0, wanted), video_only=video_only, debug=debug
        )
        self.metrics.lookup_seconds.observe(self.clock.monotonic() - began)
        self.metrics.answered(batch, self.clock.now())
        answer = _wire.encode_response(**batch.to_dict())  # type: ignore[arg-type]
        return self._compressor().compress(answer) if compress else answer

    def _compressor(self) -> Any:
        import zstandard

        if not hasattr(self._zstd, "compressor"):  # one per thread: they are not safe to share
            self._zstd.compressor = zstandard.ZstdCompressor(level=1)
        return self._zstd.compressor

    def _decompress(self, message: bytes, encoding: str) -> bytes:
        import zstandard

        if encoding != "zstd":
            raise ParameterError(f"xfast-encoding is {encoding!r}, must be 'zstd'")
        try:
            reader = zstandard.ZstdDecompressor().stream_reader(message)
            data: bytes = reader.read(self.options.max_message_bytes + 1)
        except zstandard.ZstdError as error:
            raise ParameterError(f"the request is not a zstd frame: {error}") from None
        if len(data) > self.options.max_message_bytes:
            raise ParameterError(f"the request is larger than {self.options.max_message_bytes} bytes when unpacked")
        return data

    # --- beside the requests --------------------------------------------------------------------------------------

    async def _log_statistics(self) -> None:
        while True:
            await asyncio.sleep(self.options.stats_seconds)
            ingest = {
                consumer.name: {
                    "state": consumer.state,
                    "messages": consumer.stats.messages,
                    "lag": sum(value or 0 for value in consumer.stats.lag.values()),
                    "dead_letters": consumer.stats.dead_letters,
                }
                for consumer in self.consumers
            }
            logger.info(
                "statistics",
                extra={
                    "store": self.lookup.store.stats(),
                    "in_flight": self.lookup.in_flight,
                    "rejected": self.lookup.rejected,
                    "ingest": ingest,
                },
            )

    async def _answer_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one GET: /metrics, /healthz (the process runs) or /readyz (it is caught up)."""
        try:
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            words = head.split(b" ", 2)
            path = words[1].split(b"?")[0] if len(words) > 2 else b""
            if path == b"/metrics":
                status, body = "200 OK", self.metrics.render()
            elif path == b"/healthz":
                status, body = "200 OK", b"ok\n"
            elif path == b"/readyz":
                status, body = ("200 OK", b"ready\n") if self._ready else ("503 Service Unavailable", b"not ready\n")
            else:
                status, body = "404 Not Found", b"/metrics, /healthz, /readyz\n"
            kind = "text/plain; version=0.0.4; charset=utf-8"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a client that says nothing sensible gets nothing
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

"""The gRPC service ``InNetworkPostsService`` on grpc.aio (THUNDER §4; extra ``serve``).

The messages are read and written natively (csrc/eventlog/service_messages.cpp), the lookup runs in a pool of threads
without the GIL, and the event loop does nothing but admission and bookkeeping.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

from xfast.errors import ParameterError
from xfast.events.wire import message_class
from xfast.rpc import ListenOptions, RpcServer
from xfast.thunder import _wire
from xfast.thunder.clock import Clock, SystemClock
from xfast.thunder.consumer import Consumer
from xfast.thunder.lookup import AtCapacityError, FollowingSourceError, InNetworkLookup
from xfast.thunder.metrics import ServiceMetrics

logger = logging.getLogger(__name__)

SERVICE = "xfast.thunder.InNetworkPostsService"
METHOD = f"/{SERVICE}/GetInNetworkPosts"


@dataclass(frozen=True, slots=True)
class ServiceOptions(ListenOptions):
    """How the service listens; zstd compresses an answer whenever a client asks for it (in_network_service.proto).

    Parameters
    ----------
    address, metrics_port, workers, compression, max_message_bytes
        See :class:`xfast.rpc.ListenOptions`; the workers do the lookups.
    stats_seconds
        How often a line of statistics is logged (THUNDER §5).
    """

    stats_seconds: float = 5.0

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {**ListenOptions.RANGES, "stats_seconds": (0.01, 3600)}


class ThunderServer(RpcServer):
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

    REFUSALS: ClassVar[Mapping[type[Exception], str]] = {
        AtCapacityError: "RESOURCE_EXHAUSTED",
        FollowingSourceError: "INTERNAL",
        ParameterError: "INVALID_ARGUMENT",
        ValueError: "INVALID_ARGUMENT",
    }

    def __init__(
        self,
        lookup: InNetworkLookup,
        consumers: Iterable[Consumer] = (),
        options: ServiceOptions | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.lookup = lookup
        self.consumers = tuple(consumers)
        self.options = options or ServiceOptions()
        self.clock: Clock = clock or SystemClock()
        self.metrics = ServiceMetrics(lookup, self.consumers)
        self._zstd = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._statistics: asyncio.Task[None] | None = None
        super().__init__(
            SERVICE,
            {"GetInNetworkPosts": self._get_in_network_posts},
            message_class("xfast.thunder.GetInNetworkPostsRequest").DESCRIPTOR.file,
            options=self.options,
            render_metrics=self.metrics.render,
            observe=self._count,
            monotonic=self.clock.monotonic,
        )

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the sockets. The health service says NOT_SERVING until the server is set ready.

        Raises
        ------
        XfastError
            The address cannot be bound.
        """
        self._pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="xfast-lookup")
        await super().start()
        self._statistics = asyncio.create_task(self._log_statistics())

    async def stop(self, grace: float = 10.0) -> None:
        """Become not ready, refuse new requests, let those in flight finish for ``grace`` seconds, close all."""
        if self._pool is None:
            return
        await self.set_ready(False)
        if self._statistics is not None:
            self._statistics.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._statistics
        await super().stop(grace)
        self._pool.shutdown(wait=True)
        self._pool = None

    # --- one request ----------------------------------------------------------------------------------------------

    def _count(self, method: str, code: str, seconds: float) -> None:
        self.metrics.requests.labels(code).inc()
        self.metrics.seconds.observe(seconds)

    async def _get_in_network_posts(self, message: bytes, context: Any) -> bytes:
        with self.lookup.admit():
            return await self._answer(message, context)

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

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
from typing import Any

from xfast.errors import ParameterError
from xfast.events.wire import message_class
from xfast.rpc import Compression, RpcServer, check_address, import_grpc
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
    compression: Compression = "none"
    max_message_bytes: int = 4 << 20
    stats_seconds: float = 5.0

    def __post_init__(self) -> None:
        check_address(self.address, self.metrics_port)
        if not 1 <= self.workers <= 256:
            raise ParameterError(f"workers is {self.workers}, must be in [1, 256]")
        if self.compression not in ("none", "gzip"):
            raise ParameterError(f"compression is {self.compression!r}, must be 'none' or 'gzip'")
        if not 1024 <= self.max_message_bytes <= 1 << 30:
            raise ParameterError(f"max_message_bytes is {self.max_message_bytes}, must be in [1024, 1073741824]")
        if not 0.01 <= self.stats_seconds <= 3600:
            raise ParameterError(f"stats_seconds is {self.stats_seconds}, must be in [0.01, 3600]")


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
        self._grpc = import_grpc()
        self.lookup = lookup
        self.consumers = tuple(consumers)
        self.options = options or ServiceOptions()
        self.clock: Clock = clock or SystemClock()
        self.metrics = ServiceMetrics(lookup, self.consumers)
        self._zstd = threading.local()
        self._pool: ThreadPoolExecutor | None = None
        self._statistics: asyncio.Task[None] | None = None
        self._rpc = RpcServer(
            SERVICE,
            {"GetInNetworkPosts": self._get_in_network_posts},
            message_class("xfast.thunder.GetInNetworkPostsRequest").DESCRIPTOR.file,
            address=self.options.address,
            metrics_port=self.options.metrics_port,
            render_metrics=self.metrics.render,
            max_message_bytes=self.options.max_message_bytes,
            compression=self.options.compression,
        )

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._rpc.port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics page, once started."""
        return self._rpc.metrics_port

    # --- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the sockets. The health service says NOT_SERVING until the server is set ready.

        Raises
        ------
        XfastError
            The address cannot be bound.
        """
        self._pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="xfast-lookup")
        await self._rpc.start()
        self._statistics = asyncio.create_task(self._log_statistics())
        logger.info("listening", extra={"port": self.port, "metrics_port": self.metrics_port})

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether to send traffic here. Requests are answered in either case."""
        await self._rpc.set_ready(ready)

    async def stop(self, grace: float = 10.0) -> None:
        """Become not ready, refuse new requests, let those in flight finish for ``grace`` seconds, close all."""
        if self._pool is None:
            return
        await self.set_ready(False)
        if self._statistics is not None:
            self._statistics.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._statistics
        await self._rpc.stop(grace)
        self._pool.shutdown(wait=True)
        self._pool = None
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

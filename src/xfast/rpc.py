"""A grpc.aio server as every service of xfast runs it: health, reflection, readiness, metrics (extra ``serve``)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from xfast.errors import ParameterError, XfastError

__all__ = ["Compression", "Handler", "ListenOptions", "RemoteError", "RpcServer", "import_grpc"]

logger = logging.getLogger(__name__)

#: ``(request message, grpc context) -> response message``, both as bytes.
Handler = Callable[[bytes, Any], Awaitable[bytes]]
Compression = Literal["none", "gzip"]


class RemoteError(XfastError):
    """A service did not answer; ``code`` is the name of the gRPC status, such as ``"RESOURCE_EXHAUSTED"``."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code


def import_grpc() -> Any:
    """The ``grpc`` module.

    Raises
    ------
    XfastError
        It is not installed; the message says how to get it.
    """
    try:
        import grpc
    except ImportError as error:
        raise XfastError("gRPC services need grpcio: pip install 'xfast[serve]'") from error
    return grpc


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """How a service listens.

    Parameters
    ----------
    address
        ``host:port`` of the gRPC socket; port 0 takes a free one.
    metrics_port
        Port of ``/metrics``, ``/healthz`` and ``/readyz`` over HTTP on the same host; None: none; 0: a free one.
    workers
        Threads that do the work of requests.
    compression
        ``"gzip"`` compresses answers for clients whose gRPC library accepts it.
    max_message_bytes
        Larger requests are refused.

    Raises
    ------
    ParameterError
        A field is out of its range; the message names it.
    """

    address: str = "127.0.0.1:0"
    metrics_port: int | None = None
    workers: int = 2
    compression: Compression = "none"
    max_message_bytes: int = 4 << 20

    #: Field -> lowest and highest value; classes with more fields add theirs.
    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        "workers": (1, 256),
        "max_message_bytes": (1024, 1 << 30),
    }

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ParameterError(f"address is {self.address!r}, must be host:port")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise ParameterError(f"metrics_port is {self.metrics_port}, must be in [0, 65535] or None")
        if self.compression not in ("none", "gzip"):
            raise ParameterError(f"compression is {self.compression!r}, must be 'none' or 'gzip'")
        for name, (low, high) in self.RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ParameterError(f"{name} is {value}, must be in [{low}, {high}]")


class RpcServer:
    """Serves one gRPC service; the base of ours. Health checks say NOT_SERVING until :meth:`set_ready`.

    A handler's exceptions become status codes: those that the service names in ``REFUSALS``, a passed deadline, and
    INTERNAL for anything else, which is logged and not shown to the client.

    Parameters
    ----------
    service
        Full name of the service, such as ``"xfast.thunder.InNetworkPostsService"``.
    methods
        Method name -> handler. Handlers get and give bytes: messages are read and written off the event loop.
    file
        Descriptor of the .proto file that declares the service, for reflection.
    options
        See :class:`ListenOptions`.
    render_metrics
        The text of ``/metrics``.
    observe
        Told of every request at its end: method, name of the status code, seconds.
    monotonic
        Seconds of a clock that never goes back.
    """

    #: Exception -> status code that its message is sent with; the first that fits counts.
    REFUSALS: ClassVar[Mapping[type[Exception], str]] = {}

    def __init__(
        self,
        service: str,
        methods: Mapping[str, Handler],
        file: Any,
        *,
        options: ListenOptions,
        render_metrics: Callable[[], bytes],
        observe: Callable[[str, str, float], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grpc = import_grpc()
        self.service = service
        #: The gRPC port and the port of the metrics page, once started.
        self.port = 0
        self.metrics_port: int | None = None
        self.ready = False
        self._methods = {name: self._answering(name, handler) for name, handler in methods.items()}
        self._file = file
        self._listen = options
        self._render_metrics = render_metrics
        self._observe = observe
        self._monotonic = monotonic
        self._server: Any = None
        self._health: Any = None
        self._http: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the sockets.

        Raises
        ------
        XfastError
            The address cannot be bound.
        """
        from grpc_health.v1 import health, health_pb2_grpc

        grpc = self._grpc
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", self._listen.max_message_bytes), ("grpc.so_reuseport", 0)],
            compression=grpc.Compression.Gzip if self._listen.compression == "gzip" else None,
        )
        handlers = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in self._methods.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self.service, handlers),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._enable_reflection()
        try:
            self.port = self._server.add_insecure_port(self._listen.address)
        except RuntimeError as error:
            raise XfastError(f"address {self._listen.address} cannot be bound: {error}") from None
        await self.set_ready(False)
        await self._server.start()
        if self._listen.metrics_port is not None:
            host = self._listen.address.rpartition(":")[0].strip("[]")
            self._http = await asyncio.start_server(self._answer_http, host, self._listen.metrics_port)
            self.metrics_port = self._http.sockets[0].getsockname()[1]
        about = {"service": self.service, "port": self.port, "metrics_port": self.metrics_port}
        logger.info("listening", extra=about)

    def _enable_reflection(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool
        from grpc_health.v1 import health_pb2
        from grpc_reflection.v1alpha import reflection, reflection_pb2

        pool = descriptor_pool.DescriptorPool()
        for file in (self._file, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            pool.Add(proto)
        names = (self.service, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server, pool=pool)

    async def set_ready(self, ready: bool) -> None:
        """Tell health checks whether to send traffic here. Requests are answered in either case."""
        from grpc_health.v1 import health_pb2

        self.ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", self.service):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Become not ready, refuse new requests, let those in flight finish for ``grace`` seconds, close all."""
        if self._server is None:
            return
        await self.set_ready(False)
        await self._server.stop(grace)
        if self._http is not None:
            self._http.close()
            await self._http.wait_closed()
        self._server = None
        logger.info("stopped", extra={"service": self.service})

    def _answering(self, method: str, handler: Handler) -> Handler:
        """The handler with its errors told as status codes and every answer observed."""
        status = self._grpc.StatusCode

        async def answer(message: bytes, context: Any) -> bytes:
            began = self._monotonic()
            code, details = status.OK, ""
            try:
                return await handler(message, context)
            except TimeoutError:
                code, details = status.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready"
            except asyncio.CancelledError:
                code = status.CANCELLED
                raise
            except tuple(self.REFUSALS) as error:
                name = next(name for kind, name in self.REFUSALS.items() if isinstance(error, kind))
                code, details = status[name], str(error)
            except Exception:
                code, details = status.INTERNAL, f"{method} failed; the server's log says why"
                logger.exception("%s failed", method)
            finally:
                self._observe(method, code.name, self._monotonic() - began)
            await context.abort(code, details)
            raise AssertionError("context.abort() always raises")

        return answer

    async def _answer_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one GET: /metrics, /healthz (the process runs) or /readyz (it may get traffic)."""
        # A client that says nothing sensible gets nothing.
        nonsense = (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError)
        with contextlib.closing(writer), contextlib.suppress(*nonsense):
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
            words = head.split(b" ", 2)
            path = words[1].split(b"?")[0] if len(words) > 2 else b""
            if path == b"/metrics":
                status, body = "200 OK", self._render_metrics()
            elif path == b"/healthz":
                status, body = "200 OK", b"ok\n"
            elif path == b"/readyz":
                status, body = ("200 OK", b"ready\n") if self.ready else ("503 Service Unavailable", b"not ready\n")
            else:
                status, body = "404 Not Found", b"/metrics, /healthz, /readyz\n"
            kind = "text/plain; version=0.0.4; charset=utf-8"
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()

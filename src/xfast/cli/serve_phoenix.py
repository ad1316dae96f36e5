"""``xfast serve phoenix``: ranking and retrieval models over gRPC.

xfast serve phoenix --artifacts artifacts --address 0.0.0.0:50052 --metrics-port 9091
xfast serve phoenix --artifacts artifacts --model Experiment1Lap7=other --precision int8
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfast.errors import ConfigurationError

if TYPE_CHECKING:
    from xfast.phoenix.service.server import PhoenixServer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--artifacts", type=Path, required=True, metavar="DIR|ZIP", help="models for every cluster without its own")
    add("--model", action="append", default=[], metavar="CLUSTER=DIR", help="models of one cluster; may be repeated")
    add("--engine", choices=["auto", "native", "xla", "pallas"], default="auto")
    add("--precision", choices=["float32", "bfloat16", "int8"], default="float32")
    add("--address", default="127.0.0.1:50052", help="default 127.0.0.1:50052")
    add("--metrics-port", type=int, help="/metrics, /healthz and /readyz over HTTP")
    add("--workers", type=int, default=2, help="threads that run models; default 2")
    add("--max-concurrent", type=int, default=64, help="requests at a time; default 64")
    add("--cache-bytes", type=int, default=256 << 20, help="memory for encoded viewers; default 268435456, 256 MiB")
    add("--compression", choices=["none", "gzip"], default="none")
    add("--grace", type=float, default=10.0, metavar="SECONDS", help="for requests at shutdown")
    add("--log-format", choices=["json", "text"], default="json")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from xfast.thunder.logs import configure

    configure(args.log_format, args.log_level)
    return asyncio.run(_serve(_server(args), args.grace))


def _server(args: argparse.Namespace) -> PhoenixServer:
    from xfast.phoenix import Ranker, Retriever, load_artifacts
    from xfast.phoenix.service.server import PhoenixServer, PhoenixServerOptions

    folders = {"*": args.artifacts}
    for word in args.model:
        cluster, equals, folder = word.partition("=")
        if not (cluster and equals and folder):
            raise ConfigurationError(f"--model is {word!r}, must be CLUSTER=DIR")
        folders[cluster] = Path(folder)
    rankers: dict[str, Any] = {}
    retrievers: dict[str, Any] = {}
    for cluster, folder in folders.items():
        artifacts = load_artifacts(folder)
        rankers[cluster] = Ranker(artifacts.ranker, engine=args.engine, precision=args.precision)
        retrievers[cluster] = Retriever(artifacts.retrieval, artifacts.corpus)
    options = PhoenixServerOptions(
        address=args.address,
        metrics_port=args.metrics_port,
        workers=args.workers,
        max_concurrent=args.max_concurrent,
        cache_bytes=args.cache_bytes,
        compression=args.compression,
    )
    return PhoenixServer(rankers, retrievers, options)


async def _serve(server: PhoenixServer, grace: float) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    try:
        await stop.wait()
    finally:
        await server.stop(grace)
    return 0

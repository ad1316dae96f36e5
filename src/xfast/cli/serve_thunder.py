"""``xfast serve thunder``: the post store over gRPC, fed from the event log or from Kafka; or the feeder of its topic.

xfast serve thunder --log data/log --snapshots data/thunder --address 0.0.0.0:50051 --metrics-port 9090
xfast serve thunder --kafka broker:9092 --topic in-network --block 0/4 --snapshots data/thunder
xfast serve thunder --feeder --kafka broker:9092 --topic events --group feeder --to in-network
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xfast.errors import ConfigurationError, XfastError
from xfast.thunder.consumer import Consumer, ConsumerOptions
from xfast.thunder.dead_letters import DeadLetterFile, DeadLetters
from xfast.thunder.feeder import FeederTarget
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.kafka import DeadLetterTopic, KafkaSource, KafkaTopic
from xfast.thunder.logs import configure
from xfast.thunder.lookup import InNetworkLookup
from xfast.thunder.service import ServiceOptions, ThunderServer
from xfast.thunder.snapshot import Restored, SnapshotDirectory
from xfast.thunder.sources import EventSource, LogSource

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    source = parser.add_argument_group("where events come from")
    source.add_argument("--log", type=Path, metavar="DIR", help="embedded event log (NetworkEvents)")
    source.add_argument("--kafka", metavar="HOST:PORT,…", help="bootstrap servers")
    source.add_argument("--topic", help="Kafka topic to read")
    source.add_argument("--block", metavar="I/N", help="read share I (from 0) of N of the partitions; default 0/1")
    source.add_argument("--group", help="consumer group; without --block it assigns the partitions")
    source.add_argument(
        "--encoding",
        choices=["in_network", "network"],
        help="what the messages are; default network for a log, in_network for Kafka",
    )
    source.add_argument("--kafka-option", action="append", default=[], metavar="NAME=VALUE", help="librdkafka setting")

    store = parser.add_argument_group("store")
    store.add_argument("--snapshots", type=Path, metavar="DIR", help="folder of snapshots; without it memory only")
    store.add_argument("--snapshot-seconds", type=float, default=300.0, help="default 300")
    store.add_argument("--retention", type=int, default=172_800, metavar="SECONDS", help="default 172800, 2 days")
    store.add_argument("--trim-seconds", type=float, default=120.0, help="default 120")
    store.add_argument("--min-video-ms", type=int, default=0, help="shortest video that counts; default 0")
    store.add_argument("--quirks", choices=["fixed", "reference"], default="fixed")
    for name, default in (
        ("max-original-per-author", 20),
        ("max-secondary-per-author", 10),
        ("max-video-per-author", 20),
        ("max-scan-per-author", 100),
        ("max-results", 500),
        ("max-video-results", 100),
        ("request-timeout-ms", 0),
    ):
        store.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")

    ingest = parser.add_argument_group("ingestion")
    ingest.add_argument("--batch-size", type=int, default=20_000, help="default 20000")
    ingest.add_argument("--flush-seconds", type=float, default=0.1, help="default 0.1")
    ingest.add_argument(
        "--replay-seconds",
        type=float,
        help="how far back to begin without a snapshot; default: at the beginning, where account states may be",
    )
    ingest.add_argument("--lag-threshold", type=int, default=1_000, help="ready below this lag; default 1000")
    ingest.add_argument("--catch-up-timeout", type=float, default=600.0, help="ready after this many seconds anyway")
    ingest.add_argument("--dead-letters", metavar="FILE|topic:NAME", help="default dead_letters.jsonl in --snapshots")

    service = parser.add_argument_group("service")
    service.add_argument("--address", default="127.0.0.1:50051", help="default 127.0.0.1:50051")
    service.add_argument("--metrics-port", type=int, help="/metrics, /healthz and /readyz over HTTP")
    service.add_argument("--max-concurrent", type=int, default=64, help="requests at a time; default 64")
    service.add_argument("--max-input-list", type=int, default=5_000, help="default 5000")
    service.add_argument("--workers", type=int, default=2, help="threads for lookups; default 2")
    service.add_argument("--compression", choices=["none", "gzip"], default="none")
    service.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="for requests at shutdown")

    feeder = parser.add_argument_group("feeder (is_serving=false)")
    feeder.add_argument("--feeder", action="store_true", help="derive in-network events instead of serving")
    feeder.add_argument("--to", metavar="TOPIC", help="where the compact events go")
    feeder.add_argument("--positions", type=Path, metavar="FILE", help="where a feeder of --log keeps its position")

    logs = parser.add_argument_group("log lines")
    logs.add_argument("--log-format", choices=["json", "text"], default="json")
    logs.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 1 if the ingestion failed."""
    configure(args.log_format, args.log_level)
    consumer_options = ConsumerOptions(
        batch_size=args.batch_size,
        flush_seconds=args.flush_seconds,
        lag_threshold=args.lag_threshold,
        catch_up_timeout=args.catch_up_timeout,
    )
    if args.feeder:
        return asyncio.run(_feed(args, consumer_options))
    return asyncio.run(_serve(args, consumer_options))


async def _serve(args: argparse.Namespace, consumer_options: ConsumerOptions) -> int:
    options = ServiceOptions(
        address=args.address,
        metrics_port=args.metrics_port,
        workers=args.workers,
        compression=args.compression,
    )
    limits = (
        "max_original_per_author", "max_secondary_per_author", "max_video_per_author", "max_scan_per_author",
        "max_results", "max_video_results", "request_timeout_ms", "quirks",
    )  # fmt: skip
    store_options = {name: getattr(args, name) for name in limits} | {"retention_seconds": args.retention}
    source = _source(args)
    snapshots = None if args.snapshots is None else SnapshotDirectory(args.snapshots)
    from xfast.thunder import PostStore

    restored = Restored(PostStore(**store_options), None) if snapshots is None else snapshots.load(**store_options)
    for reason in restored.refused:
        logger.error("snapshot refused, an older one is used: %s", reason)
    store = restored.store
    target = StoreTarget(
        store,
        snapshots,
        restored.position,
        encoding=args.encoding or ("network" if args.log else "in_network"),
        min_video_duration_ms=args.min_video_ms,
        replay_seconds=args.replay_seconds,
        snapshot_seconds=args.snapshot_seconds,
        trim_seconds=args.trim_seconds,
    )
    consumer = Consumer(source, target, _dead_letters(args), consumer_options)
    lookup = InNetworkLookup(store, max_concurrent_requests=args.max_concurrent, max_input_list=args.max_input_list)
    server = ThunderServer(lookup, [consumer], options)
    await server.start()
    try:
        return await _until_stopped(consumer, server.set_ready)
    finally:
        await server.stop(args.grace)


async def _feed(args: argparse.Namespace, consumer_options: ConsumerOptions) -> int:
    if args.kafka is None or args.to is None:
        raise ConfigurationError("--feeder needs --kafka (the brokers) and --to (the topic of the compact events)")
    if args.log is not None and args.positions is None:
        raise ConfigurationError("--feeder with --log needs --positions, the file that keeps its position")
    if args.log is None and args.group is None:
        raise ConfigurationError("--feeder of a Kafka topic needs --group, which keeps its position")
    topic = KafkaTopic(args.kafka, args.to, options=_kafka_options(args))
    target = FeederTarget(
        topic,
        args.positions,
        retention_seconds=args.retention,
        min_video_duration_ms=args.min_video_ms,
        quirks=args.quirks,
    )
    consumer = Consumer(_source(args), target, _dead_letters(args), consumer_options, name="feeder")

    async def ready(_: bool) -> None:  # a feeder serves nobody (THUNDER §5: ready at once)
        return None

    try:
        return await _until_stopped(consumer, ready)
    finally:
        topic.close()


async def _until_stopped(consumer: Consumer, set_ready: Callable[[bool], Any]) -> int:
    """Run the consumer until a signal or its failure; drain it before returning."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    consumer.start()
    ready = False
    try:
        while not stop.is_set() and consumer.failure is None:
            if consumer.ready != ready:
                ready = consumer.ready
                await set_ready(ready)
            # Readiness and failure are looked at ten times a second; a signal ends the wait at once.
            try:
                await asyncio.wait_for(stop.wait(), 0.1)
            except TimeoutError:
                continue
    finally:
        await set_ready(False)
        await asyncio.to_thread(consumer.stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if consumer.failure is None:
        return 0
    if isinstance(consumer.failure, XfastError):
        raise consumer.failure
    return 1


def _source(args: argparse.Namespace) -> EventSource:
    if args.log is not None and (args.feeder or args.kafka is None):
        return LogSource(args.log)
    if args.log is not None:
        raise ConfigurationError("--log and --kafka exclude each other, except with --feeder")
    if args.kafka is None or args.topic is None:
        raise ConfigurationError("name a source: --log DIR, or --kafka HOST:PORT with --topic NAME")
    block = None
    if args.block is not None:
        try:
            index, blocks = (int(word) for word in args.block.split("/"))
        except ValueError:
            raise ConfigurationError(f"--block is {args.block!r}, must be I/N such as 0/4") from None
        block = (index, blocks)
    resume: Any = "group" if args.feeder else "positions"
    return KafkaSource(
        args.kafka, args.topic, block=block, group=args.group, resume=resume, options=_kafka_options(args)
    )


def _kafka_options(args: argparse.Namespace) -> dict[str, str]:
    options = {}
    for word in args.kafka_option:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigurationError(f"--kafka-option is {word!r}, must be NAME=VALUE")
        options[name] = value
    return options


def _dead_letters(args: argparse.Namespace) -> DeadLetters:
    where: str | None = args.dead_letters
    if where is not None and where.startswith("topic:"):
        if args.kafka is None:
            raise ConfigurationError("--dead-letters topic:NAME needs --kafka")
        return DeadLetterTopic(KafkaTopic(args.kafka, where.removeprefix("topic:"), options=_kafka_options(args)))
    if where is not None:
        return DeadLetterFile(where)
    folder = args.snapshots or args.log
    if folder is None:
        raise ConfigurationError("name a place for dead letters: --dead-letters FILE or topic:NAME")
    return DeadLetterFile(Path(folder) / "dead_letters.jsonl")

"""Ingestion: bytes as Kafka carries them to columns and into the store; the event log; rivals in the same run.

Rivals: protobuf's own Python classes (upb) building an object per event, and SQLite as the embedded durable log.

``python -m benchmarks.ingest`` prints CPU time per operation instead (interleaved, best of five), which says more than
wall clock on a busy machine; ``--kafka HOST:PORT`` adds the way through a real broker.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

NOW = 1_700_000_000
EVENTS = 200_000


def _messages(count: int = EVENTS) -> list[bytes]:
    """Creates by 50,000 Zipf authors over six hours, a fifth of them replies, one delete in twenty."""
    from xfast.events import message_class

    rng = np.random.default_rng(5)
    authors = rng.zipf(1.2, count) % 50_000
    times = NOW - 1 - np.sort(rng.integers(0, 6 * 3600, count))[::-1]
    kinds = rng.random(count)
    event_class = message_class("xfast.thunder.InNetworkEvent")
    base = 1 << 60
    result = []
    for i, (author, when, kind) in enumerate(zip(authors.tolist(), times.tolist(), kinds.tolist(), strict=True)):
        event = event_class()
        if kind < 0.05:
            event.tweet_delete_event.post_id = base + max(0, i - 1000)
            event.tweet_delete_event.deleted_at = when
        else:
            post = event.tweet_create_event
            post.post_id, post.author_id, post.created_at = base + i, author, when
            if kind < 0.25:
                post.in_reply_to_post_id, post.in_reply_to_user_id = base + max(0, i - 50), author
                post.conversation_id = base + max(0, i - 50)
        result.append(event.SerializeToString())
    return result


class Decode:
    """From a list of messages to columns."""

    def setup_cache(self) -> list[bytes]:
        return _messages()

    def setup(self, messages: list[bytes]) -> None:
        from xfast.events import message_class
        from xfast.thunder import _wire

        self.wire = _wire
        self.event_class = message_class("xfast.thunder.InNetworkEvent")

    def time_native(self, messages: list[bytes]) -> None:
        self.wire.decode_in_network(messages)

    def time_rival_protobuf_objects(self, messages: list[bytes]) -> None:
        parse = self.event_class.FromString
        for message in messages:
            post = parse(message).tweet_create_event
            self.last = (post.post_id, post.author_id, post.created_at)


class Apply:
    """From messages to a store that serves them: decode, insert, delete."""

    number, repeat, rounds = 1, 3, 1

    def setup_cache(self) -> list[bytes]:
        return _messages()

    def setup(self, messages: list[bytes]) -> None:
        from xfast.thunder import ManualClock, PostStore
        from xfast.thunder.ingest import StoreTarget
        from xfast.thunder.sources import MemorySource

        clock = ManualClock(NOW)
        self.target = StoreTarget(PostStore(clock=clock), clock=clock)
        source = MemorySource()
        source.put(list(messages))
        self.batches: list[Any] = []
        while (batch := source.poll(20_000, 0)) is not None:
            self.batches.append(batch)

    def time_bytes_to_store(self, messages: list[bytes]) -> None:
        for batch in self.batches:
            self.target.apply(batch)

    def track_events_per_second(self, messages: list[bytes]) -> float:
        began = time.process_time()
        self.time_bytes_to_store(messages)
        return len(messages) / (time.process_time() - began)

    track_events_per_second.unit = "events/s of CPU time"  # type: ignore[attr-defined]


class Log:
    """The embedded event log against SQLite (WAL, synchronous=NORMAL), 100 events per transaction."""

    number, repeat, rounds = 1, 3, 1

    def setup_cache(self) -> list[bytes]:
        return _messages(50_000)

    def setup(self, messages: list[bytes]) -> None:
        from xfast.thunder import EventLog

        self.log_class = EventLog
        self.folder = Path(tempfile.mkdtemp())
        self.chunks = [messages[at : at + 100] for at in range(0, len(messages), 100)]

    def teardown(self, messages: list[bytes]) -> None:
        shutil.rmtree(self.folder)

    def time_append(self, messages: list[bytes]) -> None:
        with self.log_class(self.folder / "log", fsync="interval") as log:
            for chunk in self.chunks:
                log.append(chunk)

    def time_rival_sqlite(self, messages: list[bytes]) -> None:
        database = sqlite3.connect(self.folder / "log.sqlite")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("CREATE TABLE log (offset INTEGER PRIMARY KEY, payload BLOB)")
        for chunk in self.chunks:
            with database:
                database.executemany("INSERT INTO log (payload) VALUES (?)", [(message,) for message in chunk])
        database.close()


class Follow:
    """Reading the log back as columns, checksums and all."""

    number, repeat, rounds = 1, 3, 1

    def setup_cache(self) -> list[bytes]:
        return _messages()

    def setup(self, messages: list[bytes]) -> None:
        from xfast.thunder import EventLog, LogReader, _wire

        self.wire, self.reader_class = _wire, LogReader
        self.folder = tempfile.mkdtemp()
        with EventLog(self.folder, fsync="never") as log:
            log.append(messages)

    def teardown(self, messages: list[bytes]) -> None:
        shutil.rmtree(self.folder)

    def time_read_and_decode(self, messages: list[bytes]) -> None:
        with self.reader_class(self.folder) as reader:
            for batch in reader:
                self.wire.decode_in_network(batch.buffer, batch.starts, batch.sizes)


class Service:
    """The messages of the gRPC service: 2,000 followees in, 500 posts out."""

    def setup(self) -> None:
        from xfast.events import message_class
        from xfast.thunder import _wire

        self.wire = _wire
        rng = np.random.default_rng(1)
        ids = rng.integers(1 << 59, 1 << 60, 2000)
        self.request_class = message_class("xfast.thunder.GetInNetworkPostsRequest")
        self.response_class = message_class("xfast.thunder.GetInNetworkPostsResponse")
        self.request = self.request_class(user_id=1, following_user_ids=ids.tolist()).SerializeToString()
        flags = np.zeros(500, bool)
        self.columns = dict.fromkeys(("post_id", "author_id", "created_at"), ids[:500])
        for name in ("in_reply_to_post_id", "in_reply_to_user_id", "source_post_id", "source_user_id"):
            self.columns[name] = np.zeros(500, np.int64)
        self.columns["conversation_id"] = ids[:500]
        self.flags = dict.fromkeys(("is_retweet", "is_reply", "has_video"), flags)

    def time_native(self) -> None:
        self.wire.decode_request(self.request)
        self.wire.encode_response(**self.columns, **self.flags)

    def time_rival_protobuf_objects(self) -> None:
        np.array(self.request_class.FromString(self.request).following_user_ids, np.uint64)
        rows = zip(*(self.columns[name].tolist() for name in ("post_id", "author_id", "created_at")), strict=True)
        response = self.response_class()
        for post_id, author_id, created_at in rows:
            response.posts.add(post_id=post_id, author_id=author_id, created_at=created_at, conversation_id=post_id)
        response.SerializeToString()


def through_kafka(bootstrap: str, messages: list[bytes]) -> float:
    """CPU seconds per event from a topic of four partitions to a store that has caught up, librdkafka included."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    from xfast.thunder import Consumer, ConsumerOptions, ManualClock, PostStore, StoreTarget
    from xfast.thunder.dead_letters import DeadLetterFile
    from xfast.thunder.kafka import KafkaSource

    topic = f"bench-{time.time_ns()}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for created in admin.create_topics([NewTopic(topic, 4, 1)]).values():
        created.result(30)
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for index, message in enumerate(messages):
        producer.produce(topic, message, partition=index % 4)
        if index % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    clock = ManualClock(NOW)
    target = StoreTarget(PostStore(clock=clock), clock=clock)
    letters = DeadLetterFile(Path(tempfile.gettempdir()) / "unused.jsonl")
    consumer = Consumer(KafkaSource(bootstrap, topic), target, letters, ConsumerOptions(lag_threshold=0))
    began = time.process_time()
    consumer.start()
    assert consumer.wait_ready(120)
    used = time.process_time() - began
    assert consumer.stats.messages == len(messages)
    consumer.stop()
    admin.delete_topics([topic])[topic].result(30)
    return used / len(messages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", metavar="HOST:PORT")
    args = parser.parse_args()
    for suite, per in ((Decode, EVENTS), (Apply, EVENTS), (Log, 50_000), (Follow, EVENTS), (Service, 1)):
        bench = suite()
        cache = (bench.setup_cache(),) if hasattr(bench, "setup_cache") else ()
        names = [name for name in dir(bench) if name.startswith("time_")]
        best = dict.fromkeys(names, float("inf"))
        for _ in range(5):
            for name in names:
                bench.setup(*cache)
                began = time.process_time()
                getattr(bench, name)(*cache)
                best[name] = min(best[name], time.process_time() - began)
                if hasattr(bench, "teardown"):
                    bench.teardown(*cache)
        for name, seconds in best.items():
            print(f"{suite.__name__}.{name:32} {seconds / per * 1e6:9.3f} us CPU per {'event' if per > 1 else 'call'}")
    if args.kafka:
        messages = _messages()
        best_kafka = min(through_kafka(args.kafka, messages) for _ in range(3))
        print(f"through_kafka {best_kafka * 1e6:28.3f} us CPU per event")


if __name__ == "__main__":
    main()

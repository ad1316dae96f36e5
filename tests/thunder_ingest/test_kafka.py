"""Kafka as a source and as a target: against the mock cluster, and the real broker where brokers restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.thunder_ingest.conftest import Broker
from tests.thunder_ingest.model import NOW, OPTIONS, check, create_event, events, visible
from tests.thunder_ingest.test_consumer import Letters, eventually
from xfast.errors import DataError, ParameterError, SnapshotError
from xfast.events import Account, AccountState, Delete, Follow, Media, MediaKind, NetworkEvent, Post
from xfast.thunder import ManualClock, PostStore
from xfast.thunder.consumer import Consumer, ConsumerOptions
from xfast.thunder.dead_letters import DeadLetter
from xfast.thunder.feeder import FeederTarget
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.kafka import DeadLetterTopic, KafkaSource, KafkaTopic, partition_block
from xfast.thunder.snapshot import SnapshotDirectory
from xfast.thunder.sources import Messages

FAST = ConsumerOptions(batch_size=500, flush_seconds=0.02, lag_threshold=0, retry_seconds=0.01)


def new_store() -> PostStore:
    return PostStore(clock=ManualClock(NOW), **OPTIONS)


def ingest(source: KafkaSource, store: PostStore, **target: object) -> tuple[Consumer, Letters]:
    letters = Letters()
    return Consumer(source, StoreTarget(store, clock=ManualClock(NOW), **target), letters, FAST), letters  # type: ignore[arg-type]


def drain(source: KafkaSource, count: int, seconds: float = 20.0) -> list[tuple[str, int]]:
    """Poll until `count` messages have come; their origins."""
    origins: list[tuple[str, int]] = []
    deadline = time.monotonic() + seconds
    while len(origins) < count and time.monotonic() < deadline:
        messages = source.poll(1000, 0.05)
        if messages is not None:
            origins += [messages.origins[i] for i in range(len(messages))]
    return origins


def test_backlog_live_events_and_lag(mock_kafka: Broker) -> None:
    messages = events(600)
    topic = mock_kafka.topic()
    mock_kafka.send(topic, messages[:400])
    store = new_store()
    consumer, letters = ingest(KafkaSource(mock_kafka.bootstrap, topic), store)
    consumer.start()
    assert consumer.wait_ready(30)
    assert consumer.stats.messages == 400
    mock_kafka.send(topic, [*messages[400:], None, b"\xff"])
    eventually(lambda: consumer.stats.messages == 602)
    eventually(lambda: sum(v or 0 for v in consumer.stats.lag.values()) == 0)
    assert sorted(consumer.stats.lag) == [f"{topic}[{p}]" for p in range(4)]
    consumer.stop()
    check(store, messages)
    assert [each.partition for each in letters.letters] == [f"{topic}[1]"]


def test_time_flush_brings_in_what_never_fills_a_batch(mock_kafka: Broker) -> None:
    topic = mock_kafka.topic()
    store = new_store()
    options = ConsumerOptions(batch_size=1_000_000, flush_seconds=0.05)
    target = StoreTarget(store, clock=ManualClock(NOW))
    consumer = Consumer(KafkaSource(mock_kafka.bootstrap, topic), target, Letters(), options)
    consumer.start()
    assert consumer.wait_ready(30)
    mock_kafka.send(topic, [create_event(1, 1, NOW - 5)])
    sent = time.monotonic()
    eventually(lambda: visible(store) != [])
    assert time.monotonic() - sent < 1.0
    consumer.stop()


def test_blocks_cover_all_partitions_once() -> None:
    for partitions in range(1, 20):
        for blocks in range(1, 8):
            parts = [partition_block(partitions, i, blocks) for i in range(blocks)]
            assert [p for part in parts for p in part] == list(range(partitions))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for index, blocks in ((0, 0), (3, 3), (-1, 2)):
        with pytest.raises(ParameterError):
            partition_block(4, index, blocks)


def test_two_blocks_share_a_topic(mock_kafka: Broker) -> None:
    topic = mock_kafka.topic()
    mock_kafka.send(topic, events(80))
    seen: list[set[str]] = []
    for index in range(2):
        source = KafkaSource(mock_kafka.bootstrap, topic, block=(index, 2))
        source.start({}, 0)
        seen.append({partition for partition, _ in drain(source, 40)})
        source.close()
    assert seen == [{f"{topic}[0]", f"{topic}[1]"}, {f"{topic}[2]", f"{topic}[3]"}]


def test_a_block_without_partitions_is_refused(mock_kafka: Broker) -> None:
    topic = mock_kafka.topic()
    consumer, _ = ingest(KafkaSource(mock_kafka.bootstrap, topic, block=(0, 5)), new_store())
    consumer.start()
    with pytest.raises(ParameterError, match="has 4 partitions, too few"):
        consumer.wait_ready(30)
    assert consumer.state == "failed"


def test_positions_resume_where_they_stand(mock_kafka: Broker) -> None:
    topic = mock_kafka.topic()
    mock_kafka.send(topic, events(10), partition=1)
    source = KafkaSource(mock_kafka.bootstrap, topic)
    source.start({f"{topic}[1]": 7}, 0)
    assert drain(source, 3) == [(f"{topic}[1]", offset) for offset in (7, 8, 9)]
    assert source.poll(10, 0.05) is None
    source.close()
    beyond = KafkaSource(mock_kafka.bootstrap, topic)
    with pytest.raises(SnapshotError, match=r"position 11 lies beyond the end of the partition, 10"):
        beyond.start({f"{topic}[1]": 11}, 0)
    beyond.close()
    other = KafkaSource(mock_kafka.bootstrap, topic)
    with pytest.raises(SnapshotError, match="the snapshot belongs to another"):
        other.start({"another[0]": 1}, 0)


def test_a_topic_that_comes_later(kafka: Broker) -> None:
    name = f"xfast-late-{time.monotonic_ns()}"
    store = new_store()
    consumer, _ = ingest(KafkaSource(kafka.bootstrap, name), store)
    consumer.start()
    assert not consumer.wait_ready(0.5)
    kafka._make_topic(name, 4)
    kafka.send(name, events(20))
    assert consumer.wait_ready(30)
    eventually(lambda: consumer.stats.messages == 20)
    consumer.stop()


def test_group_members_share_and_take_over(kafka: Broker, tmp_path: Path) -> None:
    """Two members of a group: each message reaches one of the stores; when one leaves, the other goes on for it."""
    topic = kafka.topic()
    first_part, second_part = events(200), events(200, first=201)
    kafka.send(topic, first_part)
    stores, consumers = [], []
    for _ in range(2):
        store = new_store()
        consumer, _ = ingest(KafkaSource(kafka.bootstrap, topic, group=topic), store)
        consumer.start()
        stores.append(store)
        consumers.append(consumer)
    for consumer in consumers:
        assert consumer.wait_ready(40)
    eventually(lambda: sorted(len(c.stats.lag) for c in consumers) == [2, 2], 40)
    consumers[0].stop()
    kafka.send(topic, second_part)
    eventually(lambda: len(consumers[1].stats.lag) == 4, 40)
    eventually(lambda: sum(v or 0 for v in consumers[1].stats.lag.values()) == 0, 40)
    consumers[1].stop()
    # The survivor has read every partition from the beginning: its store is whole, though nothing was handed over.
    check(stores[1], [*first_part, *second_part])


def test_restart_goes_on_from_the_snapshot_not_from_the_group(kafka: Broker, tmp_path: Path) -> None:
    topic = kafka.topic()
    messages = events(400)
    kafka.send(topic, messages[:200])
    snapshots = SnapshotDirectory(tmp_path)
    consumer, _ = ingest(
        KafkaSource(kafka.bootstrap, topic, block=(0, 1), group=topic), new_store(), snapshots=snapshots
    )
    consumer.start()
    assert consumer.wait_ready(30)
    consumer.stop()
    kafka.send(topic, messages[200:])
    restored = snapshots.load(clock=ManualClock(NOW), **OPTIONS)
    store, position = restored.store, restored.position
    consumer, _ = ingest(KafkaSource(kafka.bootstrap, topic, block=(0, 1), group=topic), store, positions=position)
    consumer.start()
    assert consumer.wait_ready(30)
    assert consumer.stats.messages == 200
    consumer.stop()
    check(store, messages)


def test_the_group_shows_how_far_a_store_is(mock_kafka: Broker) -> None:
    """Nobody waits for the answer to such a commit, but closing does not lose it."""
    import confluent_kafka

    topic = mock_kafka.topic()
    mock_kafka.send(topic, events(40))
    source = KafkaSource(mock_kafka.bootstrap, topic, block=(0, 1), group=topic)
    source.start({}, 0.0)
    origins = drain(source, 40)
    positions = {name: 1 + max(offset for other, offset in origins if other == name) for name, _ in origins}
    source.commit(positions)
    source.close()
    reader = confluent_kafka.Consumer({"bootstrap.servers": mock_kafka.bootstrap, "group.id": topic})
    asked = [confluent_kafka.TopicPartition(topic, number) for number in range(4)]
    committed = {f"{topic}[{each.partition}]": each.offset for each in reader.committed(asked, timeout=10)}
    reader.close()
    assert committed == positions and sum(positions.values()) == 40


def test_expired_offsets_are_stepped_over_and_counted(kafka: Broker) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    topic = kafka.topic()
    kafka.send(topic, events(100), partition=0)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(topic, 0, 60)]).values():
        done.result(30)
    source = KafkaSource(kafka.bootstrap, topic)
    source.start({f"{topic}[0]": 10}, 0)
    assert drain(source, 40) == [(f"{topic}[0]", offset) for offset in range(60, 100)]
    assert source.expired == 50
    source.close()


def test_offsets_that_expire_while_it_reads(kafka: Broker) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    topic = kafka.topic()
    for _ in range(3):
        kafka.send(topic, events(50), partition=0)
    # Fetches are so small that the source cannot have more than the first batch when the others go.
    small = {"queued.min.messages": 1, "queued.max.messages.kbytes": 1, "fetch.message.max.bytes": 1000}
    source = KafkaSource(kafka.bootstrap, topic, options=small)
    source.start({f"{topic}[0]": 0}, 0)
    assert drain(source, 1)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.delete_records([TopicPartition(topic, 0, 140)]).values():
        done.result(30)
    origins = drain(source, 10**6, 3.0)
    assert origins[-10:] == [(f"{topic}[0]", offset) for offset in range(140, 150)]
    assert source.expired > 0
    source.close()


def test_starting_at_a_time(kafka: Broker) -> None:
    topic = kafka.topic()
    kafka.send(topic, events(5), partition=0)
    time.sleep(0.05)
    middle = time.time()
    time.sleep(0.05)
    kafka.send(topic, events(5), partition=0)
    for since, expected in ((middle, [5, 6, 7, 8, 9]), (time.time() + 60, [])):
        source = KafkaSource(kafka.bootstrap, topic)
        source.start({}, since)
        assert [offset for _, offset in drain(source, max(1, len(expected)), 2.0)] == expected
        source.close()


def services(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "services"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_broker_crash_in_mid_stream_loses_and_duplicates_nothing(kafka: Broker) -> None:
    messages = events(6000)
    topic = kafka.topic()
    store = new_store()
    consumer, letters = ingest(KafkaSource(kafka.bootstrap, topic), store)
    consumer.start()
    assert consumer.wait_ready(30)
    target = KafkaTopic(kafka.bootstrap, topic, timeout=60)
    failures: list[BaseException] = []

    def produce() -> None:
        try:
            for at in range(0, len(messages), 200):
                target.send(messages[at : at + 200], partitions=[i % 4 for i in range(200)])
                time.sleep(0.02)
        except BaseException as error:
            failures.append(error)

    producer = threading.Thread(target=produce)
    producer.start()
    eventually(lambda: consumer.stats.messages > 400)
    services("restart", "--kill", "kafka")
    producer.join(60)
    assert not producer.is_alive() and not failures
    eventually(lambda: consumer.stats.messages >= len(messages), 40)
    assert consumer.state == "ready" and consumer.failure is None
    consumer.stop()
    target.close()
    check(store, messages)
    assert not letters.letters


def test_a_broker_that_hangs_is_waited_for(kafka: Broker) -> None:
    """A cut network as the client sees it: the connection stands, nothing comes through."""
    pid = int((ROOT / ".services" / "kafka" / "pid").read_text())
    messages = events(300)
    topic = kafka.topic()
    kafka.send(topic, messages[:100])
    store = new_store()
    source = KafkaSource(kafka.bootstrap, topic, options={"socket.timeout.ms": 1000, "session.timeout.ms": 6000})
    consumer, _ = ingest(source, store)
    consumer.start()
    assert consumer.wait_ready(30)
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: source.errors > 0)
        assert consumer.state == "ready"
    finally:
        os.kill(pid, signal.SIGCONT)
    kafka.send(topic, messages[100:])
    eventually(lambda: consumer.stats.messages == 300)
    consumer.stop()
    check(store, messages)


def network_event(body: object, number: int = 0) -> bytes:
    return NetworkEvent(body, time_ms=(NOW - 10) * 1000, event_id=number).to_bytes()  # type: ignore[arg-type]


def test_feeder_maps_network_events_to_the_compact_topic(mock_kafka: Broker, tmp_path: Path) -> None:
    wide, compact = mock_kafka.topic(), mock_kafka.topic()
    bodies = [
        Post(1, 1, media=(Media(MediaKind.VIDEO, 20_000),)),
        Post(2, 2),
        Post(3, 3),
        Post(4, 4, nullcast=True),
        Follow(1, 2),
        Delete(3),
        Account(2, AccountState.SUSPENDED),
    ]
    mock_kafka.send(wide, [*(network_event(body) for body in bodies), b"\xff"], partition=0)
    topic, letters = KafkaTopic(mock_kafka.bootstrap, compact), Letters()
    target = FeederTarget(topic, tmp_path / "positions", min_video_duration_ms=10_000, clock=ManualClock(NOW))
    feeder = Consumer(KafkaSource(mock_kafka.bootstrap, wide), target, letters, FAST, name="feeder")
    feeder.start()
    assert feeder.wait_ready(30)
    feeder.stop()
    assert target.counts["creates"] == 3 and target.counts["nullcast"] == 1 and target.counts["other"] == 1
    assert len(letters.letters) == 1
    assert target.positions() == {f"{wide}[0]": 8}

    store = new_store()
    server, _ = ingest(KafkaSource(mock_kafka.bootstrap, compact), store)
    server.start()
    assert server.wait_ready(30)
    assert [post for post, _, _ in visible(store)] == [1]
    assert store.account_state(2) == "suspended"
    assert bool(store.in_network(9, [1])["has_video"][0])
    assert server.stats.messages == 4 + 4  # the account state went to each of four partitions
    server.stop()

    again = FeederTarget(topic, tmp_path / "positions", clock=ManualClock(NOW))
    feeder = Consumer(KafkaSource(mock_kafka.bootstrap, wide), again, Letters(), FAST, name="feeder")
    feeder.start()
    assert feeder.wait_ready(30)
    assert feeder.stats.messages == 0  # it goes on behind what it has sent
    feeder.stop()
    topic.close()


def test_messages_that_the_brokers_do_not_take_are_an_error() -> None:
    topic = KafkaTopic("127.0.0.1:1", "nowhere", timeout=0.5)
    with pytest.raises(DataError, match="1 messages were not taken"):
        topic.send([b"x"])
    topic.close()


def test_dead_letters_go_to_a_topic_with_their_reason(mock_kafka: Broker) -> None:
    name = mock_kafka.topic()
    letters = DeadLetterTopic(KafkaTopic(mock_kafka.bootstrap, name))
    letters.put([DeadLetter(b"\xff", "t[1]", 5, "ends inside a field", 12.0)])
    letters.close()
    source = KafkaSource(mock_kafka.bootstrap, name)
    source.start({}, 0)
    messages: Messages | None = None
    deadline = time.monotonic() + 20
    while messages is None and time.monotonic() < deadline:
        messages = source.poll(10, 0.1)
    source.close()
    assert messages is not None and messages.payload(0) == b"\xff"


def test_bad_arguments() -> None:
    with pytest.raises(ParameterError, match="resume is 'x'"):
        KafkaSource("h:1", "t", resume="x")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="index is 2"):
        KafkaSource("h:1", "t", block=(2, 2))
    with pytest.raises(ParameterError, match="retention_seconds is 0"):
        FeederTarget(None, retention_seconds=0)  # type: ignore[arg-type]

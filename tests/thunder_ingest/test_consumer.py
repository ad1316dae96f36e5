"""The consumer over the in-memory source and the embedded log: batches, retries, dead letters, catch-up, positions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.thunder_ingest.model import NOW, OPTIONS, account_event, check, create_event, events, visible
from xfast.errors import ParameterError, SnapshotError
from xfast.events import Account, AccountState, Delete, NetworkEvent, Post
from xfast.thunder import ManualClock, PostStore
from xfast.thunder.consumer import Consumer, ConsumerOptions
from xfast.thunder.dead_letters import DeadLetter, DeadLetterFile
from xfast.thunder.event_log import EventLog
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.snapshot import SnapshotDirectory
from xfast.thunder.sources import LogSource, MemorySource, Messages, decode_positions, encode_positions

FAST = ConsumerOptions(batch_size=100, flush_seconds=0.01, lag_threshold=0, retry_seconds=0.001)


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Letters:
    """Dead letters in a list; ``broken`` makes storing them fail."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.broken = False
        self.closed = False

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if self.broken:
            raise OSError("disk full")
        self.letters.extend(letters)

    def close(self) -> None:
        self.closed = True


def setup(source: object, store: PostStore, **target: object) -> tuple[Consumer, Letters]:
    clock = ManualClock(NOW)
    letters = Letters()
    options = target.pop("options", FAST)
    consumer = Consumer(
        source,  # type: ignore[arg-type]
        StoreTarget(store, clock=clock, **target),  # type: ignore[arg-type]
        letters,
        options,  # type: ignore[arg-type]
    )
    return consumer, letters


def new_store() -> PostStore:
    return PostStore(clock=ManualClock(NOW), **OPTIONS)


def test_backlog_then_live_events_reach_the_store() -> None:
    messages = events(1000)
    source, store = MemorySource(3), new_store()
    for i, message in enumerate(messages[:700]):
        source.put([message], int(str(i)[-1]) % 3)
    consumer, letters = setup(source, store)
    consumer.start()
    assert consumer.wait_ready(20)
    assert consumer.ready and consumer.stats.messages == 700
    source.put(messages[700:], 1)
    eventually(lambda: consumer.stats.messages == 1000)
    consumer.stop()
    check(store, messages)
    assert consumer.state == "stopped" and not letters.letters and letters.closed
    assert source.committed == consumer.positions
    with pytest.raises(ParameterError, match="started before"):
        consumer.start()


def test_unreadable_messages_become_dead_letters_and_the_rest_is_applied() -> None:
    messages = events(50)
    source, store = MemorySource(), new_store()
    source.put([*messages[:10], b"\x0a\x05\x08", None, b"", *messages[10:], b"\x7a\x00"])
    consumer, letters = setup(source, store)
    consumer.start()
    consumer.wait_ready(20)
    consumer.stop()
    check(store, messages)
    assert [(each.payload, each.partition, each.offset) for each in letters.letters] == [
        (b"\x0a\x05\x08", "0", 10),
        (b"", "0", 12),
    ]
    assert "ends inside a field" in letters.letters[0].reason and "no event inside" in letters.letters[1].reason
    assert consumer.stats.dead_letters == 2
    target = consumer.target
    assert isinstance(target, StoreTarget)
    assert target.counts["malformed"] == 2 and target.counts["empty"] == 1 and target.counts["unknown"] == 1


class Fragile(StoreTarget):
    """Fails for chosen messages, or a number of times for all."""

    poison: frozenset[bytes] = frozenset()
    failures = 0
    calls = 0

    def apply(self, messages: Messages) -> Sequence[tuple[int, str]]:
        self.calls += 1
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("not now")
        if any(messages.payload(i) in self.poison for i in range(len(messages))):
            raise RuntimeError("cannot digest this")
        return super().apply(messages)


def fragile(source: MemorySource, store: PostStore) -> tuple[Consumer, Letters, Fragile]:
    target, letters = Fragile(store, clock=ManualClock(NOW)), Letters()
    return Consumer(source, target, letters, FAST), letters, target


def test_a_failing_batch_is_tried_again() -> None:
    messages = events(40)
    source, store = MemorySource(), new_store()
    source.put(messages)
    consumer, letters, target = fragile(source, store)
    target.failures = 2
    consumer.start()
    assert consumer.wait_ready(20)
    consumer.stop()
    check(store, messages)
    assert consumer.stats.retries == 2 and not letters.letters


def test_what_goes_on_failing_is_isolated_and_dead_lettered() -> None:
    messages = events(100)
    source, store = MemorySource(), new_store()
    source.put(messages)
    consumer, letters, target = fragile(source, store)
    target.poison = frozenset([messages[17], messages[18], messages[99]])
    consumer.start()
    assert consumer.wait_ready(20)
    consumer.stop()
    check(store, [m for m in messages if m not in target.poison])
    assert [each.offset for each in letters.letters] == [17, 18, 99]
    assert all("failed 3 times" in each.reason and "cannot digest" in each.reason for each in letters.letters)


def test_without_a_place_for_dead_letters_the_consumer_waits_and_moves_nothing() -> None:
    source, store = MemorySource(), new_store()
    source.put([b"\xff"])
    consumer, letters = setup(source, store)
    letters.broken = True
    consumer.start()
    assert not consumer.wait_ready(0.2)
    assert consumer.positions == {} and consumer.failure is None
    letters.broken = False
    assert consumer.wait_ready(20)
    consumer.stop()
    assert len(letters.letters) == 1 and consumer.positions == {"0": 1}


def test_stopping_while_dead_letters_cannot_be_stored_loses_nothing(tmp_path: Path) -> None:
    source, store = MemorySource(), new_store()
    source.put([create_event(1, 1, NOW - 5), b"\xff"])
    snapshots = SnapshotDirectory(tmp_path)
    consumer, letters = setup(source, store, snapshots=snapshots)
    letters.broken = True
    consumer.start()
    assert not consumer.wait_ready(0.1)
    consumer.stop()
    assert consumer.positions == {} and snapshots.paths() == []


def test_an_empty_source_is_caught_up_at_once() -> None:
    consumer, _ = setup(MemorySource(), new_store())
    consumer.start()
    assert consumer.wait_ready(5)
    consumer.stop()


class Flood(MemorySource):
    """Always more to come, and sometimes nobody knows how much."""

    def __init__(self, lag: int | None) -> None:
        super().__init__()
        self.fixed = lag

    def lag(self) -> dict[str, int | None]:
        return {"0": self.fixed}


@pytest.mark.parametrize("lag", [None, 10**9])
def test_catch_up_cannot_hang(lag: int | None) -> None:
    options = ConsumerOptions(flush_seconds=0.01, catch_up_timeout=0.2)
    consumer, _ = setup(Flood(lag), new_store(), options=options)
    consumer.start()
    assert consumer.wait_ready(20)
    assert consumer.stats.catch_up_timed_out
    consumer.stop()


def test_readiness_waits_for_the_lag_threshold() -> None:
    source = Flood(11)
    options = ConsumerOptions(flush_seconds=0.01, lag_threshold=10)
    consumer, _ = setup(source, new_store(), options=options)
    consumer.start()
    assert not consumer.wait_ready(0.1) and consumer.state == "catching_up"
    source.fixed = 10
    assert consumer.wait_ready(5)
    consumer.stop()


class Broken(MemorySource):
    def poll(self, max_messages: int, timeout: float) -> Messages | None:
        raise RuntimeError("a bug")


def test_a_bug_in_the_source_is_reported_not_swallowed() -> None:
    consumer, letters = setup(Broken(), new_store())
    consumer.start()
    with pytest.raises(RuntimeError, match="a bug"):
        consumer.wait_ready(5)
    assert consumer.state == "failed" and not consumer.ready and letters.closed
    consumer.stop()


def test_state_and_positions_are_one(tmp_path: Path) -> None:
    """A store restored from a snapshot goes on exactly where that snapshot stood."""
    messages = events(900)
    source, snapshots = MemorySource(), SnapshotDirectory(tmp_path)
    source.put(messages[:300])
    consumer, _ = setup(source, new_store(), snapshots=snapshots)
    consumer.start()
    consumer.wait_ready(20)
    consumer.stop()
    source.put(messages[300:])
    restored = snapshots.load(clock=ManualClock(NOW), **OPTIONS)
    store, position = restored.store, restored.position
    check(store, messages[:300])
    assert position is not None and decode_positions(position) == {"0": 300}
    consumer, _ = setup(source, store, snapshots=snapshots, positions=position)
    consumer.start()
    assert consumer.wait_ready(20)
    assert consumer.stats.messages == 600
    consumer.stop()
    check(store, messages)


def test_snapshots_are_taken_while_it_runs(tmp_path: Path) -> None:
    source, snapshots = MemorySource(), SnapshotDirectory(tmp_path, keep=3)
    clock = ManualClock(NOW)
    store = new_store()
    target = StoreTarget(store, snapshots, clock=clock, snapshot_seconds=10)
    consumer = Consumer(source, target, Letters(), FAST)
    consumer.start()
    for number in range(1, 6):
        source.put([create_event(number, 1, NOW - 5)])
        eventually(lambda number=number: consumer.stats.messages == number)  # type: ignore[misc]
        clock.advance(11)
        eventually(lambda number=number: consumer.stats.saves == number)  # type: ignore[misc]
    clock.advance(11)
    consumer.stop()
    assert consumer.stats.saves == 5  # nothing new, nothing to save
    assert [path.stem[-1] for path in snapshots.paths()] == ["5", "4", "3"]


def test_a_damaged_snapshot_is_refused_and_the_older_one_used(tmp_path: Path) -> None:
    snapshots = SnapshotDirectory(tmp_path)
    store = new_store()
    for number in (1, 2):
        store.insert({"post_id": [number], "author_id": [1], "created_at": [NOW - 9]}, now=NOW)
        snapshots.save(store, encode_positions({"0": number}))
    newest = snapshots.paths()[0]
    newest.write_bytes(newest.read_bytes()[:-7])
    restored = snapshots.load(clock=ManualClock(NOW), **OPTIONS)
    loaded, position = restored.store, restored.position
    assert position is not None and decode_positions(position) == {"0": 1}
    assert [post for post, _, _ in visible(loaded)] == [1]
    assert len(restored.refused) == 1 and str(newest) in restored.refused[0]
    for path in snapshots.paths():
        path.write_bytes(b"")
    with pytest.raises(SnapshotError, match="none of 2 snapshots can be read"):
        snapshots.load(clock=ManualClock(NOW), **OPTIONS)


def test_snapshot_that_cannot_be_written_is_counted_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, snapshots = MemorySource(), SnapshotDirectory(tmp_path)
    clock = ManualClock(NOW)
    consumer = Consumer(source, StoreTarget(new_store(), snapshots, clock=clock), Letters(), FAST)
    source.put(events(10))
    fail = threading.Event()
    fail.set()
    real = SnapshotDirectory.save

    def save(self: SnapshotDirectory, store: PostStore, position: bytes) -> Path:
        if fail.is_set():
            raise SnapshotError("disk full")
        return real(self, store, position)

    monkeypatch.setattr(SnapshotDirectory, "save", save)
    consumer.start()
    consumer.wait_ready(20)
    clock.advance(301)
    eventually(lambda: consumer.stats.save_failures == 1)
    assert source.committed == {}
    fail.clear()
    consumer.stop()
    assert consumer.stats.saves == 1 and source.committed == {"0": 10}


def test_network_events_from_the_embedded_log(tmp_path: Path) -> None:
    def event(body: object, seconds: int = NOW - 10) -> bytes:
        return NetworkEvent(body, time_ms=seconds * 1000, event_id=1).to_bytes()  # type: ignore[arg-type]

    with EventLog(tmp_path / "log") as log:
        log.append([event(Post(1, 1)), event(Post(2, 2)), event(Post(3, 3)), event(Post(4, 1, nullcast=True))])
        log.append([event(Delete(1)), event(Account(2, AccountState.SUSPENDED))])
        store = new_store()
        consumer, letters = setup(LogSource(tmp_path / "log"), store, encoding="network")
        consumer.start()
        assert consumer.wait_ready(20)
        assert [post for post, _, _ in visible(store)] == [3]
        before = time.monotonic()
        log.append([event(Account(2, AccountState.ACTIVE)), event(Account(3, AccountState.DEACTIVATED))])
        eventually(lambda: [post for post, _, _ in visible(store)] == [2])
        assert time.monotonic() - before < 1.0  # account state is honoured within a second
        log.append([event(Account(2, AccountState.ERASED)), event(Account(3, AccountState.UNKNOWN))])
        eventually(lambda: visible(store) == [])
        consumer.stop()
        assert not letters.letters
        assert isinstance(consumer.target, StoreTarget)
        assert consumer.target.counts["unknown_states"] == 1 and consumer.target.counts["nullcast"] == 1


def test_the_last_state_of_an_account_in_a_batch_wins() -> None:
    source, store = MemorySource(), new_store()
    source.put([create_event(i, i, NOW - 5) for i in (1, 2, 3)])
    source.put([account_event(user, state) for user, state in [(1, 2), (2, 2), (1, 1), (2, 4), (3, 2), (3, 1)]])
    consumer, _ = setup(source, store)
    consumer.start()
    consumer.wait_ready(20)
    consumer.stop()
    assert sorted(post for post, _, _ in visible(store)) == [1, 3]


def test_a_store_without_positions_may_begin_later() -> None:
    source = MemorySource()
    since: list[float] = []
    source.start = lambda positions, at: since.append(at)  # type: ignore[method-assign]
    for replay, expected in ((None, 0.0), (3600.0, NOW - 3600.0)):
        consumer, _ = setup(source, new_store(), replay_seconds=replay)
        consumer.start()
        assert consumer.wait_ready(20)
        consumer.stop()
        assert since[-1] == expected
    with pytest.raises(ParameterError, match="replay_seconds is -1"):
        setup(source, new_store(), replay_seconds=-1)


def test_trim_runs_once_serving() -> None:
    source, clock = MemorySource(), ManualClock(NOW)
    store = PostStore(retention_seconds=100, clock=clock, **OPTIONS)
    consumer = Consumer(source, StoreTarget(store, clock=clock, trim_seconds=60), Letters(), FAST)
    source.put([create_event(1, 1, NOW - 50)])
    consumer.start()
    consumer.wait_ready(20)
    clock.advance(61)
    eventually(lambda: store.stats()["posts"] == 0)
    consumer.stop()


def test_positions_of_another_source_are_refused(tmp_path: Path) -> None:
    EventLog(tmp_path / "a").close()
    EventLog(tmp_path / "b").close()
    other = LogSource(tmp_path / "a").partition
    for source, positions in ((LogSource(tmp_path / "b"), {other: 0}), (MemorySource(), {"7": 1})):
        consumer, _ = setup(source, new_store(), positions=encode_positions(positions))
        consumer.start()
        with pytest.raises(SnapshotError):
            consumer.wait_ready(5)
        consumer.stop()
    for data in (b"x", b"{}", b'{"version": 2, "positions": {}}', b'{"version": 1, "positions": {"0": -1}}', b"[]"):
        with pytest.raises(SnapshotError, match="not one of this release"):
            decode_positions(data)


def test_log_source_starts_at_the_segment_in_use_at_a_time(tmp_path: Path) -> None:
    now = [100.0]
    with EventLog(tmp_path, clock=lambda: now[0], segment_bytes=1 << 16) as log:
        log.segment_bytes = 32
        for at in (100.0, 200.0, 300.0):
            now[0] = at
            log.append([str(at).encode()])
        source = LogSource(tmp_path)
        for since, expected in ((0, 3), (250.0, 2), (300.0, 1), (9999.0, 1)):
            source.start({}, since)
            messages = source.poll(10, 0)
            total = 0
            while messages is not None:
                total += len(messages)
                messages = source.poll(10, 0)
            assert total == expected
        source.close()


def test_dead_letter_file_survives_a_torn_line(tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "deep" / "letters.jsonl")
    assert list(file.read()) == []
    first = DeadLetter(b"\x00\xff", "t[3]", 17, "because", 1.5)
    file.put([first])
    with file.path.open("ab") as torn:
        torn.write(b'{"partition": "t[3]", "off')
    file.put([DeadLetter(b"", "t[3]", 18, "again", 2.5)])
    assert list(file.read()) == [first, DeadLetter(b"", "t[3]", 18, "again", 2.5)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("flush_seconds", 0), ("lag_threshold", -1), ("attempts", 0), ("catch_up_timeout", -1.0)],
)
def test_bad_options(name: str, value: float) -> None:
    with pytest.raises(ParameterError, match=f"{name} is {value}"):
        ConsumerOptions(**{name: value})  # type: ignore[arg-type]

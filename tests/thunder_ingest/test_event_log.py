"""The event log: what was appended is read back; crashes, damage, retention and erasing keep their promises."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError, SnapshotError
from xfast.events import Account, AccountState, Delete, Engagement, Follow, Label, LabelCategory, NetworkEvent, Post
from xfast.thunder.event_log import EventLog
from xfast.thunder.log_files import RECORD_HEADER, SEGMENT_HEADER, segment_bases, segment_path
from xfast.thunder.log_reader import LogReader, log_end


def everything(folder: Path, position: int = 0, **options: object) -> list[bytes]:
    with LogReader(folder, position, **options) as reader:  # type: ignore[arg-type]
        return [message for batch in reader for message in batch.messages()]


def test_appended_messages_come_back_in_order_with_offsets_and_times(tmp_path: Path) -> None:
    with EventLog(tmp_path, clock=lambda: 12.5) as log:
        assert log.append([b"a", b"", b"ccc"]) == 3
        assert log.append([b"d"]) == 4
        with log.reader(1) as reader:
            batch = reader.read()
            assert batch is not None
            assert batch.messages() == [b"", b"ccc", b"d"]
            assert batch.offsets.tolist() == [1, 2, 3]
            assert batch.times_ms.tolist() == [12500] * 3
            assert batch.next == 4 == reader.position
            assert reader.read() is None
            assert reader.lag() == 0
            log.append([b"e"])
            assert reader.lag() == 1
            more = reader.read(timeout=1.0)
            assert more is not None and more.messages() == [b"e"]


@given(st.lists(st.lists(st.binary(max_size=300), max_size=20), max_size=30), st.data())
def test_any_messages_over_many_segments_survive_reopening(tmp_path_factory, batches, data) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("log")
    log = EventLog(folder, segment_bytes=1 << 16, fsync="never")
    log.segment_bytes = 400  # smaller than the argument allows: many segments out of little data
    expected: list[bytes] = []
    for batch in batches:
        assert log.append(batch) == len(expected) + len(batch)
        expected += batch
        if data.draw(st.booleans()):
            log.close()
            log = EventLog(folder, fsync="never")
            log.segment_bytes = 400
            assert log.end == len(expected)
    log.close()
    assert everything(folder) == expected
    start = data.draw(st.integers(0, len(expected)))
    assert everything(folder, start) == expected[start:]
    small = [m for b in LogReaderSmall(folder) for m in b]
    assert small == expected


class LogReaderSmall:
    """Batches of at most three records through a chunk that most batches do not fit into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self):  # type: ignore[no-untyped-def]
        with LogReader(self.folder, chunk_bytes=4096) as reader:
            while (batch := reader.read(3)) is not None:
                yield batch.messages()


def test_record_larger_than_the_chunk(tmp_path: Path) -> None:
    big = os.urandom(10_000_000)
    with EventLog(tmp_path, fsync="never") as log:
        log.append([b"x", big, b"y"])
    assert everything(tmp_path, chunk_bytes=4096) == [b"x", big, b"y"]
    assert log_end(tmp_path) == 3


@pytest.mark.parametrize("cut", range(1, RECORD_HEADER + 5))
def test_torn_tail_is_cut_off_and_the_log_goes_on(tmp_path: Path, cut: int) -> None:
    with EventLog(tmp_path, fsync="never") as log:
        log.append([b"one", b"two", b"three"])
    path = segment_path(tmp_path, 0)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - cut)
    with LogReader(tmp_path) as reader, EventLog(tmp_path) as log:
        assert log.recovered_bytes == RECORD_HEADER + 5 - cut
        batch = reader.read()
        assert batch is not None and batch.messages() == [b"one", b"two"]
        assert log.append([b"four"]) == 3
        batch = reader.read()
        assert batch is not None and batch.messages() == [b"four"]


def test_zeros_and_garbage_behind_the_end_are_a_torn_tail(tmp_path: Path) -> None:
    for tail in (bytes(4096), b"\xff" * 100, os.urandom(1000)):
        with EventLog(tmp_path, fsync="never") as log:
            end = log.append([b"kept"])
        with segment_path(tmp_path, 0).open("ab") as file:
            file.write(tail)
        with LogReader(tmp_path, end) as follower:
            assert follower.read() is None  # waits for the writer to clean up
        with EventLog(tmp_path) as log:
            assert log.end == end


def test_damage_with_intact_records_behind_is_not_taken_for_a_crash(tmp_path: Path) -> None:
    with EventLog(tmp_path, fsync="never") as log:
        log.append([b"one", b"two", b"three"])
    path = segment_path(tmp_path, 0)
    data = bytearray(path.read_bytes())
    data[SEGMENT_HEADER + RECORD_HEADER + 3 + RECORD_HEADER] ^= 1  # in the payload of "two"
    path.write_bytes(data)
    with pytest.raises(SnapshotError, match="intact records follow"):
        EventLog(tmp_path)
    with pytest.raises(SnapshotError, match="damaged record"):
        everything(tmp_path)
    with LogReader(tmp_path, on_damage="skip") as reader:
        assert [m for b in reader for m in b.messages()] == [b"one", b"three"]
        assert reader.damaged == 1
    with EventLog(tmp_path, on_damage="skip") as log:
        assert log.append([b"four"]) == 4
    assert everything(tmp_path, on_damage="skip") == [b"one", b"three", b"four"]


@given(st.data())
def test_any_flipped_bit_is_noticed(tmp_path_factory, data) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("flip")
    messages = [b"alpha", b"beta", b"gamma"]
    with EventLog(folder, fsync="never") as log:
        log.append(messages)
    path = segment_path(folder, 0)
    content = bytearray(path.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    if bit // 8 < SEGMENT_HEADER:
        with pytest.raises(SnapshotError):
            everything(folder)
        return
    kept = everything(folder, on_damage="skip")
    assert len(kept) == 2 and all(message in messages for message in kept)


def test_one_writer_many_readers(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        with pytest.raises(SnapshotError, match="another writer"):
            EventLog(tmp_path)
        log.append([b"x"])
        with log.reader() as one, log.reader() as two:
            assert one.read() is not None and two.read() is not None
    EventLog(tmp_path).close()


def test_group_commit_gives_every_thread_its_own_offsets_and_shares_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = 0
    real = os.fdatasync

    def counted(fd: int) -> None:
        nonlocal flushes
        flushes += 1
        real(fd)

    monkeypatch.setattr(os, "fdatasync", counted)
    log = EventLog(tmp_path, fsync="always")
    acknowledged: dict[bytes, int] = {}

    def work(name: int) -> None:
        for i in range(50):
            message = f"{name}:{i}".encode()
            end = log.append([message])
            assert log.durable >= end
            acknowledged[message] = end - 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    messages = everything(tmp_path)
    assert len(messages) == 400
    assert all(messages[offset] == message for message, offset in acknowledged.items())
    assert flushes < 400


def test_interval_policy_becomes_durable_by_itself(tmp_path: Path) -> None:
    with EventLog(tmp_path, fsync="interval", fsync_interval=0.01) as log:
        end = log.append([b"x"])
        for _ in range(500):
            if log.durable == end:
                break
            threading.Event().wait(0.01)
        assert log.durable == end


def test_failed_flush_is_never_reported_as_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path, fsync="always")
    log.append([b"safe"])

    def broken(fd: int) -> None:
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="I/O"):
            log.append([b"lost"])
    with pytest.raises(SnapshotError, match="refused"):
        log.append([b"later"])
    log.close()


def test_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EventLog(tmp_path, fsync="never") as log:
        log.append([b"before"])
        real = os.pwrite

        def full(fd: int, data: memoryview, at: int) -> int:
            if len(data) > 10:
                return real(fd, data[:10], at)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(OSError, match="No space"):
                log.append([b"too much"])
        assert log.append([b"after"]) == 2
    assert everything(tmp_path) == [b"before", b"after"]


def test_retention_by_age_and_size(tmp_path: Path) -> None:
    now = [1000.0]
    with EventLog(tmp_path, retention_seconds=60, clock=lambda: now[0]) as log:
        log.append([b"old"])
        now[0] += 61
        assert log.retain() == 0  # the segment is closed now; its youngest record is not older than its end
        log.append([b"new"])
        now[0] += 61
        assert log.retain() == 1
        assert log.first == 1
        with pytest.raises(SnapshotError, match="have expired, the oldest is 1"):
            everything(tmp_path, 0)
        with LogReader(tmp_path, 0, on_expired="skip") as reader:
            assert [m for b in reader for m in b.messages()] == [b"new"]
            assert reader.expired == 1
    with EventLog(tmp_path / "size", retention_bytes=1000, segment_bytes=1 << 16) as log:
        log.segment_bytes = 300
        for _ in range(40):
            log.append([bytes(50)])
        assert log.retain() > 0
        assert log.bytes() <= 1000
        assert log.end == 40


def test_reader_survives_the_removal_of_its_segment(tmp_path: Path) -> None:
    with EventLog(tmp_path, retention_bytes=1, fsync="never") as log:
        log.segment_bytes = 64
        log.append([b"a"])
        with log.reader() as reader:
            assert reader.read(1) is not None
            for name in (b"b", b"c", b"d"):
                log.append([name])
            log.retain()
            batch = reader.read()
            assert batch is not None


def test_erase_removes_a_user_and_nothing_else(tmp_path: Path) -> None:
    gone, kept = 7, 8
    bodies = [
        (Post(100, gone, text="mine"), True),
        (Post(101, kept, in_reply_to_post_id=100, in_reply_to_user_id=gone), False),
        (Delete(100, gone), True),
        (Follow(gone, kept), True),
        (Follow(kept, gone), True),
        (Follow(kept, 9), False),
        (Engagement(gone, 101, 1), True),
        (Engagement(kept, 100, 1), False),
        (Label("NSFW", LabelCategory.SAFETY, user_id=gone), True),
        (Label("NSFW", LabelCategory.SAFETY, post_id=101), False),
        (Account(gone, AccountState.ERASED), False),
    ]
    messages = [NetworkEvent(body, 1000 + i, i + 1).to_bytes() for i, (body, _) in enumerate(bodies)]
    expected = [m for m, (_, erased) in zip(messages, bodies, strict=True) if not erased]
    with EventLog(tmp_path, fsync="never") as log:
        for message in messages:
            log.append([message])
        with log.reader() as open_before:
            assert open_before.read(1) is not None
            assert log.erase([gone]) == 6
            assert log.erase([gone]) == 0
            rest = [m for b in open_before for m in b.messages()]
            assert len(rest) == len(messages) - 1
        log.append([b"next"])
        assert log.end == len(messages) + 1
    assert everything(tmp_path) == [*expected, b"next"]
    assert everything(tmp_path, 6) == [*expected[2:], b"next"]
    assert b"mine" not in b"".join(segment_path(tmp_path, base).read_bytes() for base in segment_bases(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fsync": "sometimes"}, "fsync is 'sometimes'"),
        ({"fsync_interval": 0}, r"fsync_interval is 0, must be in \(0, 60\]"),
        ({"segment_bytes": 10}, "segment_bytes is 10, must be in"),
        ({"retention_bytes": 0}, "retention_bytes is 0"),
        ({"on_damage": "ignore"}, "on_damage is 'ignore'"),
    ],
)
def test_bad_arguments(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        EventLog(tmp_path, **options)  # type: ignore[arg-type]


def test_positions_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="there is no event log here"):
        LogReader(tmp_path / "absent")
    with EventLog(tmp_path) as log:
        log.append([b"x"])
        with pytest.raises(SnapshotError, match="position 2 lies beyond the end of the log, 1"):
            log.reader(2)
        with pytest.raises(ParameterError, match="position is -1"):
            log.reader(-1)
        with pytest.raises(ParameterError, match="at most 16777216"):
            log.append([bytes((16 << 20) + 1)])
    with pytest.raises(SnapshotError, match="closed"):
        log.append([b"x"])

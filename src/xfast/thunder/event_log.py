"""The embedded event log: append-only segment files, one writer, many readers, nothing acknowledged is lost.

    log = EventLog("data/log", fsync="always")
    end = log.append([event.to_bytes() for event in events])     # returns when the records are as durable as promised
    with log.reader("earliest") as reader: ...

A record reaches the operating system before `append` returns, whatever the policy, so ``kill -9`` loses nothing.
``fsync`` decides about power cuts: ``"always"`` waits for the disk (threads that append at the same time share one
wait), ``"interval"`` flushes every ``fsync_interval`` seconds, ``"never"`` leaves it to the operating system.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError
from xfast.ids import as_uint64
from xfast.thunder import _wire
from xfast.thunder.log_files import (
    MAX_MESSAGE_BYTES,
    RECORD_HEADER,
    SEGMENT_HEADER,
    Head,
    create_segment,
    identity,
    read_segment,
    segment_bases,
    segment_header,
    segment_path,
    sync_folder,
)
from xfast.thunder.log_reader import LogReader, scan_file

logger = logging.getLogger(__name__)

FSYNC = ("always", "interval", "never")


class EventLog:
    """The writer of the log in ``folder``, which is created if it is not there.

    Parameters
    ----------
    folder
        Where the files are.
    fsync, fsync_interval
        Policy, and seconds between two flushes of ``"interval"``.
    segment_bytes
        Size at which a new segment is begun.
    retention_seconds, retention_bytes
        What :meth:`retain` keeps; None keeps everything.
    on_damage
        A torn tail (what a crash leaves) is always cut off. Damage with intact records behind it is not a crash:
        ``"raise"`` refuses to open, ``"skip"`` keeps the intact records.
    clock
        Seconds since the epoch; stamps records and drives the retention.

    Raises
    ------
    ParameterError
        An argument is out of range.
    SnapshotError
        Another process writes this log, or the log is damaged.

    Notes
    -----
    All methods may be called from several threads.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fsync: Literal["always", "interval", "never"] = "interval",
        fsync_interval: float = 0.05,
        segment_bytes: int = 64 << 20,
        retention_seconds: float | None = None,
        retention_bytes: int | None = None,
        on_damage: Literal["raise", "skip"] = "raise",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if fsync not in FSYNC:
            raise ParameterError(f"fsync is {fsync!r}, must be one of {', '.join(FSYNC)}")
        if not 0.0 < fsync_interval <= 60.0:
            raise ParameterError(f"fsync_interval is {fsync_interval}, must be in (0, 60] seconds")
        if not 1 << 16 <= segment_bytes <= 1 << 30:
            raise ParameterError(f"segment_bytes is {segment_bytes}, must be in [65536, 1073741824]")
        for name, value in (("retention_seconds", retention_seconds), ("retention_bytes", retention_bytes)):
            if value is not None and value <= 0:
                raise ParameterError(f"{name} is {value}, must be positive or None")
        if on_damage not in ("raise", "skip"):
            raise ParameterError(f"on_damage is {on_damage!r}, must be 'raise' or 'skip'")
        self.folder = Path(folder)
        self.fsync, self.fsync_interval, self.segment_bytes = fsync, fsync_interval, segment_bytes
        self.retention_seconds, self.retention_bytes = retention_seconds, retention_bytes
        self._clock = clock
        self._write = threading.Lock()  # the active segment
        self._files = threading.Lock()  # which segments there are: retention and erasing exclude each other
        self._synced = threading.Condition()
        self._syncing = False
        self._failure: OSError | None = None
        self._closed = False
        self._stop = threading.Event()
        self._flusher: threading.Thread | None = None
        self.recovered_bytes = 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._acquire()
        try:
            self.identity = identity(self.folder, create=True)
            self._head = Head(self.folder, create=True)
            self._open_active(on_damage)
        except BaseException:
            os.close(self._lock)
            raise
        self._durable = self._end
        self._head.write(self._end, self._durable)

    def _acquire(self) -> int:
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise SnapshotError(f"{self.folder}: another writer has this event log open") from None
        return fd

    def _open_active(self, on_damage: str) -> None:
        for left in (*self.folder.glob("*.new"), *self.folder.glob("*.compact")):
            left.unlink()  # what a crash left between creating and renaming
        bases = segment_bases(self.folder)
        if not bases:
            self._active, self._end = 0, 0
            self._fd = create_segment(self.folder, 0, self._now_ms())
            self._size, self._created_ms = SEGMENT_HEADER, self._now_ms()
            return
        for base in bases:
            self._created_ms = read_segment(segment_path(self.folder, base)).created_ms
        self._active = bases[-1]
        path = segment_path(self.folder, self._active)
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._recover(path, on_damage)
        except BaseException:
            os.close(self._fd)
            raise

    def _recover(self, path: Path, on_damage: str) -> None:
        """Find the end of the last segment and cut off what a crash left of an unfinished record."""
        good, self._end = SEGMENT_HEADER, self._active
        for first, behind, batch in scan_file(path):
            if first != good and on_damage == "raise":
                raise SnapshotError(
                    f"{path}: bytes {good} to {first} are damaged and intact records follow, which no crash leaves; "
                    "open with on_damage='skip' to keep the intact records"
                )
            good, self._end = behind, batch.next
        size = os.fstat(self._fd).st_size
        if good < size:
            self.recovered_bytes = size - good
            os.ftruncate(self._fd, good)
            os.fsync(self._fd)
            logger.warning("%s: cut %d bytes of an unfinished record at the end", path, size - good)
        self._size = good

    # --- writing --------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The offset that the next record will get."""
        return self._end

    @property
    def durable(self) -> int:
        """Records below this offset survive a power cut."""
        return self._durable

    @property
    def first(self) -> int:
        """The oldest offset that the retention has left."""
        return segment_bases(self.folder)[0]

    def append(self, messages: Sequence[bytes]) -> int:
        """Append messages in order and return the offset behind the last one.

        Raises
        ------
        ParameterError
            A message is larger than 16 MiB.
        SnapshotError
            The log is closed, or the disk refused an earlier write.
        OSError
            The disk refuses this write; none of the messages is in the log.
        """
        for index, message in enumerate(messages):
            if len(message) > MAX_MESSAGE_BYTES:
                raise ParameterError(f"message {index} has {len(message)} bytes, must be at most {MAX_MESSAGE_BYTES}")
        with self._write:
            self._check()
            if self._size >= self.segment_bytes:
                self._roll()
            data = _wire.frame(messages, self._end, self._now_ms())
            try:
                _write_all(self._fd, data, self._size)
            except OSError as error:
                self._undo(error)
                raise
            self._size += len(data)
            self._end += len(messages)
            end = self._end
            self._head.write(end, self._durable)
        if self.fsync == "always":
            self._sync_to(end)
        elif self.fsync == "interval" and self._flusher is None:
            self._start_flusher()
        return end

    def sync(self) -> None:
        """Make everything appended so far durable."""
        self._check()
        self._sync_to(self._end)

    def _undo(self, error: OSError) -> None:
        """Take back a half-written record; if even that fails the log refuses further writes."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._failure = error

    def _check(self) -> None:
        if self._closed:
            raise SnapshotError(f"{self.folder}: the event log is closed")
        if self._failure is not None:
            raise SnapshotError(f"{self.folder}: the disk refused an earlier write ({self._failure}); reopen the log")

    def _sync_to(self, offset: int) -> None:
        """Wait until everything below ``offset`` is on disk. One of the waiting threads flushes for all of them."""
        while True:
            with self._synced:
                self._synced.wait_for(lambda: not self._syncing)
                self._check()
                if self._durable >= offset:
                    return
                self._syncing = True
            try:
                self._flush()
            finally:
                with self._synced:
                    self._syncing = False
                    self._synced.notify_all()

    def _flush(self) -> None:
        with self._write:
            target = self._end
            fd = os.dup(self._fd)  # a roll may close the original meanwhile
        try:
            os.fdatasync(fd)
        except OSError as error:
            # The kernel has dropped the dirty pages: a second fsync would report success for lost data.
            self._failure = error
            raise
        finally:
            os.close(fd)
        self._durable = max(self._durable, target)
        self._head.write(self._end, self._durable)

    def _start_flusher(self) -> None:
        with self._synced:
            if self._flusher is None and not self._closed:
                self._flusher = threading.Thread(target=self._flush_regularly, name="xfast-log-flush", daemon=True)
                self._flusher.start()

    def _flush_regularly(self) -> None:
        while not self._stop.wait(self.fsync_interval):
            if self._durable < self._end:
                try:
                    self._sync_to(self._end)
                except (OSError, SnapshotError) as error:
                    logger.error("%s: flushing failed, the log takes no more events: %s", self.folder, error)
                    return

    def _roll(self) -> None:
        """Begin a new segment; the write lock is held."""
        if self.fsync != "never":
            os.fdatasync(self._fd)
            self._durable = max(self._durable, self._end)
        created = self._now_ms()
        fd = create_segment(self.folder, self._end, created)
        os.close(self._fd)
        self._fd, self._active, self._size, self._created_ms = fd, self._end, SEGMENT_HEADER, created

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    # --- keeping the house ----------------------------------------------------------------------------------------

    def reader(self, position: int | Literal["earliest", "latest"] = "earliest") -> LogReader:
        """Return a reader at ``position``; see :class:`LogReader` for more choices."""
        return LogReader(self.folder, position)

    def bytes(self) -> int:
        """Return the size of all segments."""
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))

    def retain(self) -> int:
        """Remove the oldest segments beyond ``retention_seconds`` or ``retention_bytes``; return how many.

        A segment goes when its youngest record has expired, so up to one segment more than asked for stays.
        """
        with self._files:
            oldest = self._now_ms() - int((self.retention_seconds or 0) * 1000)
            with self._write:
                self._check()
                expired = self.retention_seconds is not None and self._created_ms < oldest
                if expired and self._end > self._active:
                    self._roll()
            segments = [read_segment(segment_path(self.folder, base)) for base in segment_bases(self.folder)]
            sizes = [segment.path.stat().st_size for segment in segments]
            total, removed = sum(sizes), 0
            for segment, later, size in zip(segments, segments[1:], sizes, strict=False):
                old = self.retention_seconds is not None and later.created_ms < oldest
                large = self.retention_bytes is not None and total > self.retention_bytes
                if not old and not large:
                    break
                segment.path.unlink()
                total, removed = total - size, removed + 1
            if removed:
                sync_folder(self.folder)
            return removed

    def erase(self, user_ids: npt.ArrayLike) -> int:
        """Remove every event of these users from the log and return how many there were.

        Events that a user made (posts, deletes, engagements, impressions, settings, the profile), relations with the
        user at either end and labels on the user go; the account events stay, they are what keeps the account erased.
        The offsets of all other records stay. Segments are replaced one by one, each atomically: after a crash, erase
        again. Readers that have an old segment open keep reading it until they leave it.
        """
        users = np.unique(as_uint64(np.atleast_1d(user_ids), name="user_ids"))
        with self._files:
            with self._write:
                self._check()
                if self._end > self._active:
                    self._roll()
            closed = [base for base in segment_bases(self.folder) if base < self._active]
            return sum(self._rewrite(segment_path(self.folder, base), users) for base in closed)

    def _rewrite(self, path: Path, users: npt.NDArray[np.uint64]) -> int:
        kept: list[bytes] = []
        removed = 0
        for _, _, batch in scan_file(path):
            drop = _wire.concerns_users(batch.buffer, batch.starts, batch.sizes, users)
            removed += int(drop.sum())
            view = memoryview(batch.buffer)
            records = zip(batch.starts[~drop].tolist(), batch.sizes[~drop].tolist(), strict=True)
            kept.append(b"".join(view[start - RECORD_HEADER : start + size] for start, size in records))
        if removed == 0:
            return 0
        segment = read_segment(path)
        temporary = path.with_suffix(".compact")
        with temporary.open("wb") as file:
            file.write(segment_header(segment.base, segment.created_ms))
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(self.folder)
        return removed

    def close(self) -> None:
        """Make everything durable and let go of the files; closing twice is fine."""
        self._stop.set()
        if self._flusher is not None:
            self._flusher.join()
        with self._write:
            if self._closed:
                return
            self._closed = True
            try:
                if self._failure is None:
                    os.fsync(self._fd)
                    self._durable = self._end
                    self._head.write(self._end, self._durable)
            finally:
                os.close(self._fd)
                self._head.close()
                os.close(self._lock)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.close()


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written

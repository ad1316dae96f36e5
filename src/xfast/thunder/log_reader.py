"""Reading an event log: batches of records as one buffer and columns of positions, from any process, while it grows."""

from __future__ import annotations

import os
import struct
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError
from xfast.thunder import _wire
from xfast.thunder.log_files import (
    MAX_MESSAGE_BYTES,
    RECORD_HEADER,
    SEGMENT_HEADER,
    Head,
    identity,
    opened,
    read_segment,
    segment_bases,
    segment_path,
)

Int64 = npt.NDArray[np.int64]
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, eq=False)
class LogBatch:
    """Consecutive records: message ``i`` is ``buffer[starts[i]:starts[i] + sizes[i]]`` and has offset ``offsets[i]``.

    ``times_ms`` is when each was appended (Unix milliseconds); ``next`` is the position behind the last record.
    """

    buffer: bytes
    starts: Int64
    sizes: Int64
    offsets: Int64
    times_ms: Int64
    next: int

    def __len__(self) -> int:
        return len(self.starts)

    def messages(self) -> list[bytes]:
        """Return the payloads as Python bytes."""
        view = memoryview(self.buffer)
        return [bytes(view[a : a + n]) for a, n in zip(self.starts.tolist(), self.sizes.tolist(), strict=True)]


class LogReader:
    """A cursor over the log in ``folder``. It follows the writer, in this process or another.

    Parameters
    ----------
    folder
        The log.
    position
        Offset of the first record to read; ``"earliest"`` or ``"latest"``.
    on_damage
        What to do at a record whose checksum is wrong while intact ones follow: ``"raise"``, or ``"skip"`` to the next
        intact record, counted in ``damaged``.
    on_expired
        What to do when the retention has removed the records from ``position`` on: ``"raise"``, or ``"skip"`` to the
        oldest record, the distance counted in ``expired``.

    Raises
    ------
    SnapshotError
        There is no log, or the position lies beyond its end (the log was truncated or is another one).
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        position: int | Literal["earliest", "latest"] = "earliest",
        *,
        on_damage: Literal["raise", "skip"] = "raise",
        on_expired: Literal["raise", "skip"] = "raise",
        chunk_bytes: int = 4 << 20,
    ) -> None:
        for name, value in (("on_damage", on_damage), ("on_expired", on_expired)):
            if value not in ("raise", "skip"):
                raise ParameterError(f"{name} is {value!r}, must be 'raise' or 'skip'")
        if chunk_bytes < 4096:
            raise ParameterError(f"chunk_bytes is {chunk_bytes}, must be at least 4096")
        self.folder = Path(folder)
        self.identity = identity(self.folder, create=False)
        self.damaged = 0
        self.expired = 0
        self._on_damage, self._on_expired, self._chunk = on_damage, on_expired, chunk_bytes
        self._fd = -1
        self._base = 0
        self._at = 0
        self._head = Head(self.folder)
        try:
            self.position = self._resolve(position)
        except BaseException:
            self._head.close()
            raise

    def _resolve(self, position: int | str) -> int:
        if position == "earliest":
            return (segment_bases(self.folder) or [0])[0]
        end = log_end(self.folder)
        if position == "latest":
            return end
        if not isinstance(position, int) or position < 0:
            raise ParameterError(f"position is {position!r}, must be an offset, 'earliest' or 'latest'")
        if position > end:
            raise SnapshotError(
                f"{self.folder}: position {position} lies beyond the end of the log, {end}; "
                "the log was truncated or is not the one the position was taken from"
            )
        return position

    def read(self, max_messages: int = 65_536, *, timeout: float = 0.0) -> LogBatch | None:
        """Return the next records, or None if none came within ``timeout`` seconds.

        Raises
        ------
        SnapshotError
            The log is damaged or the position has expired, and the matching ``on_…`` says ``"raise"``.
        """
        if max_messages < 1:
            raise ParameterError(f"max_messages is {max_messages}, must be at least 1")
        deadline = time.monotonic() + timeout
        while True:
            batch = self._read_some(max_messages)
            left = deadline - time.monotonic()
            if batch is not None or left <= 0:
                return batch
            time.sleep(min(0.002, left))

    def lag(self) -> int:
        """Return how many offsets lie between this position and the end of the log."""
        return max(0, self._head.end() - self.position)

    def close(self) -> None:
        """Release the files."""
        self._leave_segment()
        self._head.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[LogBatch]:
        """Iterate over the batches up to the present end."""
        while (batch := self.read()) is not None:
            yield batch

    # --- inside ---------------------------------------------------------------------------------------------------

    def _leave_segment(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _enter_segment(self) -> bool:
        """Open the segment that holds the position."""
        while True:
            bases = segment_bases(self.folder)
            if not bases:
                return False
            if self.position < bases[0]:
                if self._on_expired == "raise":
                    raise SnapshotError(
                        f"{self.folder}: the records from {self.position} on have expired, the oldest is {bases[0]}"
                    )
                self.expired += bases[0] - self.position
                self.position = bases[0]
            base = bases[bisect_right(bases, self.position) - 1]
            path = segment_path(self.folder, base)
            try:
                read_segment(path)
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # the retention took it between the listing and now
                continue
            self._base, self._at = base, SEGMENT_HEADER
            return True

    def _read_some(self, limit: int) -> LogBatch | None:
        chunk = self._chunk
        closed = False
        while True:
            if self._fd < 0 and not self._enter_segment():
                return None
            data = os.pread(self._fd, chunk, self._at)
            *columns, used, damaged = _wire.scan(data, limit, MAX_MESSAGE_BYTES)
            if len(columns[0]) > 0:
                batch = self._take(data, columns, used)
                if batch is not None:
                    return batch
                continue
            if not damaged and len(data) == chunk:  # a record larger than the chunk
                chunk = RECORD_HEADER + struct.unpack_from("<I", data, 4)[0]
                continue
            if data and self._pass_damage():
                continue
            # The end of the file. Only if a later segment exists is this one complete, and what it held before that
            # was known must be read once more.
            if not closed:
                closed = segment_bases(self.folder)[-1] > self._base
                if not closed:
                    return None
                continue
            if data:
                self._damage(f"{len(data)} bytes behind the last intact record")
            later = [base for base in segment_bases(self.folder) if base > self._base]
            self.position = max(self.position, later[0])
            self._leave_segment()
            closed = False

    def _take(self, data: bytes, columns: list[Int64], used: int) -> LogBatch | None:
        starts, sizes, offsets, times = columns
        self._at += used
        skip = int(np.searchsorted(offsets, self.position))
        if skip == len(offsets):
            return None
        self.position = int(offsets[-1]) + 1
        return LogBatch(data, starts[skip:], sizes[skip:], offsets[skip:], times[skip:], self.position)

    def _pass_damage(self) -> bool:
        """Step over a damaged record. False if nothing intact follows: a record in the making, or a torn tail."""
        found = _intact_behind(self._fd, self._at, self.position)
        if found is None:
            return False
        self._damage(f"a damaged record at byte {self._at}")
        self._at = found
        return True

    def _damage(self, what: str) -> None:
        if self._on_damage == "raise":
            path = segment_path(self.folder, self._base)
            raise SnapshotError(f"{path}: {what}; read with on_damage='skip' to go on behind it")
        self.damaged += 1


def log_end(folder: Path) -> int:
    """Return the offset behind the last intact record, found in the files."""
    bases = segment_bases(folder)
    if not bases:
        return 0
    end = bases[-1]
    for _, _, batch in scan_file(segment_path(folder, end)):
        end = batch.next
    return end


def scan_file(path: Path, *, chunk_bytes: int = 8 << 20) -> Iterator[tuple[int, int, LogBatch]]:
    """Iterate over the records of one segment file as ``(first byte, byte behind the last, records)``.

    Damage is stepped over: it shows as a gap between the end of one part and the start of the next.
    """
    with opened(path) as fd:
        at, chunk, least = SEGMENT_HEADER, chunk_bytes, int(path.stem)
        while data := os.pread(fd, chunk, at):
            starts, sizes, offsets, times, used, damaged = _wire.scan(data, _NO_LIMIT, MAX_MESSAGE_BYTES)
            if len(starts) > 0:
                least = int(offsets[-1]) + 1
                yield at, at + used, LogBatch(data, starts, sizes, offsets, times, least)
                at, chunk = at + used, chunk_bytes
            elif not damaged and len(data) == chunk:
                chunk = RECORD_HEADER + struct.unpack_from("<I", data, 4)[0]
            elif (found := _intact_behind(fd, at, least)) is not None:
                at = found
            else:
                return


def _intact_behind(fd: int, at: int, least: int) -> int | None:
    """Return where the first intact record behind byte ``at`` begins, with an offset of at least ``least``."""
    rest = os.pread(fd, os.fstat(fd).st_size - at, at)
    found = _wire.find_record(rest, 1, least, MAX_MESSAGE_BYTES)
    return None if found == len(rest) else at + found

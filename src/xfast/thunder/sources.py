"""Where events come from: the protocol that the ingestion reads, the embedded log and an in-memory source behind it.

Kafka is in :mod:`xfast.thunder.kafka`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError
from xfast.thunder.log_files import identity, read_segment, segment_bases, segment_path
from xfast.thunder.log_reader import LogReader

Positions = dict[str, int]
"""Partition -> offset of the next message to read. The partitions' names are the source's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """Messages from one poll, in the order in which they are to be applied.

    ``payloads`` is a list (None: a message without payload), or one buffer that ``starts`` and ``sizes`` cut up.
    ``positions`` is where the touched partitions go on behind these messages; ``origins`` names the partition and
    offset of each message for people.
    """

    payloads: Sequence[bytes | None] | bytes
    positions: Positions
    origins: Sequence[tuple[str, int]]
    starts: npt.NDArray[np.int64] | None = None
    sizes: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.payloads) if self.starts is None else len(self.starts)

    def payload(self, index: int) -> bytes | None:
        """Return the bytes of one message."""
        if self.starts is None or self.sizes is None:
            return self.payloads[index]  # type: ignore[return-value]
        assert isinstance(self.payloads, bytes)
        start = int(self.starts[index])
        return self.payloads[start : start + int(self.sizes[index])]

    def part(self, first: int, behind: int) -> Messages:
        """Return the messages ``first`` to ``behind - 1``; the positions are those of the whole."""
        origins = self.origins[first:behind]
        if self.starts is None or self.sizes is None:
            return Messages(self.payloads[first:behind], self.positions, origins)
        return Messages(self.payloads, self.positions, origins, self.starts[first:behind], self.sizes[first:behind])


class EventSource(Protocol):
    """An ordered, replayable stream of messages in one or more partitions. Used by one thread."""

    def start(self, positions: Positions, since: float) -> None:
        """Begin to read: at ``positions``, elsewhere at the first message not older than ``since`` (Unix seconds).

        Raises
        ------
        SnapshotError
            A position does not belong to this source.
        """
        ...

    def poll(self, max_messages: int, timeout: float) -> Messages | None:
        """Return up to ``max_messages``, waiting at most ``timeout`` seconds for them to gather; None for none.

        Trouble that passes (a broker that restarts, a cut network) is not an error: there just are no messages.
        """
        ...

    def lag(self) -> dict[str, int | None]:
        """Return how many messages each partition has that were not polled yet; None where that is not known."""
        ...

    def commit(self, positions: Positions) -> None:
        """Tell the outside that everything before ``positions`` has been applied and stored."""
        ...

    def close(self) -> None:
        """Stop reading and let go of everything."""
        ...


def encode_positions(positions: Mapping[str, int]) -> bytes:
    """Return positions as the bytes that are saved with a snapshot."""
    return json.dumps({"version": 1, "positions": dict(positions)}, sort_keys=True).encode()


def decode_positions(data: bytes) -> Positions:
    """Return the positions saved with a snapshot; none for empty bytes.

    Raises
    ------
    SnapshotError
        The bytes are something else.
    """
    if not data:
        return {}
    try:
        document = json.loads(data)
        positions = document["positions"]
        if document["version"] != 1 or not all(type(at) is int and at >= 0 for at in positions.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SnapshotError(f"the snapshot's position is not one of this release: {data[:80]!r}") from None
    return {str(name): at for name, at in positions.items()}


@dataclass(slots=True)
class LogOrigins(Sequence[tuple[str, int]]):
    """Partition and offset of each record, made only when somebody asks."""

    partition: str
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return LogOrigins(self.partition, self.offsets[index])
        return self.partition, int(self.offsets[index])


class LogSource:
    """The embedded event log as a source with one partition, named after the log's identity.

    Expired and damaged records are stepped over: what matters to a store with a retention of its own is what is left.
    They are counted in ``expired`` and ``damaged``.

    Parameters
    ----------
    folder
        The log; it may be written by another process.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.partition = f"log:{identity(self.folder, create=False)}"
        self._reader: LogReader | None = None

    def start(self, positions: Positions, since: float) -> None:
        """See :meth:`EventSource.start`; without a position, at the segment that was in use at ``since``."""
        other = sorted(set(positions) - {self.partition})
        if other:
            raise SnapshotError(f"{self.folder}: the snapshot belongs to {other[0]}, this is {self.partition}")
        self.close()
        at = positions.get(self.partition)
        if at is None:
            at = self._segment_at(since)
        self._reader = LogReader(self.folder, at, on_damage="skip", on_expired="skip")

    def _segment_at(self, since: float) -> int:
        segments = [read_segment(segment_path(self.folder, base)) for base in segment_bases(self.folder)]
        before = [segment.base for segment in segments if segment.created_ms <= since * 1000]
        if before:
            return before[-1]
        return segments[0].base if segments else 0

    def poll(self, max_messages: int, timeout: float) -> Messages | None:
        """See :meth:`EventSource.poll`; returns as soon as there is anything."""
        assert self._reader is not None, "start() comes first"
        batch = self._reader.read(max_messages, timeout=timeout)
        if batch is None:
            return None
        origins = LogOrigins(self.partition, batch.offsets)
        return Messages(batch.buffer, {self.partition: batch.next}, origins, batch.starts, batch.sizes)

    def lag(self) -> dict[str, int | None]:
        """See :meth:`EventSource.lag`."""
        return {self.partition: None if self._reader is None else self._reader.lag()}

    @property
    def expired(self) -> int:
        """Records that the retention had removed before they were read."""
        return 0 if self._reader is None else self._reader.expired

    @property
    def damaged(self) -> int:
        """Damaged places that were stepped over."""
        return 0 if self._reader is None else self._reader.damaged

    def commit(self, positions: Positions) -> None:
        """Nothing to do: the log keeps no positions of its readers."""

    def close(self) -> None:
        """See :meth:`EventSource.close`."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


@dataclass(slots=True)
class _Partition:
    messages: list[bytes | None] = field(default_factory=list)
    next: int = 0


class MemorySource:
    """A source for tests and embedders that have events at hand: ``put`` appends, every ``start`` may replay.

    Parameters
    ----------
    partitions
        How many; they are named ``"0"``, ``"1"``, …
    """

    def __init__(self, partitions: int = 1) -> None:
        if partitions < 1:
            raise ParameterError(f"partitions is {partitions}, must be at least 1")
        self._partitions = {str(i): _Partition() for i in range(partitions)}
        self._turn = deque(self._partitions)
        self._changed = threading.Condition()
        self.committed: Positions = {}

    def put(self, messages: Sequence[bytes | None], partition: int = 0) -> int:
        """Append messages and return the offset behind the last one."""
        with self._changed:
            target = self._partitions[str(partition)]
            target.messages.extend(messages)
            self._changed.notify_all()
            return len(target.messages)

    def start(self, positions: Positions, since: float) -> None:
        """See :meth:`EventSource.start`; partitions without a position start at 0."""
        unknown = sorted(set(positions) - set(self._partitions))
        if unknown:
            raise SnapshotError(f"the snapshot names partition {unknown[0]!r}, there are {', '.join(self._partitions)}")
        with self._changed:
            for name, partition in self._partitions.items():
                partition.next = positions.get(name, 0)

    def poll(self, max_messages: int, timeout: float) -> Messages | None:
        """See :meth:`EventSource.poll`; partitions take turns, a poll returns messages of one of them."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for _ in range(len(self._turn)):
                    name = self._turn[0]
                    self._turn.rotate(-1)
                    partition = self._partitions[name]
                    first = partition.next
                    taken = partition.messages[first : first + max_messages]
                    if taken:
                        partition.next = first + len(taken)
                        origins = [(name, first + i) for i in range(len(taken))]
                        return Messages(taken, {name: partition.next}, origins)
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def lag(self) -> dict[str, int | None]:
        """See :meth:`EventSource.lag`."""
        with self._changed:
            return {name: len(part.messages) - part.next for name, part in self._partitions.items()}

    def commit(self, positions: Positions) -> None:
        """Remember what was committed in ``committed``."""
        self.committed.update(positions)

    def close(self) -> None:
        """Nothing is held."""

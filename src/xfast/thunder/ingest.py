"""Ingestion into the post store: messages to columns in C++, applied, and saved together with their positions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from xfast.errors import ParameterError
from xfast.thunder import _wire
from xfast.thunder.clock import Clock, SystemClock
from xfast.thunder.snapshot import SnapshotDirectory
from xfast.thunder.sources import Messages, Positions, decode_positions, encode_positions
from xfast.thunder.store import ACCOUNT_STATES, PostStore

logger = logging.getLogger(__name__)

Encoding = Literal["in_network", "network"]
"""What the messages are: compact ``InNetworkEvent``s, or ``NetworkEvent``s that are mapped on the way."""

FAULTS = {
    1: "ends inside a field",
    2: "a varint of too many bytes",
    3: "an impossible field number or wire type",
    4: "a group that does not match",
    5: "no event inside",
    6: "the post id is missing",
}
"""Why a message cannot be read, by the number of csrc/eventlog/wire.h."""


def decode(
    messages: Messages,
    encoding: Encoding,
    *,
    now: float,
    min_video_duration_ms: int = 0,
    retention_seconds: int = 0,
    stamp_deletes_now: bool = False,
) -> _wire.InNetworkColumns:
    """Decode messages to columns; the rules of the mapping are those of THUNDER §6 and matter to ``"network"`` only."""
    if encoding == "in_network":
        return _wire.decode_in_network(messages.payloads, messages.starts, messages.sizes)
    return _wire.decode_network(
        messages.payloads,
        messages.starts,
        messages.sizes,
        min_video_duration_ms=min_video_duration_ms,
        now=int(now),
        retention_seconds=retention_seconds,
        stamp_deletes_now=stamp_deletes_now,
    )


def bad_messages(columns: _wire.InNetworkColumns) -> list[tuple[int, str]]:
    """Return index and reason of the messages that could not be read."""
    return [
        (index, FAULTS[fault])
        for index, fault in zip(columns.bad_index.tolist(), columns.bad_fault.tolist(), strict=True)
    ]


class StoreTarget:
    """A :class:`~xfast.thunder.PostStore` as the target of a consumer.

    Creates of a batch are applied first, then deletes (THUNDER §2), then account states.

    Parameters
    ----------
    store
        The store.
    snapshots
        Where snapshots go; None keeps the state in memory only.
    positions
        Where the store's state stands, from its snapshot.
    encoding, min_video_duration_ms
        What the messages are, and the shortest video that counts as one (``"network"`` only).
    replay_seconds
        How far back a store without positions begins to read. None: at the very beginning, since the states of accounts
        may be older than any post in the retention.
    trim_seconds, snapshot_seconds
        How often to trim, once serving, and to save.
    clock
        Time.
    """

    def __init__(
        self,
        store: PostStore,
        snapshots: SnapshotDirectory | None = None,
        positions: bytes | None = None,
        *,
        encoding: Encoding = "in_network",
        min_video_duration_ms: int = 0,
        replay_seconds: float | None = None,
        trim_seconds: float = 120.0,
        snapshot_seconds: float = 300.0,
        clock: Clock | None = None,
    ) -> None:
        if encoding not in ("in_network", "network"):
            raise ParameterError(f"encoding is {encoding!r}, must be 'in_network' or 'network'")
        for name, value in (("trim_seconds", trim_seconds), ("snapshot_seconds", snapshot_seconds)):
            if not value > 0:
                raise ParameterError(f"{name} is {value}, must be positive")
        if replay_seconds is not None and replay_seconds < 0:
            raise ParameterError(f"replay_seconds is {replay_seconds}, must not be negative")
        if min_video_duration_ms < 0:
            raise ParameterError(f"min_video_duration_ms is {min_video_duration_ms}, must not be negative")
        self.store, self.snapshots = store, snapshots
        self.encoding: Encoding = encoding
        self.min_video_duration_ms = min_video_duration_ms
        self.replay_seconds = replay_seconds
        self.trim_seconds, self.snapshot_seconds = trim_seconds, snapshot_seconds
        self.clock: Clock = clock or SystemClock()
        self.counts: Counter[str] = Counter()
        self._positions = decode_positions(positions or b"")
        self._serving = False
        self._next_trim = self._next_save = self.clock.monotonic()
        self._next_save += snapshot_seconds

    def positions(self) -> Positions:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return dict(self._positions)

    def since(self) -> float:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return 0.0 if self.replay_seconds is None else self.clock.now() - self.replay_seconds

    def apply(self, messages: Messages) -> Sequence[tuple[int, str]]:
        """See :class:`~xfast.thunder.consumer.Target`."""
        now = self.clock.now()
        columns = decode(
            messages,
            self.encoding,
            now=now,
            min_video_duration_ms=self.min_video_duration_ms,
            retention_seconds=self.store.retention_seconds,
        )
        done = self.store.apply(columns, now)
        known = len(ACCOUNT_STATES)
        self.counts.update(
            creates=len(columns.create_index),
            inserted=done.created,
            deletes=done.deleted,
            accounts=done.accounts,
            empty=columns.empty,
            unknown=columns.unknown,
            unknown_states=int(np.count_nonzero((columns.account_state < 1) | (columns.account_state > known))),
            other=columns.other,
            nullcast=columns.nullcast,
            late_deletes=columns.late_deletes,
            malformed=len(columns.bad_index),
        )
        return bad_messages(columns)

    def caught_up(self) -> None:
        """Finalise the store and begin to trim."""
        self.store.finalize(now=self.clock.now())
        self._serving = True
        self._next_trim = self.clock.monotonic() + self.trim_seconds

    def tick(self) -> None:
        """Trim when it is due."""
        if self._serving and self.clock.monotonic() >= self._next_trim:
            self._next_trim = self.clock.monotonic() + self.trim_seconds
            self.counts["trimmed"] += self.store.trim(now=self.clock.now())

    def save_due(self) -> bool:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return self.snapshots is not None and self.clock.monotonic() >= self._next_save

    def save(self, positions: Positions) -> None:
        """Write a snapshot that carries the positions."""
        self._next_save = self.clock.monotonic() + self.snapshot_seconds
        self._positions = positions
        if self.snapshots is not None:
            self.snapshots.save(self.store, encode_positions(positions))

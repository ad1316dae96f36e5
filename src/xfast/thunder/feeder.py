"""The feeder (THUNDER §5): NetworkEvents in, compact in-network events out to a topic of their own.

The mapping is native (csrc/eventlog/in_network.cpp). A post that is ``nullcast`` is dropped; it is a repost if it has
a source, a reply if it names a parent, a video if it has exactly one media item, a video of known and sufficient
duration. A delete of a post older than the retention is dropped. Account states go through, to every partition, since
each holds posts of any author. Everything else is counted and left out.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from xfast.errors import ParameterError, SnapshotError
from xfast.events import Media
from xfast.thunder import _wire
from xfast.thunder.clock import Clock, SystemClock
from xfast.thunder.ingest import bad_messages, decode
from xfast.thunder.kafka import KafkaTopic, message_keys
from xfast.thunder.sources import Messages, Positions, decode_positions, encode_positions

_ACCOUNT_VARIANT = 3


def has_video(media: Sequence[Media] | None, *, min_duration_ms: int) -> bool:
    """Whether a post with these media counts as a video (THUNDER §6).

    Exactly one item, a video, whose duration is known and at least ``min_duration_ms``. A duration below 0 is not
    known; neither is 0 in a :class:`~xfast.events.NetworkEvent`, which has no other way to say so.
    """
    if min_duration_ms < 0:
        raise ParameterError(f"min_duration_ms is {min_duration_ms}, must not be negative")
    items = media or ()
    kinds, durations = [int(item.kind) for item in items], [item.duration_ms for item in items]
    return _wire.has_playable_video(kinds, durations, min_duration_ms)


class FeederTarget:
    """The in-network topic as the target of a consumer of NetworkEvents.

    Parameters
    ----------
    topic
        Where the compact events go.
    positions_file
        Where the positions are kept; None leaves them to the source's consumer group.
    retention_seconds, min_video_duration_ms
        Rules of the mapping.
    quirks
        ``"reference"`` stamps deletes with the feeder's clock instead of the time of the event.
    clock
        Time.
    """

    def __init__(
        self,
        topic: KafkaTopic,
        positions_file: str | os.PathLike[str] | None = None,
        *,
        retention_seconds: int = 172_800,
        min_video_duration_ms: int = 0,
        quirks: str = "fixed",
        save_seconds: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        if retention_seconds < 1:
            raise ParameterError(f"retention_seconds is {retention_seconds}, must be at least 1")
        if min_video_duration_ms < 0:
            raise ParameterError(f"min_video_duration_ms is {min_video_duration_ms}, must not be negative")
        if quirks not in ("fixed", "reference"):
            raise ParameterError(f"quirks is {quirks!r}, must be 'fixed' or 'reference'")
        self.topic = topic
        self.positions_file = None if positions_file is None else Path(positions_file)
        self.retention_seconds, self.min_video_duration_ms = retention_seconds, min_video_duration_ms
        self.quirks, self.save_seconds = quirks, save_seconds
        self.clock: Clock = clock or SystemClock()
        self.counts: Counter[str] = Counter()
        self._partitions = 0
        self._next_save = 0.0

    def positions(self) -> Positions:
        """See :class:`~xfast.thunder.consumer.Target`."""
        if self.positions_file is None or not self.positions_file.exists():
            return {}
        try:
            return decode_positions(self.positions_file.read_bytes())
        except json.JSONDecodeError as error:
            raise SnapshotError(f"{self.positions_file}: {error}") from None

    def since(self) -> float:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return 0.0  # states of accounts may be older than any post

    def apply(self, messages: Messages) -> Sequence[tuple[int, str]]:
        """Map and send; returns when the brokers have everything."""
        columns = decode(
            messages,
            "network",
            now=self.clock.now(),
            min_video_duration_ms=self.min_video_duration_ms,
            retention_seconds=self.retention_seconds,
            stamp_deletes_now=self.quirks == "reference",
        )
        data, offsets, keys, variants = columns.encode()
        bounds = offsets.tolist()
        values = [data[a:b] for a, b in pairwise(bounds)]
        accounts = np.flatnonzero(variants == _ACCOUNT_VARIANT).tolist()
        names = message_keys(keys)
        if accounts:
            self._send_accounts([values[i] for i in accounts], [names[i] for i in accounts])
        others = np.flatnonzero(variants != _ACCOUNT_VARIANT).tolist()
        if others:
            self.topic.send([values[i] for i in others], [names[i] for i in others])
        self.counts.update(
            creates=int((variants == 1).sum()),
            deletes=int((variants == 2).sum()),
            accounts=len(accounts),
            empty=columns.empty,
            unknown=columns.unknown,
            other=columns.other,
            nullcast=columns.nullcast,
            late_deletes=columns.late_deletes,
            malformed=len(columns.bad_index),
        )
        return bad_messages(columns)

    def _send_accounts(self, values: list[bytes], keys: list[bytes]) -> None:
        self._partitions = self._partitions or self.topic.partitions()
        copies = self._partitions
        self.topic.send(
            [value for value in values for _ in range(copies)],
            [key for key in keys for _ in range(copies)],
            partitions=list(range(copies)) * len(values),
        )

    def caught_up(self) -> None:
        """The feeder serves nobody; nothing to do."""

    def tick(self) -> None:
        """Nothing is due but saving."""

    def save_due(self) -> bool:
        """See :class:`~xfast.thunder.consumer.Target`."""
        return self.clock.monotonic() >= self._next_save

    def save(self, positions: Positions) -> None:
        """Store the positions, atomically; what they stand for is in the topic already."""
        self._next_save = self.clock.monotonic() + self.save_seconds
        if self.positions_file is None:
            return
        self.positions_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.positions_file.with_suffix(".new")
        with temporary.open("wb") as file:
            file.write(encode_positions(positions))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.positions_file)

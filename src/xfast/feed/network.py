"""Network: everything that events change, behind one ``ingest``: log, stores, Thunder, discovery and corpus.

An event is durable before it is applied: it goes into the log first, and the parts follow the log in its order. A part
that could not take it in (a database that is down) is caught up by the next call. Parts that live in memory are rebuilt
when a feed is opened: Thunder from its snapshot and the log behind it, discovery and corpus from the log as far back as
posts may be shown. The store keeps its own state; applying an event twice changes nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xfast.errors import SnapshotError, XfastError
from xfast.events import Account, AccountState, EventBatch, Kind, NetworkEvent
from xfast.feed.clock import FeedClock
from xfast.feed.corpus import LiveCorpus
from xfast.mixer.embedded import Discovery
from xfast.stores import Applied, EraseReceipt, Store
from xfast.thunder import EventLog, LogReader, PostStore, SnapshotDirectory, _wire
from xfast.thunder.log_files import read_segment, segment_bases, segment_path
from xfast.thunder.sources import decode_positions, encode_positions

__all__ = ["Erased", "Network", "Retention"]

logger = logging.getLogger(__name__)

#: Kinds that Thunder, discovery and the corpus look at.
_POSTS = (Kind.POST, Kind.DELETE, Kind.ACCOUNT)
#: Clocks of clients run ahead; a post from the near future waits in Thunder until its time has come.
_SKEW_SECONDS = 60
#: Memory is trimmed every minute. The store keeps things for days, and trimming it goes through whole tables.
_TRIM_SECONDS, _STORE_TRIM_SECONDS = 60.0, 3_600.0
_DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long a feed keeps what it keeps, in days; 0 for ever.

    Attributes
    ----------
    impressions_days, engagements_days, served_days
        In the store.
    log_days
        In the event log.
    """

    impressions_days: int = 30
    engagements_days: int = 400
    served_days: int = 30
    log_days: int = 0


@dataclass(frozen=True)
class Erased:
    """Receipt of an erasure through every part of a feed.

    Attributes
    ----------
    store
        Rows per table, as the store signed them.
    log_events
        Events that left the log.
    posts
        Posts that left the corpus and discovery.
    snapshots
        Files that held the user and were replaced or removed.
    """

    user_id: int
    erased_ms: int
    store: EraseReceipt
    log_events: int = 0
    posts: Mapping[str, int] = field(default_factory=dict)
    snapshots: int = 0


class Network:
    """The state of one network, fed with its events.

    Parameters
    ----------
    store, thunder, discovery, corpus
        The parts; all on ``clock``.
    log, snapshots
        Durability; ``None``: everything is gone when the process ends.
    position
        How far into the log ``thunder`` and the store have come.
    max_age_ms
        How old a shown post may be.
    save_seconds
        How often a snapshot is written while events come in.
    """

    def __init__(
        self,
        *,
        store: Store,
        thunder: PostStore,
        discovery: Discovery,
        corpus: LiveCorpus,
        clock: FeedClock,
        log: EventLog | None = None,
        snapshots: SnapshotDirectory | None = None,
        position: int = 0,
        max_age_ms: int,
        retention: Retention | None = None,
        save_seconds: float = 300.0,
    ) -> None:
        self.store, self.thunder, self.discovery, self.corpus = store, thunder, discovery, corpus
        self.clock, self.log, self.snapshots = clock, log, snapshots
        self.retention = retention or Retention()
        self._max_age_ms, self._save_seconds = max_age_ms, save_seconds
        self._lock = threading.RLock()
        self._position = position
        self._next_save = clock.monotonic() + save_seconds
        self._next_trim = clock.monotonic() + _TRIM_SECONDS
        self._next_store_trim = clock.monotonic() + _STORE_TRIM_SECONDS
        self._erased: set[int] = set()
        self._closed = False

    # Feeding ----------------------------------------------------------------------------------------------------------

    def ingest(self, events: EventBatch | Iterable[NetworkEvent]) -> Applied:
        """Log events, then apply them to every part; see :meth:`xfast.Feed.ingest`."""
        batch = events if isinstance(events, EventBatch) else EventBatch.from_events(events)
        with self._lock:
            self._check_open()
            if self.log is None:
                batch = self._with_authors(batch)
                applied = self._apply(batch)
            else:
                self._catch_up()  # what an earlier failure left behind comes first
                batch = self._with_authors(batch)
                behind = self.log.append(batch.to_bytes())
                applied = self._apply(batch)
                self._position = behind
            self._maintain()
        for user in _erased(batch):
            self.erase(user)
        return applied

    def _with_authors(self, batch: EventBatch) -> EventBatch:
        """Clients know which post was liked, rarely whose it is; models and histories want both."""
        for kind in (Kind.ENGAGEMENT, Kind.IMPRESSION):
            table = batch.columns(kind)
            missing = table["author_id"] == 0
            if not missing.any():
                continue
            wanted, inverse = np.unique(table["post_id"][missing], return_inverse=True)
            found = self.store.posts(wanted).author_id.copy()
            posts = batch.columns(Kind.POST)
            for row in np.flatnonzero(np.isin(posts["post_id"], wanted)).tolist():
                found[np.searchsorted(wanted, posts["post_id"][row])] = posts["author_id"][row]
            authors = table["author_id"].copy()
            authors[missing] = found[inverse]
            batch = batch.replace(kind, author_id=authors)
        return batch

    def _apply(self, batch: EventBatch, *, rebuild_only: bool = False) -> Applied:
        if len(batch):
            self.clock.seen(int(batch.time_ms.max()))
        applied = Applied(len(batch)) if rebuild_only else self.store.apply(batch)
        few = batch.take(np.isin(batch.kind, _POSTS))
        if len(few) and not rebuild_only:
            self._apply_to_thunder(few)
        self.discovery.apply(batch)
        if len(few):
            self.corpus.apply(few)
            self._learn_states(few)
        return applied

    def _apply_to_thunder(self, batch: EventBatch) -> None:
        now = int(self.clock.now()) + _SKEW_SECONDS
        columns = _wire.decode_network(
            batch.to_bytes(),
            min_video_duration_ms=0,
            now=now,
            retention_seconds=self.thunder.retention_seconds,
            stamp_deletes_now=False,
        )
        self.thunder.apply(columns, now)

    def _learn_states(self, batch: EventBatch) -> None:
        """Discovery and corpus hear account states only while they run; the store knows the older ones."""
        authors = np.unique(batch.columns("post")["author_id"])
        if not len(authors):
            return
        users = self.store.users(authors)
        special = ~np.isin(users.state, [AccountState.UNKNOWN, AccountState.ACTIVE])
        states = dict(zip(authors[special].tolist(), users.state[special].tolist(), strict=True))
        if states:
            self.discovery.set_states(states)
            self.corpus.set_states(states)

    # Starting and keeping ---------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Rebuild what lives in memory, then apply what the parts have not seen; call once, before any request."""
        if self.log is None:
            return
        with self._lock:
            start = self._window_start()
            self._replay(start, self._position, rebuild_only=True)
            self._catch_up()
            self._finish_erasures()

    def _window_start(self) -> int:
        """Offset of the segment that was in use when the oldest post that may be shown arrived."""
        assert self.log is not None
        oldest = self.clock.ms() - self._max_age_ms
        segments = [read_segment(segment_path(self.log.folder, base)) for base in segment_bases(self.log.folder)]
        before = [segment.base for segment in segments if segment.created_ms <= oldest]
        return before[-1] if before else segments[0].base

    def _catch_up(self) -> None:
        assert self.log is not None
        if self._position < self.log.end:
            self._position = self._replay(self._position, self.log.end, rebuild_only=False)

    def _replay(self, start: int, end: int, *, rebuild_only: bool) -> int:
        assert self.log is not None
        if start >= end:
            return start
        with LogReader(self.log.folder, start, on_expired="skip") as reader:
            while start < end and (read := reader.read(min(65_536, end - start))) is not None:
                keep = read.offsets < end
                messages = [message for message, wanted in zip(read.messages(), keep.tolist(), strict=True) if wanted]
                batch = EventBatch.from_bytes(messages)
                self._apply(batch, rebuild_only=rebuild_only)
                self._erased.update(_erased(batch))
                start = min(read.next, end)
                if not rebuild_only:
                    self._position = start
        return start

    def _finish_erasures(self) -> None:
        """What a crash in the middle of :meth:`erase` left of erased users in the log and in snapshots."""
        if self._erased:
            users, self._erased = sorted(self._erased), set()
            if self._compact(users)[0]:
                logger.warning("finished the erasure of %d users that a crash had interrupted", len(users))

    def _maintain(self) -> None:
        now = self.clock.monotonic()
        if now >= self._next_trim:
            self._trim_memory()
        if now >= self._next_store_trim:
            self._trim_store()
        if now >= self._next_save:
            try:
                self.save()
            except (OSError, XfastError):
                logger.exception("the snapshot was not written; the last one and the log behind it still stand")

    def trim(self) -> None:
        """Drop what is too old, everywhere."""
        with self._lock:
            self._trim_memory()
            self._trim_store()

    def _trim_memory(self) -> None:
        self._next_trim = self.clock.monotonic() + _TRIM_SECONDS
        self.thunder.trim()
        self.corpus.tick()
        if self.log is not None:
            self.log.retain()

    def _trim_store(self) -> None:
        self._next_store_trim = self.clock.monotonic() + _STORE_TRIM_SECONDS
        keep, forever = self.retention, 2**62
        self.store.trim(
            now_ms=self.clock.ms(),
            impressions_ms=keep.impressions_days * _DAY_MS or forever,
            engagements_ms=keep.engagements_days * _DAY_MS or forever,
            served_ms=keep.served_days * _DAY_MS or forever,
        )

    def save(self) -> None:
        """Write a snapshot of Thunder with the position in the log that all parts have reached."""
        with self._lock:
            self._next_save = self.clock.monotonic() + self._save_seconds
            if self.snapshots is not None and self.log is not None:
                self.log.sync()
                self.store.sync()
                self.snapshots.save(self.thunder, encode_positions({_partition(self.log): self._position}))

    # Erasing ----------------------------------------------------------------------------------------------------------

    def erase(self, user_id: int) -> Erased:
        """Remove a user from every part; see :meth:`xfast.Feed.erase`."""
        with self._lock:
            self._check_open()
            now = self.clock.ms()
            if self.log is not None:
                # First, so that a crash in between repeats the rest when the log is read again.
                mark = EventBatch.from_events([NetworkEvent(Account(user_id, AccountState.ERASED), now)])
                self._catch_up()
                self.log.append(mark.to_bytes())
            receipt = self.store.erase(user_id, now_ms=now)
            self.thunder.set_account_state([user_id], "erased")
            posts = {
                "corpus": self.corpus.forget([user_id], time_ms=now),
                "discovery": self.discovery.forget([user_id]),
            }
            self.discovery.set_states({user_id: int(AccountState.ERASED)})
            log_events, files = self._compact([user_id])
            return Erased(user_id, now, receipt, log_events, posts, files)

    def _compact(self, user_ids: list[int]) -> tuple[int, int]:
        """Take users out of the log and out of snapshots; return events and files."""
        if self.log is None:
            return 0, 0
        removed = self.log.erase(user_ids)
        self._position = self.log.end
        if self.snapshots is None:
            return removed, 0
        old = self.snapshots.paths()
        self.save()
        for path in old:
            path.unlink(missing_ok=True)
        return removed, len(old)

    def close(self) -> None:
        """Save, and let go of files and connections; closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self.save()
            finally:
                if self.log is not None:
                    self.log.close()
                self.store.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SnapshotError("the feed is closed")


def _partition(log: EventLog) -> str:
    return f"log:{log.identity}"


def position_in(log: EventLog, saved: bytes | None) -> int:
    """Where a snapshot's positions stand in a log; its beginning without a snapshot.

    Raises
    ------
    SnapshotError
        The snapshot belongs to another log.
    """
    positions: Mapping[str, Any] = decode_positions(saved or b"")
    if positions and _partition(log) not in positions:
        raise SnapshotError(f"{log.folder}: the snapshot belongs to {sorted(positions)[0]}, this is {_partition(log)}")
    return int(positions.get(_partition(log), log.first))


def _erased(batch: EventBatch) -> list[int]:
    accounts = batch.columns("account")
    users: list[int] = np.unique(accounts["user_id"][accounts["state"] == AccountState.ERASED]).tolist()
    return users

"""PostStore: the newest posts of the accounts that a viewer follows, in microseconds (THUNDER §1-§3)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError
from xfast.ids import as_int64
from xfast.thunder import _native, _wire
from xfast.thunder.clock import Clock
from xfast.thunder.columns import PostBatch, post_columns

__all__ = ["AccountState", "FeedCounts", "PostStore", "Quirks"]

Quirks = Literal["fixed", "reference"]
AccountState = Literal["active", "suspended", "protected", "deactivated", "erased"]

# In the order of xfast::thunder::AccountState.
ACCOUNT_STATES: tuple[AccountState, ...] = ("active", "suspended", "protected", "deactivated", "erased")
NO_IDS: npt.NDArray[np.int64] = np.empty(0, np.int64)
MOST_RESULTS = 2**31 - 1
LATEST = 2**32 - 2  # times are 32-bit seconds in the store: good until 2106


@dataclass(frozen=True, slots=True)
class FeedCounts:
    """What a batch of messages did to the store."""

    created: int
    deleted: int
    accounts: int
    skipped: int
    unknown: int
    malformed: tuple[int, ...]


class PostStore:
    """Recent posts by author, in memory: one writer at a time, any number of readers that never wait for it.

    Every method may be called from any thread. Writers take turns; lookups take no lock and run without the GIL.

    Parameters
    ----------
    retention_seconds
        How old a post may be, 1 to 2**31 s.
    max_original_per_author, max_secondary_per_author, max_video_per_author
        The most posts that one followee contributes to an answer: posts that are neither reply nor repost; replies and
        reposts together; videos of a video request. 0 switches the kind off.
    max_scan_per_author
        The most posts of one followee and kind that are looked at; excluded ones are free.
    max_results, max_video_results
        The size of an answer whose request names none.
    request_timeout_ms
        After this time a lookup returns what it has; 0 means no limit.
    tombstone_key
        Reference mode only: the author id under which tombstones age.
    quirks
        ``"fixed"``, or ``"reference"`` to follow every oddity of the May-2026 release (THUNDER §7, docs/thunder.md).
    clock
        Where the time comes from; by default the machine's. It is asked for ``now()`` where no ``now`` is given, and
        for ``monotonic()`` at the start of a lookup and before each followee if there is a timeout.

    Raises
    ------
    ParameterError
        A limit is out of range.
    """

    def __init__(
        self,
        retention_seconds: int = 172_800,
        max_original_per_author: int = 20,
        max_secondary_per_author: int = 10,
        max_video_per_author: int = 20,
        max_scan_per_author: int = 100,
        max_results: int = 500,
        max_video_results: int = 100,
        request_timeout_ms: int = 0,
        tombstone_key: int = 0,
        quirks: Quirks = "fixed",
        clock: Clock | None = None,
    ) -> None:
        if quirks not in ("fixed", "reference"):
            raise ParameterError(f"quirks is {quirks!r}, must be 'fixed' or 'reference'")
        self.retention_seconds = check_limit("retention_seconds", retention_seconds, 1, 2**31)
        self.max_original_per_author = check_limit("max_original_per_author", max_original_per_author, 0, 10**6)
        self.max_secondary_per_author = check_limit("max_secondary_per_author", max_secondary_per_author, 0, 10**6)
        self.max_video_per_author = check_limit("max_video_per_author", max_video_per_author, 0, 10**6)
        self.max_scan_per_author = check_limit("max_scan_per_author", max_scan_per_author, 0, 10**9)
        self.max_results = check_limit("max_results", max_results, 1, MOST_RESULTS)
        self.max_video_results = check_limit("max_video_results", max_video_results, 1, MOST_RESULTS)
        self.request_timeout_ms = check_limit("request_timeout_ms", request_timeout_ms, 0, 2**31)
        self.tombstone_key = _id("tombstone_key", tombstone_key)
        self.quirks: Quirks = quirks
        self.clock = clock
        self._native = _native.Store(
            retention=self.retention_seconds,
            max_original=self.max_original_per_author,
            max_secondary=self.max_secondary_per_author,
            max_video=self.max_video_per_author,
            max_scan=self.max_scan_per_author,
            max_results=self.max_results,
            max_video_results=self.max_video_results,
            timeout_ms=self.request_timeout_ms,
            tombstone_key=self.tombstone_key,
            reference=quirks == "reference",
        )

    # -- writing

    def insert(self, posts: Any, now: float | None = None) -> int:
        """Add posts (THUNDER §2).

        A post is kept if it was created before ``now`` and is not older than the retention. The kept ones are applied
        in the order of their times. A post whose id was deleted is ignored; one whose id is known replaces it.

        Parameters
        ----------
        posts
            Columns of equal length N: a mapping of arrays or an Arrow table. ``post_id``, ``author_id`` and
            ``created_at`` (unix seconds) are required; ``in_reply_to_post_id``, ``in_reply_to_user_id``,
            ``source_post_id``, ``source_user_id`` and ``conversation_id`` (0 = none), ``is_retweet``, ``is_reply`` and
            ``has_video`` are optional. Ids may be of any integer dtype.
        now
            Unix seconds; by default the clock's.

        Returns
        -------
        int
            How many posts are new in the store.

        Raises
        ------
        ParameterError
            A column is missing, unknown, of another length or of an unfit dtype.
        """
        columns = post_columns(posts)
        return self._native.insert(**columns, now=self._time(now))  # type: ignore[arg-type]

    def delete(
        self, post_ids: npt.ArrayLike, deleted_at: npt.ArrayLike | None = None, now: float | None = None
    ) -> None:
        """Remove posts and remember that they were deleted, so that one of them that arrives later is ignored.

        Parameters
        ----------
        post_ids
            Ids [N]; they need not be in the store.
        deleted_at
            Unix seconds, [N] or one for all; by default ``now``. The deletion is remembered as long as a post of that
            time would be.
        now
            Unix seconds; by default the clock's.
        """
        ids = as_ids("post_ids", post_ids)
        if deleted_at is None:
            times = np.full(len(ids), self._time(now), np.int64)
        else:
            given = as_int64(deleted_at, name="deleted_at")
            if given.ndim > 1 or (given.ndim == 1 and len(given) != len(ids)):
                raise ParameterError(f"deleted_at has shape {given.shape}, must be a number or have shape {ids.shape}")
            times = np.ascontiguousarray(np.broadcast_to(given, ids.shape))
        self._native.remove(ids, times)

    def trim(self, now: float | None = None) -> int:
        """Drop what is older than the retention and give its memory back.

        Returns
        -------
        int
            Posts dropped plus deletions forgotten; in reference mode the entries popped from original and secondary
            timelines, as the release counts.
        """
        return self._native.trim(self._time(now))

    def finalize(self, now: float | None = None) -> int:
        """End the start-up: trim, and in reference mode sort the timelines by time first (its only sort ever)."""
        return self._native.finalize(self._time(now))

    def clear(self) -> None:
        """Forget all posts; in reference mode deletions stay remembered. Account states always stay."""
        self._native.clear()

    def feed(self, messages: Sequence[bytes | None], now: float | None = None) -> FeedCounts:
        """Apply a batch of ``InNetworkEvent`` messages: creates, then deletes, then account states.

        Parameters
        ----------
        messages
            Protobuf messages (``xfast.thunder.InNetworkEvent``); None, as Kafka delivers a null value, is skipped. A
            post with either reply id counts as a reply (THUNDER §6).
        now
            Unix seconds; by default the clock's.

        Returns
        -------
        FeedCounts
            What was done; ``malformed`` holds the positions of messages that could not be read. The others are applied.
        """
        return self.apply(_wire.decode_in_network(messages), now)

    def apply(self, events: _wire.InNetworkColumns, now: float | None = None) -> FeedCounts:
        """Apply decoded events, as :meth:`feed` does; for ingestion that decodes by other rules."""
        time_of_batch = self._time(now)
        created = self._native.insert(**events.creates(), now=time_of_batch)  # type: ignore[arg-type]
        self._native.remove(events.deleted_id, events.deleted_at)
        self._apply_states(events.account_id, events.account_state)
        return FeedCounts(
            created=created,
            deleted=len(events.deleted_id),
            accounts=len(events.account_id),
            skipped=events.empty,
            unknown=events.unknown,
            malformed=tuple(int(index) for index in events.bad_index),
        )

    # -- accounts

    def _apply_states(self, user_ids: npt.NDArray[np.int64], states: npt.NDArray[np.uint8]) -> None:
        # One call per run of equal states keeps the order of events; numbers are those of the proto (1 = active).
        edges = np.flatnonzero(np.diff(states)) + 1
        for users, run in zip(np.split(user_ids, edges), np.split(states, edges), strict=True):
            if len(run) and 1 <= run[0] <= len(ACCOUNT_STATES):
                self._native.set_account_state(np.ascontiguousarray(users), int(run[0]) - 1)

    def set_account_state(self, user_ids: npt.ArrayLike, state: AccountState) -> None:
        """Honour the state of accounts from the next lookup on.

        ``suspended`` and ``deactivated``: their posts, reposts of them and replies to them are not served; they come
        back with ``active``. ``protected``: reposts of and replies to their posts reach only viewers that follow them.
        ``erased``: their posts are removed and later ones refused.

        Raises
        ------
        ParameterError
            ``state`` is not one of the five.
        """
        if state not in ACCOUNT_STATES:
            raise ParameterError(f"state is {state!r}, must be one of {', '.join(ACCOUNT_STATES)}")
        self._native.set_account_state(as_ids("user_ids", np.atleast_1d(user_ids)), ACCOUNT_STATES.index(state))

    def account_state(self, user_id: int) -> AccountState:
        """The state that was set last; ``active`` for accounts that are not known."""
        return ACCOUNT_STATES[self._native.account_state(_id("user_id", user_id))]

    # -- reading

    def in_network(
        self,
        user_id: int,
        following_ids: npt.ArrayLike,
        exclude_ids: npt.ArrayLike | None = None,
        max_results: int = 0,
        video_only: bool = False,
    ) -> PostBatch:
        """The newest posts of the followees (THUNDER §3).

        Parameters
        ----------
        user_id
            The viewer; reposts of their own posts are left out.
        following_ids
            Ids [F] of the accounts whose posts are wanted; also what "followed" means in the rule for replies.
        exclude_ids
            Ids of posts to leave out.
        max_results
            Size of the answer; 0 means the store's ``max_results`` or ``max_video_results``.
        video_only
            Video timelines only, instead of originals followed by replies and reposts.

        Returns
        -------
        PostBatch
            Newest first; among posts of the same second the larger id first.
        """
        following = as_ids("following_ids", following_ids)
        exclude = None if exclude_ids is None else as_ids("exclude_ids", exclude_ids)
        wanted = check_limit("max_results", max_results, 0, MOST_RESULTS)
        elapsed = None if self.clock is None or not self.request_timeout_ms else self._elapsed_ms
        table = self._native.query(
            _id("user_id", user_id), following, exclude, wanted, bool(video_only), self._time(None), elapsed
        )
        return PostBatch(table)

    def stats(self) -> dict[str, int]:
        """Counts: ``users`` (authors with an original timeline), ``posts``, timeline entries and ``deleted_posts``.

        In reference mode timelines also count references to posts that are gone and, under the tombstone key,
        deletions.
        """
        return self._native.stats()

    def memory(self) -> dict[str, int]:
        """Bytes by part, and their sum as ``total``."""
        parts = self._native.memory()
        parts["total"] = sum(parts.values())
        return parts

    # -- durability

    def save(self, path: str | os.PathLike[str], position: bytes = b"") -> int:
        """Write a snapshot: all or nothing, flushed to the disk before it gets its name.

        Lookups go on; writers wait while the state is copied in memory, not while it is written.

        Parameters
        ----------
        path
            The file; an older one of that name is replaced.
        position
            Anything the caller wants to find again with exactly this state, such as the offsets of its event log. It is
            the caller's business that no write is under way that the position already counts.

        Returns
        -------
        int
            Bytes written.

        Raises
        ------
        SnapshotError
            The file cannot be written.
        """
        return self._native.save(os.fspath(path), bytes(position))

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> tuple[PostStore, bytes]:
        """A store with the state of a snapshot, and the position saved with it.

        Parameters
        ----------
        path
            The file.
        **options
            Those of :class:`PostStore`; ``quirks`` (and ``tombstone_key`` in reference mode) must be as saved.

        Raises
        ------
        SnapshotError
            The file is missing, truncated, corrupt, from a newer version or of the other mode; the message says which.
        """
        store = cls(**options)
        try:
            return store, store._native.load(os.fspath(path))
        except SnapshotError as error:
            raise SnapshotError(f"{os.fspath(path)}: {error}") from None

    # -- inside

    def _time(self, now: float | None) -> int:
        if now is None:
            now = time.time() if self.clock is None else self.clock.now()
        seconds = int(now)
        if not 0 <= seconds <= LATEST:
            raise ParameterError(f"now is {now}, must be between 0 and {LATEST} (unix seconds)")
        return seconds

    def _elapsed_ms(self) -> float:
        assert self.clock is not None
        return self.clock.monotonic() * 1000.0

    def __repr__(self) -> str:
        return f"PostStore({self.stats()['posts']} posts, quirks={self.quirks!r})"


def check_limit(name: str, value: int, lowest: int, highest: int) -> int:
    """``value`` if it is an integer within the bounds, else a :class:`ParameterError` that names all three."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ParameterError(f"{name} is {value!r}, must be an integer between {lowest} and {highest}")
    if not lowest <= value <= highest:
        raise ParameterError(f"{name} is {value}, must be between {lowest} and {highest}")
    return int(value)


def _id(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ParameterError(f"{name} is {value!r}, must be an integer")
    if not -(2**63) <= value < 2**64:
        raise ParameterError(f"{name} is {value}, must fit into 64 bits")
    return int(value) if value < 2**63 else int(value) - 2**64


def as_ids(name: str, values: Any) -> npt.NDArray[np.int64]:
    """Ids as a contiguous int64 array, from arrays of any integer dtype, sequences, sets and Arrow arrays."""
    if isinstance(values, np.ndarray) and values.dtype == np.int64 and values.ndim == 1:
        return values if values.flags.c_contiguous else np.ascontiguousarray(values)
    if hasattr(values, "to_numpy"):
        values = values.to_numpy() if hasattr(values, "num_chunks") else values.to_numpy(zero_copy_only=False)
    elif not isinstance(values, np.ndarray | list | tuple):
        values = list(values)
    ids = as_int64(values, name=name)
    if ids.ndim != 1:
        raise ParameterError(f"{name} has shape {ids.shape}, must have one dimension")
    return np.ascontiguousarray(ids)

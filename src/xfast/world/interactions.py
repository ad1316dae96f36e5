"""Interactions: what a user did with a post in one go, from the stream of impressions and engagements.

The log has one event per action; a model's history has one token per post, with all actions in one vector. Here they
come together, vectorised: one row per (user, post, request), the actions as a bit mask.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.actions import vocabulary
from xfast.errors import ParameterError
from xfast.events import EventBatch

_PROTO = vocabulary("proto")
_DWELL = _PROTO.column("dwell")
_NOT_DWELLED = _PROTO.column("not_dwelled")
_CLICK = _PROTO.column("click")


@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """The interactions of each user in order: user ``users[i]`` has ``rows[offsets[i]:offsets[i + 1]]``.

    Attributes
    ----------
    users
        [U] uint64, ascending.
    offsets
        [U + 1] int64.
    rows
        [N] int64 rows of the :class:`Interactions`, oldest first within a user, ties in the order of the batch.
    """

    users: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.users.size)

    def of(self, user_id: int) -> npt.NDArray[np.int64]:
        """Return the rows of one user, oldest first; empty for an unknown user."""
        index = int(np.searchsorted(self.users, np.uint64(user_id)))
        if index == len(self) or int(self.users[index]) != user_id:
            return self.rows[:0]
        return self.rows[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """One row per post that a user was shown or acted on, in time order. All arrays have length N.

    Attributes
    ----------
    user_id, post_id, author_id, request_id
        uint64; the author is 0 where the events do not say.
    time_ms
        int64: of the impression or the first action.
    actions
        uint64 bit mask: bit ``a`` is set if action number ``a`` (``proto``) was done; 0 = shown only.
    dwell_ms, click_dwell_ms
        int32: the longest time on the post (of dwell or not_dwelled events), and after a click; 0 = not known.
    surface
        int32 product surface.
    shown
        bool: there was an impression event.
    """

    user_id: npt.NDArray[np.uint64]
    post_id: npt.NDArray[np.uint64]
    author_id: npt.NDArray[np.uint64]
    request_id: npt.NDArray[np.uint64]
    time_ms: npt.NDArray[np.int64]
    actions: npt.NDArray[np.uint64]
    dwell_ms: npt.NDArray[np.int32]
    click_dwell_ms: npt.NDArray[np.int32]
    surface: npt.NDArray[np.int32]
    shown: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.user_id.size)

    def take(self, rows: npt.ArrayLike) -> Interactions:
        """Return the interactions at ``rows`` (indices or a mask)."""
        picked: dict[str, Any] = {field.name: getattr(self, field.name)[rows] for field in fields(self)}
        return Interactions(**picked)

    def action_matrix(self, rows: Any = slice(None), *, num_actions: int = 49) -> npt.NDArray[np.float32]:
        """Return the actions of some rows (indices, mask or slice) as multi-hot vectors, [n, num_actions] float32.

        This is the action input of PHOENIX §2.2.
        """
        if not 1 <= num_actions <= 64:
            raise ParameterError(f"num_actions is {num_actions}, must be in [1, 64]")
        bits = np.arange(num_actions, dtype=np.uint64)
        matrix: npt.NDArray[np.float32] = ((self.actions[rows][..., None] >> bits) & np.uint64(1)).astype(np.float32)
        return matrix

    def histories(self) -> Histories:
        """Return the rows of each user, oldest first."""
        order = np.lexsort((np.arange(len(self)), self.time_ms, self.user_id))
        users, starts = np.unique(self.user_id[order], return_index=True)
        return Histories(users, np.r_[starts, len(self)].astype(np.int64), order)


def interactions(batch: EventBatch, *, window_ms: int = 1_800_000) -> Interactions:
    """Gather impressions and engagements into one row per (user, post, request).

    Parameters
    ----------
    batch
        Events in time order (:meth:`EventBatch.sorted`).
    window_ms
        An action that comes later than this after the previous event of the same (user, post, request) begins a new
        row, so that a late action does not leak into an earlier row. 30 minutes if left out.

    Raises
    ------
    ParameterError
        The batch is not in time order, an action number is outside [0, 63], or the window is negative.

    Notes
    -----
    Actions that were taken back (``removed``) do not appear: the row keeps what was done, not what was undone later.
    """
    if window_ms < 0:
        raise ParameterError(f"window_ms is {window_ms}, must be at least 0")
    if bool(np.any(np.diff(batch.time_ms) < 0)):
        raise ParameterError("batch is not in time order: use batch.sorted()")
    seen, done = batch.columns("impression"), batch.columns("engagement")
    keep = ~done["removed"]
    action = done["action"][keep]
    if action.size and (int(action.min()) < 0 or int(action.max()) > 63):
        wrong = int(action.min() if action.min() < 0 else action.max())
        raise ParameterError(f"action is {wrong}, must be in [0, 63]")

    def both(name: str) -> npt.NDArray[Any]:
        return np.concatenate([seen[name], done[name][keep]])

    shown = seen.rows.size
    row = np.concatenate([seen.rows, done.rows[keep]])
    user, post, request = both("user_id"), both("post_id"), both("request_id")
    mask = np.concatenate([np.zeros(shown, np.uint64), np.uint64(1) << action.astype(np.uint64)])
    spent = np.concatenate([np.zeros(shown, np.int32), done["dwell_ms"][keep]])
    timed = (np.uint64(1) << np.uint64(_DWELL)) | (np.uint64(1) << np.uint64(_NOT_DWELLED))
    dwell = np.where(mask & timed, spent, 0)
    click_dwell = np.where(mask == np.uint64(1) << np.uint64(_CLICK), spent, 0)

    order = np.lexsort((row, request, post, user))
    time = batch.time_ms[row[order]]
    new = np.ones(order.size, bool)
    for key in (user, post, request):
        ordered = key[order]
        if order.size:
            new[1:] &= ordered[1:] == ordered[:-1]
    if order.size:
        new[1:] = ~new[1:] | (time[1:] - time[:-1] > window_ms)
    starts = np.flatnonzero(new)
    by_time = np.argsort(row[order][starts], kind="stable")

    def reduce(how: np.ufunc, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return how.reduceat(values[order], starts)[by_time] if starts.size else values[:0]

    def first(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values[order][starts][by_time]

    return Interactions(
        user_id=first(user),
        post_id=first(post),
        author_id=reduce(np.maximum, both("author_id")),
        request_id=first(request),
        time_ms=time[starts][by_time],
        actions=reduce(np.bitwise_or, mask),
        dwell_ms=reduce(np.maximum, dwell).astype(np.int32),
        click_dwell_ms=reduce(np.maximum, click_dwell).astype(np.int32),
        surface=reduce(np.maximum, both("surface")),
        shown=reduce(np.logical_or, np.arange(row.size) < shown),
    )

"""Engagement histories: rows of actions become the slots of a model's sequence (HOME_MIXER §4, ScoringSequence).

The release asks a user-action service for a sequence by cluster, window, maximum length and aggregation type. Here the
rows come from the store, and this module merges and filters them; all of it over columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xfast.actions import NEGATIVE, PROTO
from xfast.errors import ParameterError

if TYPE_CHECKING:
    from xfast.phoenix import Engagements

__all__ = ["Aggregation", "History", "HistoryOptions"]

_DWELL, _NOT_DWELLED, _CLICK = PROTO.column("dwell"), PROTO.column("not_dwelled"), PROTO.column("click")
_NEGATIVE = [PROTO.column(name) for name in NEGATIVE]
_CONTINUOUS = 8


class Aggregation(Enum):
    """Which slots a sequence holds. A slot is one post with all that the viewer did to it within the window.

    The release names the types but publishes no definition; these are ours. A *short dwell* is a ``not_dwelled``, or a
    ``dwell`` below the threshold of :class:`HistoryOptions`.
    """

    DENSE = "dense"
    """Posts with an action that is neither negative feedback nor a short dwell."""
    DENSE_WITH_NOT_INTERESTED_IN = "dense_with_not_interested_in"
    """And those with negative feedback (not interested, block, mute, report)."""
    DENSE_WITH_SHORT_DWELL = "dense_with_short_dwell"
    """And those that were only passed by."""

    @classmethod
    def parse(cls, name: str, fallback: Aggregation | None = None) -> Aggregation:
        """Read ``DENSE_WITH_SHORT_DWELL``, ``DenseWithShortDwell`` and the like.

        Raises
        ------
        ParameterError
            The name is unknown and there is no ``fallback`` (the release falls back: HOME_MIXER §4).
        """
        key = name.replace("_", "").replace("-", "").lower()
        for member in cls:
            if member.value.replace("_", "") == key:
                return member
        if fallback is None:
            raise ParameterError(f"aggregation is {name!r}, must be one of {', '.join(each.name for each in cls)}")
        return fallback


@dataclass(frozen=True, kw_only=True)
class HistoryOptions:
    """How histories are read.

    Parameters
    ----------
    max_length
        Slots at most; the newest stay (MaxSeqLengthScoring, MaxSeqLengthRetrieval).
    window_ms
        Actions on one post merge into one slot while they are no further than this from the slot's first action
        (UAS_WINDOW_TIME_MS). 0 merges actions of one instant only.
    aggregation
        Which slots count.
    include_realtime
        False leaves out what happened within ``realtime_ms`` before now, as a nightly batch would.
    realtime_ms
        How far the real-time part reaches back.
    lookback_ms
        Nothing older than this; ``None`` for no limit.
    short_dwell_ms
        Dwells below it are short.
    """

    max_length: int = 1024
    window_ms: int = 300_000
    aggregation: Aggregation = Aggregation.DENSE_WITH_SHORT_DWELL
    include_realtime: bool = True
    realtime_ms: int = 3_600_000
    lookback_ms: int | None = None
    short_dwell_ms: int = 2_000

    def __post_init__(self) -> None:
        if not 1 <= self.max_length <= 1 << 20:
            raise ParameterError(f"max_length is {self.max_length}, must be 1 to {1 << 20}")
        for name in ("window_ms", "realtime_ms", "lookback_ms", "short_dwell_ms"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ParameterError(f"{name} is {value}, must not be negative")

    def bounds(self, now_ms: int) -> tuple[int, int]:
        """The earliest and the latest time that count."""
        earliest = -(2**62) if self.lookback_ms is None else now_ms - self.lookback_ms
        return earliest, now_ms if self.include_realtime else now_ms - self.realtime_ms


@dataclass(frozen=True, eq=False)
class History:
    """What one viewer did, oldest first: S slots.

    Attributes
    ----------
    actions
        [S, 49] float32, multi-hot over the ``proto`` vocabulary.
    product_surface, time_ms
        [S]: surface and time of the slot's first action.
    continuous
        [S, 8] float32: column 1 the dwell time in seconds, column 2 the time after a click.
    """

    user_id: int
    post_ids: npt.NDArray[np.uint64]
    author_ids: npt.NDArray[np.uint64]
    actions: npt.NDArray[np.float32]
    product_surface: npt.NDArray[np.int32]
    time_ms: npt.NDArray[np.int64]
    continuous: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.post_ids)

    def engagements(self, num_actions: int = len(PROTO)) -> Engagements:
        """The history as the model's input, for a model with the first ``num_actions`` columns of ``proto``."""
        from xfast.phoenix import Engagements

        if not 1 <= num_actions <= len(PROTO):
            raise ParameterError(f"num_actions is {num_actions}, must be 1 to {len(PROTO)}")
        return Engagements(
            self.user_id,
            self.post_ids,
            self.author_ids,
            np.ascontiguousarray(self.actions[:, :num_actions]),
            product_surface=self.product_surface,
            continuous=self.continuous,
        )


#: Columns of the rows that :func:`aggregate` takes.
ROW = ("time_ms", "post_id", "action", "removed", "author_id", "surface", "dwell_ms")


def aggregate(user_id: int, table: npt.NDArray[np.int64], options: HistoryOptions) -> History:
    """Merge rows (in time order, columns :data:`ROW`) into slots and keep the newest ``max_length``."""
    table = _without_taken_back(table)
    slot, first = _slots(table, options.window_ms)
    count = len(first)
    time, post, action, _, author, surface, dwell = table.T
    known = (action >= 0) & (action < len(PROTO))
    actions = np.zeros((count, len(PROTO)), np.float32)
    actions[slot[known], action[known]] = 1.0
    continuous = np.zeros((count, _CONTINUOUS), np.float32)
    # The longest stay counts; a click's time is that after the click.
    at_dwell = (action == _DWELL) | (action == _NOT_DWELLED)
    np.maximum.at(continuous[:, 1], slot[at_dwell], (dwell[at_dwell] / 1000).astype(np.float32))
    at_click = action == _CLICK
    np.maximum.at(continuous[:, 2], slot[at_click], (dwell[at_click] / 1000).astype(np.float32))
    authors = np.zeros(count, np.int64)  # an action may not say whose post it was
    np.copyto(authors, author[first])
    told = author != 0
    authors[slot[told][::-1]] = author[told][::-1]

    short = (action == _NOT_DWELLED) | ((action == _DWELL) & (dwell < options.short_dwell_ms))
    negative = np.isin(action, _NEGATIVE)
    wanted = known & ~short & ~negative
    if options.aggregation is not Aggregation.DENSE:
        wanted |= known & negative
    if options.aggregation is Aggregation.DENSE_WITH_SHORT_DWELL:
        wanted |= short
    keep = np.flatnonzero(np.bincount(slot[wanted], minlength=count) > 0)[-options.max_length :]
    return History(
        user_id,
        post[first][keep].view(np.uint64),
        authors[keep].view(np.uint64),
        actions[keep],
        surface[first][keep].astype(np.int32),
        time[first][keep],
        continuous[keep],
    )


def _without_taken_back(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Drop the rows that take an action back, and the same actions on the same post up to that time."""
    removal = table[:, 3] != 0
    rows: npt.NDArray[np.int64] = table[~removal]
    if not removal.any():
        return rows
    latest: dict[tuple[int, int], int] = {}
    for time, post, action in table[removal, :3].tolist():
        latest[post, action] = max(time, latest.get((post, action), time))
    stays = [time > latest.get((post, action), -(2**63)) for time, post, action in rows[:, :3].tolist()]
    kept: npt.NDArray[np.int64] = rows[np.array(stays, np.bool_)]
    return kept


def _slots(table: npt.NDArray[np.int64], window_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Slot of each row, and the row that opens each slot; slots are numbered in time order of their first action.

    Round after round, the earliest remaining row of every post opens a slot and takes what lies in its window.
    """
    time, post = table[:, 0], table[:, 1]
    opener = np.zeros(len(table), np.int64)
    rest = np.lexsort((np.arange(len(table)), post))
    while rest.size:
        posts = post[rest]
        starts = np.flatnonzero(np.r_[True, posts[1:] != posts[:-1]])
        first = np.repeat(rest[starts], np.diff(np.r_[starts, rest.size]))
        within = time[rest] - time[first] <= window_ms
        opener[rest[within]] = first[within]
        rest = rest[~within]
    openers, slot = np.unique(opener, return_inverse=True)
    return slot.reshape(-1), openers

"""Imported: events and the report on them, kept together in memory and on disk; and what importers share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.events import EventBatch, write_parquet
from xfast.events.batch import rank_within
from xfast.ids import SNOWFLAKE_EPOCH_MS
from xfast.world.report import ImportReport

REPLAY_SHIFT_MS = 731 * 7 * 86_400_000
"""731 weeks, 14 years and 3 days: lifts data from before the snowflake epoch over it, weekday and hour unchanged."""


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """The events of an import, in time order and numbered, and the report on what was read."""

    events: EventBatch
    report: ImportReport

    def save(self, folder: str | Path) -> None:
        """Write ``events.parquet``, ``report.json`` and ``report.txt`` into ``folder``, which is made if needed."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_parquet(self.events, target / "events.parquet")
        self.report.save(target)


def finish(parts: list[EventBatch], report: ImportReport) -> Imported:
    """Put the parts in time order (ties: in the order of the parts and of their rows), number them, fill the report.

    Raises
    ------
    DataError
        Not one event came out; the message has the first problem.
    """
    events = EventBatch.concat(parts).sorted().numbered()
    if not len(events):
        why = f"; first problem: {report.problems[0]}" if report.problems else ""
        raise DataError(f"{report.source}: no row could be used{why}")
    report.events = events.counts()
    report.first_ms, report.last_ms = int(events.time_ms[0]), int(events.time_ms[-1])
    return Imported(events, report)


def replay_shift(times_ms: npt.NDArray[np.int64], report: ImportReport) -> int:
    """Return what to add to the times so that snowflake ids can be minted: 0, or :data:`REPLAY_SHIFT_MS`, noted."""
    if times_ms.size and int(times_ms.min()) >= SNOWFLAKE_EPOCH_MS:
        return 0
    report.notes.append("times moved forward by 731 weeks: the data predates snowflake ids (November 2010)")
    return REPLAY_SHIFT_MS


def earned_follows(
    users: npt.NDArray[np.uint64], authors: npt.NDArray[np.uint64], times_ms: npt.NDArray[np.int64], *, likes: int = 3
) -> EventBatch:
    """Return follow events: a user follows an author at the moment of the ``likes``-th liked item of that author.

    Data sets of ratings and clicks have no follow graph; this one looks at nothing but the past. The arrays [N] are the
    likes, in time order.
    """
    pairs = np.unique(np.stack([users, authors], 1), axis=0, return_inverse=True)[1].ravel() if users.size else users
    due = rank_within(pairs) == likes - 1
    return EventBatch.of("follow", times_ms[due], user_id=users[due], target_user_id=authors[due])


def read_lines(path: Path, report: ImportReport, encoding: str) -> list[tuple[int, str]]:
    """Return the lines of a text file with their numbers from 1, without line ends.

    All are counted in the report; those that the encoding cannot read are problems there, and left out.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    report.rows[path.name] = len(lines)
    decoded = []
    for number, line in enumerate(lines, 1):
        try:
            decoded.append((number, line.removesuffix(b"\r").decode(encoding)))
        except UnicodeDecodeError:
            report.add(path.name, number, f"not {encoding}", repr(line[:60]))
    return decoded


def whole_number(text: str, below: int) -> int | None:
    """Return the number that plain digits stand for, or None where there is none, or none below ``below``."""
    digits = len(str(below))
    if not (text.isascii() and text.isdecimal()) or len(text.lstrip("0")) > digits:
        return None
    number = int(text.lstrip("0") or "0")
    return number if number < below else None


def at_once(values: list[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return a list as an array of that dtype, also if it is empty."""
    return np.array(values, dtype) if values else np.zeros(0, dtype)

"""MIND news clicks as network events; docs/world.md has the mapping and its reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.events import EventBatch
from xfast.ids import IdMap, snowflake
from xfast.world.dataset import Imported, at_once, earned_follows, finish, read_lines, replay_shift, whole_number
from xfast.world.report import ImportReport

CLICK = 29
"""The ``proto`` number of a click."""

HISTORY_STEP_MS = 60_000
"""MIND gives the clicks before a user's first impression without times: they are put one minute apart before it."""

_HISTORY_REQUESTS = 1 << 40  # numbers of the requests that stand for clicks of the history
_NUMBER_LIMIT = 1 << 22  # news numbers go into the sequence bits of a snowflake id
_UNLISTED = "unlisted"

_NEWS_ID = re.compile(r"N(\d{1,19})", re.ASCII).fullmatch
_USER_ID = re.compile(r"U(\d{1,19})", re.ASCII).fullmatch
_SHOWN = re.compile(r"N(\d{1,19})-([01])", re.ASCII).fullmatch
_TIME = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2}):(\d{2}) (AM|PM)", re.ASCII).fullmatch


@dataclass(slots=True)
class _Rows:
    """The columns that are being read: one entry per shown news, and one per click of a history."""

    user: list[int] = field(default_factory=list)
    news: list[int] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    request: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    clicked: list[bool] = field(default_factory=list)
    history: dict[int, tuple[int, list[int]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _News:
    category: str
    subcategory: str
    title: str
    abstract: str


def import_mind(path: str | Path) -> Imported:
    """Read a MIND folder: ``behaviors.tsv``, and ``news.tsv`` where it is there.

    Parameters
    ----------
    path
        The folder. Files that were cut off are fine: rows that cannot be used are listed in the report.

    Returns
    -------
    Imported
        Profiles, posts, impressions, clicks and follows in time order, ties in the order of the rows.

    Raises
    ------
    DataError
        There is no such file, or not one row of it is usable.
    """
    folder = Path(path)
    if not (folder / "behaviors.tsv").is_file():
        raise DataError(f"{folder}: no behaviors.tsv here")
    report = ImportReport(f"mind {folder}")
    rows = _behaviors(read_lines(folder / "behaviors.tsv", report, "utf-8"), report)
    listed = _catalogue(folder / "news.tsv", report)

    times = at_once(rows.time, np.int64)
    shift = replay_shift(times, report) if times.size else 0
    clicks = _history_clicks(rows)
    user = at_once([*clicks.user, *rows.user], np.uint64)
    news = at_once([*clicks.news, *rows.news], np.int64)
    time = at_once([*clicks.time, *rows.time], np.int64) + shift
    request = at_once([*clicks.request, *rows.request], np.uint64)
    clicked = at_once([*clicks.clicked, *rows.clicked], bool)
    position = at_once([*clicks.position, *rows.position], np.int32)
    shown = np.arange(user.size) >= len(clicks.user)
    order = np.argsort(time, kind="stable")
    user, news, time, request = user[order], news[order], time[order], request[order]
    clicked, position, shown = clicked[order], position[order], shown[order]

    numbers, first, where = np.unique(news, return_index=True, return_inverse=True)
    entries = [listed.get(number, _News(_UNLISTED, _UNLISTED, "", "")) for number in numbers.tolist()]
    if missing := sum(number not in listed for number in numbers.tolist()):
        report.notes.append(f"{missing} of {numbers.size} news have no usable row in news.tsv: imported without text")
    publishers, subjects = IdMap(namespace="mind publisher"), IdMap(namespace="mind topic")
    posts = snowflake(time[first], numbers)
    authors = publishers.ids([entry.subcategory for entry in entries])
    known = sorted({entry.category for entry in entries} - {_UNLISTED})
    report.notes.append(f"author = the subcategory of the news ({len(publishers)})")
    report.notes.append("topic = its category: " + ", ".join(f"{subjects.id(name)} {name}" for name in known))
    report.notes.append("a user follows an author with the third click on its news")
    report.notes.append("clicks of the history have no times: one minute apart before the user's first impression")
    made = EventBatch.of(
        "post",
        time[first],
        post_id=posts,
        author_id=authors,
        created_at_ms=time[first],
        text=["\n\n".join(filter(None, (entry.title, entry.abstract))) for entry in entries],
        language=["en" if entry.title else "" for entry in entries],
        topic_ids=[() if entry.category == _UNLISTED else (subjects.id(entry.category),) for entry in entries],
    )
    people, arrived = np.unique(user, return_index=True)
    parts = [
        EventBatch.of("profile", time[arrived], user_id=people, languages=[("en",)] * people.size),
        _publishers(publishers, time),
        made,
        EventBatch.of(
            "impression",
            time[shown],
            user_id=user[shown],
            post_id=posts[where][shown],
            author_id=authors[where][shown],
            position=position[shown],
            request_id=request[shown],
        ),
        EventBatch.of(
            "engagement",
            time[clicked],
            user_id=user[clicked],
            post_id=posts[where][clicked],
            author_id=authors[where][clicked],
            action=CLICK,
            request_id=request[clicked],
        ),
        earned_follows(user[clicked], authors[where][clicked], time[clicked]),
    ]
    return finish(parts, report)


def _behaviors(lines: list[tuple[int, str]], report: ImportReport) -> _Rows:
    rows = _Rows()
    for number, line in lines:
        try:
            _behavior(line, rows)
        except ValueError as error:
            reason, _, detail = str(error).partition(": ")
            report.add("behaviors.tsv", number, reason, detail)
    return rows


def _behavior(line: str, rows: _Rows) -> None:
    """Read one row, all of it or nothing."""
    parts = line.split("\t")
    if len(parts) != 5:
        raise ValueError(f"{len(parts)} fields instead of 5: {line[:60]!r}")
    impression, who, when, history, shown = parts
    user, request = _USER_ID(who), whole_number(impression, _HISTORY_REQUESTS)
    if user is None or request is None:
        raise ValueError(f"not an impression number and a user such as U13740: {impression[:20]!r} {who[:20]!r}")
    time = _time_ms(when)
    read = [_NEWS_ID(item) for item in history.split()]
    seen = [_SHOWN(item) for item in shown.split()]
    if not seen or None in seen:
        raise ValueError(f"an impression is not like N129416-0: {shown[-60:]!r}")
    if None in read:
        raise ValueError(f"an item of the history is not like N129416: {history[-60:]!r}")
    numbers = [int(match[1]) for match in (*read, *seen) if match is not None]
    if max(numbers) >= _NUMBER_LIMIT:
        raise ValueError(f"a news number is not below {_NUMBER_LIMIT}: {max(numbers)}")
    who_number = int(user[1])
    for place, match in enumerate(match for match in seen if match is not None):
        rows.user.append(who_number)
        rows.news.append(int(match[1]))
        rows.time.append(time)
        rows.request.append(request)
        rows.position.append(place)
        rows.clicked.append(match[2] == "1")
    earliest = rows.history.get(who_number)
    if earliest is None or time < earliest[0]:
        rows.history[who_number] = time, numbers[: len(read)]


def _time_ms(text: str) -> int:
    match = _TIME(text)
    if match is None:
        raise ValueError(f"time is not like 11/15/2019 8:55:22 AM: {text[:40]!r}")
    month, day, year, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not 1 <= hour <= 12:
        raise ValueError(f"time has an hour outside [1, 12]: {text!r}")
    hour = hour % 12 + 12 * (match[7] == "PM")
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ValueError(f"time is no date: {text!r}") from None
    return int(moment.timestamp()) * 1000


def _history_clicks(rows: _Rows) -> _Rows:
    """The clicks before each user's first impression, in the order of the users' first rows."""
    clicks = _Rows()
    for user, (time, history) in rows.history.items():
        for back, number in zip(range(len(history), 0, -1), history):
            clicks.user.append(user)
            clicks.news.append(number)
            clicks.time.append(time - back * HISTORY_STEP_MS)
            clicks.request.append(_HISTORY_REQUESTS + len(clicks.request))
            clicks.position.append(0)
            clicks.clicked.append(True)
    return clicks


def _catalogue(path: Path, report: ImportReport) -> dict[int, _News]:
    if not path.is_file():
        return {}
    news: dict[int, _News] = {}
    for number, line in read_lines(path, report, "utf-8"):
        parts = line.split("\t")
        match = _NEWS_ID(parts[0])
        if len(parts) != 8:
            report.add(path.name, number, f"{len(parts)} fields instead of 8", repr(line[:60]))
        elif match is None or not parts[2]:
            report.add(path.name, number, "not a news id such as N55528 with a subcategory", repr(line[:60]))
        elif int(match[1]) in news:
            report.add(path.name, number, "news is listed twice", parts[0])
        else:
            news[int(match[1])] = _News(*parts[1:5])
    return news


def _publishers(publishers: IdMap, times: npt.NDArray[np.int64]) -> EventBatch:
    names = [str(name) for name in publishers]
    return EventBatch.of(
        "profile",
        np.repeat(times[:1], len(names)),
        user_id=publishers.ids(names),
        screen_name=names,
        display_name=[name.replace("_", " ").title() for name in names],
    )

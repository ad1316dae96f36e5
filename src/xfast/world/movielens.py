"""MovieLens ratings as network events; docs/world.md has the mapping and its reasons."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.events import EventBatch, Ragged
from xfast.ids import snowflake
from xfast.world.dataset import Imported, at_once, earned_follows, finish, read_lines, replay_shift, whole_number
from xfast.world.report import ImportReport

ACTIONS: dict[int, tuple[int, ...]] = {
    5: (1, 11, 29, 37),
    4: (1, 11, 29),
    3: (11, 29),
    2: (12, 29),
    1: (12, 17, 29),
}
"""Rating -> the actions it becomes: favorite 1, dwell 11, not_dwelled 12, not_interested 17, click 29, share 37."""

MASKS = {rating: sum(1 << action for action in actions) for rating, actions in ACTIONS.items()}
"""Rating -> its actions as a bit mask (:attr:`xfast.world.Interactions.actions`)."""

LIKED = 4
"""Ratings from here up are favorites."""

STUDIO = 1_000_000_000
"""Added to the bit mask of an item's genres: the id of its author."""

GENRES_1M = (
    *("Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy"),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The genres of the 1M layout; the 100K layout brings its own ``u.genre``."""

_MAX_ITEM = (1 << 22) - 1
# Earlier times would stay before the snowflake epoch even after the shift; the first rating ever is later than that.
_MIN_TIME_S, _MAX_TIME_S = 846_726_176, 2**31 - 1


def ratings_of(masks: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """Return the exact ratings behind action masks, [N]; 0 where a mask is not that of a rating."""
    wanted = np.asarray(masks, np.uint64)
    ratings = np.zeros(wanted.shape, np.int8)
    for rating, mask in MASKS.items():
        ratings[wanted == np.uint64(mask)] = rating
    return ratings


def item_numbers(post_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the numbers that the items of imported posts have in the MovieLens files."""
    return (post_ids & np.uint64(_MAX_ITEM)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Item:
    title: str
    genres: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the files of one release are named and separated."""

    separator: str
    items: str
    users: str


_LAYOUTS = {"\t": _Layout("\t", "u.item", "u.user"), "::": _Layout("::", "movies.dat", "users.dat")}


def import_movielens(path: str | Path) -> Imported:
    """Read MovieLens ratings, and items and users where the folder has them.

    Parameters
    ----------
    path
        A folder with ``u.data`` (100K) or ``ratings.dat`` (1M), or a file of ratings in either form, such as
        ``u1.base``.

    Returns
    -------
    Imported
        Profiles, posts, engagements and follows in time order, ties in the order of the rows.

    Raises
    ------
    DataError
        There is no such file, or not one row of it is usable.
    """
    ratings = _ratings_file(Path(path))
    report = ImportReport(f"movielens {ratings}")
    lines = read_lines(ratings, report, "latin-1")
    layout = _LAYOUTS["::" if lines and "::" in lines[0][1] else "\t"]
    users, items, stars, seconds, line_numbers = _ratings(lines, layout, ratings.name, report)
    names = _genre_names(ratings.parent, layout)
    catalogue = _items(ratings.parent, layout, names, report)

    times = seconds * 1000
    times += replay_shift(times, report)
    order = np.argsort(times, kind="stable")
    users, items, stars = users[order], items[order], stars[order]
    times, line_numbers = times[order], line_numbers[order]

    numbers, first, where = np.unique(items, return_index=True, return_inverse=True)
    listed = [catalogue.get(number, _Item("", ())) for number in numbers.tolist()]
    if catalogue and (missing := sum(number not in catalogue for number in numbers.tolist())):
        report.notes.append(f"{missing} rated items are not in {layout.items}: imported without title and genres")
    posts = snowflake(times[first], numbers)
    authors = np.array([STUDIO + sum(1 << genre for genre in item.genres) for item in listed], np.uint64)
    made = EventBatch.of(
        "post",
        times[first],
        post_id=posts,
        author_id=authors,
        created_at_ms=times[first],
        text=[item.title for item in listed],
        language=["en" if item.title else "" for item in listed],
        topic_ids=[tuple(genre + 1 for genre in item.genres) for item in listed],
    )
    report.notes.append("author = the item's set of genres; topics: " + _legend(names))
    report.notes.append("a user follows an author with the third rating of 4 or 5 for its items")
    liked = stars >= LIKED
    parts = [
        _profiles(ratings.parent, layout, users, times, report),
        _studios(authors, names, times),
        made,
        _engagements(users, posts[where], authors[where], stars, times, line_numbers),
        earned_follows(users[liked], authors[where][liked], times[liked]),
    ]
    return finish(parts, report)


def _ratings_file(path: Path) -> Path:
    if path.is_file():
        return path
    for name in ("u.data", "ratings.dat"):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path}: no MovieLens ratings here (u.data, ratings.dat, or a file such as u1.base)")


def _ratings(
    lines: list[tuple[int, str]], layout: _Layout, file: str, report: ImportReport
) -> tuple[
    npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.uint64]
]:
    good = re.compile(layout.separator.join([r"(\d{1,19})"] * 4), re.ASCII).fullmatch
    rows = []
    for number, line in lines:
        match = good(line)
        if match is None:
            found = line.split(layout.separator)
            what = f"{len(found)} fields instead of 4" if len(found) != 4 else "a field is not a whole number"
            report.add(file, number, what, repr(line[:60]))
            continue
        user, item, stars, seconds = map(int, match.groups())
        if not 1 <= stars <= 5:
            report.add(file, number, "rating is not in [1, 5]", str(stars))
        elif not 1 <= item <= _MAX_ITEM:
            report.add(file, number, f"item is not in [1, {_MAX_ITEM}]", str(item))
        elif not 1 <= user < STUDIO:
            report.add(file, number, f"user is not in [1, {STUDIO - 1}]", str(user))
        elif not _MIN_TIME_S <= seconds <= _MAX_TIME_S:
            report.add(file, number, f"time is not in [{_MIN_TIME_S}, {_MAX_TIME_S}]", str(seconds))
        else:
            rows.append((user, item, stars, seconds, number))
    table = at_once(rows, np.int64).reshape(-1, 5)
    return (
        table[:, 0].astype(np.uint64),
        table[:, 1],
        table[:, 2].astype(np.int8),
        table[:, 3],
        table[:, 4].astype(np.uint64),
    )


def _genre_names(folder: Path, layout: _Layout) -> tuple[str, ...]:
    if layout.separator == "::":
        return GENRES_1M
    path = folder / "u.genre"
    if not path.is_file():
        return ()
    return tuple(line.split("|")[0] for line in path.read_text("latin-1").splitlines() if line)


def _items(folder: Path, layout: _Layout, names: tuple[str, ...], report: ImportReport) -> dict[int, _Item]:
    path = folder / layout.items
    if not path.is_file():
        report.notes.append(f"no {layout.items} beside the ratings: items have no title and no genres")
        return {}
    parse = _item_100k if layout.separator == "\t" else _item_1m
    items: dict[int, _Item] = {}
    for line_number, line in read_lines(path, report, "latin-1"):
        try:
            number, item = parse(line, names)
        except ValueError as error:
            report.add(path.name, line_number, str(error), repr(line[:60]))
            continue
        if number in items:
            report.add(path.name, line_number, "item is listed twice", str(number))
        else:
            items[number] = item
    return items


def _item_100k(line: str, names: tuple[str, ...]) -> tuple[int, _Item]:
    number, title, *rest = line.split("|")
    flags = rest[3:]
    known = whole_number(number, _MAX_ITEM + 1)
    if known is None or len(flags) != len(names) or not set(flags) <= {"0", "1"}:
        raise ValueError(f"not number|title|date|date|url and {len(names)} genre flags")
    return known, _Item(title, tuple(genre for genre, flag in enumerate(flags) if flag == "1"))


def _item_1m(line: str, names: tuple[str, ...]) -> tuple[int, _Item]:
    number, _, rest = line.partition("::")
    title, separator, genres = rest.rpartition("::")
    known = whole_number(number, _MAX_ITEM + 1)
    if known is None or not separator:
        raise ValueError("not number::title::genres")
    try:
        return known, _Item(title, tuple(sorted(names.index(genre) for genre in genres.split("|"))))
    except ValueError:
        raise ValueError("a genre is not one of the 18") from None


def _profiles(
    folder: Path, layout: _Layout, users: npt.NDArray[np.uint64], times: npt.NDArray[np.int64], report: ImportReport
) -> EventBatch:
    """A profile per user at the time of the first rating, with the age where the files have it; gender stays out."""
    numbers, first = np.unique(users, return_index=True)
    ages: dict[int, int] = {}
    path = folder / layout.users
    column: Callable[[list[str]], str] = (lambda row: row[1]) if layout.separator == "\t" else (lambda row: row[2])
    if path.is_file():
        for line_number, line in read_lines(path, report, "latin-1"):
            row = line.split("|" if layout.separator == "\t" else "::")
            number, age = (whole_number(row[0], STUDIO), whole_number(column(row), 200)) if len(row) == 5 else (0, None)
            if number is None or age is None:
                report.add(path.name, line_number, "not a user with 5 fields and an age", repr(line[:60]))
            else:
                ages[number] = age
    return EventBatch.of(
        "profile",
        times[first],
        user_id=numbers,
        screen_name=[f"user{number}" for number in numbers.tolist()],
        languages=[("en",)] * numbers.size,
        age_years=at_once([ages.get(number, 0) for number in numbers.tolist()], np.int64),
    )


def _studios(authors: npt.NDArray[np.uint64], names: tuple[str, ...], times: npt.NDArray[np.int64]) -> EventBatch:
    """A profile per author, named after its genres, when the data begins."""
    studios = np.unique(authors)
    labels = []
    for studio in studios.tolist():
        genres = [name for bit, name in enumerate(names) if (studio - STUDIO) >> bit & 1]
        labels.append(" & ".join(genres) or "Unlisted")
    return EventBatch.of(
        "profile",
        np.repeat(times[:1], studios.size),
        user_id=studios,
        screen_name=[re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") for label in labels],
        display_name=labels,
    )


def _engagements(
    users: npt.NDArray[np.uint64],
    posts: npt.NDArray[np.uint64],
    authors: npt.NDArray[np.uint64],
    stars: npt.NDArray[np.int8],
    times: npt.NDArray[np.int64],
    line_numbers: npt.NDArray[np.uint64],
) -> EventBatch:
    counts = np.array([0, *(len(ACTIONS[rating]) for rating in range(1, 6))])
    lists = Ragged(np.cumsum(counts), np.array([a for rating in range(1, 6) for a in ACTIONS[rating]], np.int32))
    rows = np.repeat(np.arange(users.size), counts[stars])
    return EventBatch.of(
        "engagement",
        times[rows],
        user_id=users[rows],
        post_id=posts[rows],
        author_id=authors[rows],
        action=lists[stars.astype(np.int64) - 1].values,
        request_id=line_numbers[rows],
    )


def _legend(names: tuple[str, ...]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names, 1)) or "none (no u.genre)"

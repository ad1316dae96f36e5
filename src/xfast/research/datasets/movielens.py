"""MovieLens-100K and -1M: genre features scaled by the mean rating, three base and five named stakeholders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from xfast.errors import DataError
from xfast.research.environment import F64, I64, Environment, scaled_to_peak, shuffled_pool

# Order of u.genre; ML-1M has no film of genre "unknown" and keeps the column at 0 (RESEARCH §4).
GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
MIN_RATINGS = 5


@dataclass(frozen=True)
class Ratings:
    """Training ratings and the genre table.

    `items` and `values` are ``[n]``; `genres` is ``[max id + 1, 19]`` of 0/1.
    """

    items: I64
    values: F64
    genres: F64


def load_100k(folder: Path) -> Environment:
    """ML-100K from ``ua.base`` without a random tenth (validation, ``default_rng(42)``) and ``u.item``."""
    table = _read(folder / "ua.base", "\t", ("user", "item", "rating", "time"))
    rows = np.random.default_rng(42).permutation(table.height)[int(table.height * 0.1) :]
    genres = np.zeros((_top_id(table), len(GENRES)))
    for number, line in enumerate((folder / "u.item").read_text(encoding="latin-1").splitlines(), start=1):
        fields = line.split("|")
        if len(fields) != 24:
            raise DataError(f"{folder / 'u.item'}:{number}: {len(fields)} fields, 24 expected")
        if int(fields[0]) < len(genres):
            genres[int(fields[0])] = [float(flag) for flag in fields[5:]]
    ratings = Ratings(table["item"].to_numpy()[rows], table["rating"].to_numpy()[rows].astype(np.float64), genres)
    return environment("ml-100k", ratings)


def load_1m(folder: Path) -> Environment:
    """ML-1M from ``ratings.dat``, the first 80 % by timestamp, and ``movies.dat``."""
    table = _read(folder / "ratings.dat", "::", ("user", "item", "rating", "time"))
    rows = np.argsort(table["time"].to_numpy(), kind="stable")[: int(table.height * 0.8)]
    genres = np.zeros((_top_id(table), len(GENRES)))
    for number, line in enumerate((folder / "movies.dat").read_text(encoding="latin-1").splitlines(), start=1):
        fields = line.split("::")
        if len(fields) != 3:
            raise DataError(f"{folder / 'movies.dat'}:{number}: {len(fields)} fields, 3 expected")
        for genre in fields[2].split("|"):
            if genre not in GENRES:
                raise DataError(f"{folder / 'movies.dat'}:{number}: unknown genre {genre!r}")
            if int(fields[0]) < len(genres):
                genres[int(fields[0]), GENRES.index(genre)] = 1.0
    ratings = Ratings(table["item"].to_numpy()[rows], table["rating"].to_numpy()[rows].astype(np.float64), genres)
    return environment("ml-1m", ratings)


def environment(name: str, ratings: Ratings) -> Environment:
    """Pool, features and stakeholders from training ratings (RESEARCH §4)."""
    counts = np.bincount(ratings.items, minlength=len(ratings.genres))
    totals = np.bincount(ratings.items, weights=ratings.values, minlength=len(ratings.genres))
    pool = shuffled_pool(np.flatnonzero(counts >= MIN_RATINGS))
    if len(pool) < 2:
        raise DataError(f"{name}: {len(pool)} items have at least {MIN_RATINGS} ratings, 2 are needed")
    features = ratings.genres[pool] * (totals[pool] / counts[pool] / 5.0)[:, None]
    return Environment(
        name=name,
        features=features.astype(np.float32).astype(np.float64),
        topics=ratings.genres[pool].argmax(axis=1).astype(np.int64),
        stakeholders=base_stakeholders(ratings),
        hidden=named_stakeholders(ratings),
        facts={"train_interactions": len(ratings.items), "pool": len(pool)},
    )


def base_stakeholders(ratings: Ratings) -> dict[str, F64]:
    """User (mean rating above 3), platform (rating times log popularity) and diversity (under-served genres)."""
    tags = ratings.genres[ratings.items]
    count = tags.sum(axis=0)
    mean = (tags * ratings.values[:, None]).sum(axis=0) / np.maximum(count, 1.0)
    seen = count > 0
    platform = mean * np.log2(count + 1.0)
    return {
        "user": scaled_to_peak(np.where(seen, mean - 3.0, 0.0)),
        "platform": platform / platform.max(),
        "diversity": scaled_to_peak(1.0 / seen.sum() - count / count.sum()),
    }


def named_stakeholders(ratings: Ratings) -> dict[str, F64]:
    """The five hidden stakeholders of Method B: creator, advertiser, niche, mainstream, moderator."""
    tags = ratings.genres[ratings.items]
    count = tags.sum(axis=0)
    supply = ratings.genres.sum(axis=0)
    low = (tags * (ratings.values <= 2.0)[:, None]).sum(axis=0) / np.maximum(count, 1.0)
    top = np.zeros(len(count))
    # Action and Thriller tie for third place in ML-100K; the published numbers belong to the later one.
    top[np.argsort(supply, kind="stable")[-3:]] = 1.0
    return {
        "creator": supply / supply.max(),
        "advertiser": count / count.max(),
        "niche": np.where(supply < np.median(supply), 1.0, -1.0),
        "mainstream": top,
        "moderator": -low / low.max(),
    }


def _read(path: Path, separator: str, columns: tuple[str, ...]) -> pl.DataFrame:
    """A headerless table of integers; `separator` may have several characters."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        fields = line.split(separator)
        if len(fields) != len(columns):
            raise DataError(f"{path}:{number}: {len(fields)} fields, {len(columns)} expected")
        rows.append(fields)
    try:
        return pl.DataFrame(rows, schema=list(columns), orient="row").cast(pl.Int64)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: a field is not an integer ({error})") from error


def _top_id(table: pl.DataFrame) -> int:
    return int(table["item"].to_numpy().max(initial=0)) + 1

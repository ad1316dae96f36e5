"""Amazon Reviews 2023, Kindle Store 5-core: genre, price, volume, sentiment and length features, five stakeholders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from xfast.errors import DataError
from xfast.research.environment import F64, Environment, scaled_to_peak, shuffled_pool

GENRES = 20
TOP_ITEMS = 20_000
MIN_USER = 5
MIN_ITEM = 5
PRICE, VOLUME, SENTIMENT, LENGTH = (slice(20, 24), slice(24, 27), slice(27, 30), slice(30, 32))
WIDTH = 32


def load(folder: Path) -> Environment:
    """Read ``Kindle_Store.csv`` (user, item, rating, timestamp) and ``meta_Kindle_Store.jsonl``.

    The 20,000 most rated items are kept, then users with at least five ratings on them, then the oldest 80 %.
    """
    ratings = _ratings(folder / "Kindle_Store.csv")
    meta = _meta(folder / "meta_Kindle_Store.jsonl", set(ratings["item"].unique().to_list()))
    ratings = ratings.filter(pl.col("item").is_in(meta["item"].implode()))
    ratings = ratings.sort("time", maintain_order=True).head(int(ratings.height * 0.8))
    count = ratings.group_by("item").agg(pl.len().alias("count"))
    kept = meta.join(count, on="item", how="inner", maintain_order="left").filter(pl.col("count") >= MIN_ITEM)
    kept = kept.sort("item")
    if kept.height < 2:
        raise DataError(f"{folder}: {kept.height} items have at least {MIN_ITEM} training ratings, 2 are needed")
    genres = _top_genres(meta)
    features, codes = _features(kept, genres)
    rows = shuffled_pool(np.arange(kept.height))
    return Environment(
        name="amazon-kindle",
        features=features[rows].astype(np.float32).astype(np.float64),
        topics=codes[rows],
        stakeholders=stakeholders(meta, ratings, genres),
        facts={"train_interactions": ratings.height, "pool": len(rows)},
    )


def stakeholders(meta: pl.DataFrame, ratings: pl.DataFrame, genres: list[str]) -> dict[str, F64]:
    """Reader, publisher, indie author, premium seller and diversity, each ``[32]`` (RESEARCH §4)."""
    per_rating = ratings.join(meta.select("item", "genre"), on="item", how="inner")
    liked = _by_genre(per_rating.group_by("genre").agg((pl.col("rating") - 3.0).mean().alias("value")), genres)
    served = _by_genre(per_rating.group_by("genre").agg(pl.len().cast(pl.Float64).alias("value")), genres)
    volume = _by_genre(meta.group_by("genre").agg(pl.col("rating_number").sum().alias("value")), genres)

    def weights(genre: F64 | None = None, **blocks: tuple[float, ...]) -> F64:
        out = np.zeros(WIDTH)
        if genre is not None:
            out[: len(genre)] = genre
        places = {"price": PRICE, "volume": VOLUME, "sentiment": SENTIMENT, "length": LENGTH}
        for name, values in blocks.items():
            out[places[name]] = values
        return out

    order = np.argsort(-served, kind="stable")
    indie = np.zeros(len(genres))
    indie[order[len(order) // 2 :]] = 0.5
    indie[order[:3]] = -1.0
    share = served / max(float(served.sum()), 1.0)
    return {
        "reader": weights(scaled_to_peak(liked), sentiment=(-0.5, 0.2, 0.5), price=(0.0, 0.2, 0.3, 0.0)),
        "publisher": weights(volume / max(float(volume.max(initial=0.0)), 1.0), volume=(-0.2, 0.3, 0.6)),
        "indie_author": weights(indie, volume=(0.8, 0.2, -0.8)),
        "premium_seller": weights(price=(-1.0, -0.3, 0.3, 1.0), sentiment=(-0.8, 0.0, 0.8), length=(-0.2, 0.4)),
        "diversity": weights(scaled_to_peak(np.where(served > 0, 1.0 / max(int((served > 0).sum()), 1) - share, 0.0))),
    }


def _features(items: pl.DataFrame, genres: list[str]) -> tuple[F64, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    index = {name: i for i, name in enumerate(genres)}
    codes = np.array([index.get(genre, -1) for genre in items["genre"]], np.int64)
    out = np.zeros((items.height, WIDTH))
    known = np.flatnonzero(codes >= 0)
    out[known, codes[known]] = 1.0

    def bins(column: str, edges: tuple[float, ...]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.asarray(np.digitize(items[column].to_numpy().astype(np.float64), edges))

    # Price: free, then below 5, then 5 to 15, then the rest.
    price = np.where(items["price"].to_numpy() <= 0, 0, 1 + bins("price", (5.0, 15.0)))
    every = np.arange(items.height)
    out[every, PRICE.start + price] = 1.0
    out[every, VOLUME.start + bins("rating_number", (50.0, 500.0))] = 1.0
    out[every, SENTIMENT.start + bins("average_rating", (3.0, 4.0))] = 1.0
    out[every, LENGTH.start + bins("pages", (200.0,))] = 1.0
    return out, np.maximum(codes, 0)


def _top_genres(meta: pl.DataFrame) -> list[str]:
    count = (
        meta.filter(pl.col("genre") != "")["genre"].value_counts().sort(["count", "genre"], descending=[True, False])
    )
    return count["genre"].head(GENRES).to_list()


def _by_genre(table: pl.DataFrame, genres: list[str]) -> F64:
    found = dict(zip(table["genre"].to_list(), table["value"].to_list(), strict=True))
    return np.array([float(found.get(genre) or 0.0) for genre in genres])


def _ratings(path: Path) -> pl.DataFrame:
    try:
        table = pl.read_csv(path)
        table = table.select(
            pl.col("user_id").alias("user"),
            pl.col("parent_asin").alias("item"),
            pl.col("rating").cast(pl.Float64),
            pl.col("timestamp").cast(pl.Int64).alias("time"),
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: {error}; columns user_id, parent_asin, rating, timestamp are needed") from error
    popular = table["item"].value_counts().sort(["count", "item"], descending=[True, False]).head(TOP_ITEMS)
    table = table.filter(pl.col("item").is_in(popular["item"].implode()))
    return table.filter(pl.len().over("user") >= MIN_USER)


def _meta(path: Path, wanted: set[str]) -> pl.DataFrame:
    rows = [_row(record) for record in _records(path) if record.get("parent_asin") in wanted]
    schema = {
        "item": pl.String,
        "genre": pl.String,
        "price": pl.Float64,
        "rating_number": pl.Float64,
        "average_rating": pl.Float64,
        "pages": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row").unique("item", keep="first", maintain_order=True)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: not JSON ({error})") from error


def _row(record: dict[str, Any]) -> tuple[str, str, float, float, float, float]:
    """Item, genre (third level of the category path), price, number of ratings, mean rating, pages."""
    path = record.get("categories") or []
    length = (record.get("details") or {}).get("Print length") or ""
    pages = re.match(r"\s*(\d+)", length)
    return (
        record["parent_asin"],
        path[2] if len(path) > 2 else "",
        _number(record.get("price")),
        _number(record.get("rating_number")),
        _number(record.get("average_rating")),
        float(pages[1]) if pages else 0.0,
    )


def _number(value: object) -> float:
    """A number out of metadata that mixes numbers, text and null; anything else counts as 0."""
    try:
        return float(str(value).lstrip("$"))
    except ValueError:
        return 0.0

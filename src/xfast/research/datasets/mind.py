"""MIND-small (train): category and quality features of news, five stakeholders (RESEARCH §4)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from xfast.errors import DataError
from xfast.research.environment import F64, Environment, scaled_to_peak, shuffled_pool

SUBCATEGORIES = 14
MIN_IMPRESSIONS = 5
# Articles of the complete training file; anything else is a sample and is never compared with published numbers.
COMPLETE_NEWS = 51_282
QUALITY = ("title", "abstract", "entities")
ADVERTISED = ("foodanddrink", "autos", "travel", "lifestyle", "music", "entertainment", "movies", "tv")
UNADVERTISED = ("sub:newscrime", "sub:newspolitics")
JOURNALISM = tuple(
    f"sub:{name}" for name in ("newsworld", "newspolitics", "newsus", "newsscienceandtechnology", "financenews")
)
PASTIME = ("kids", "video", "tv", "music", "entertainment")

_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_BEHAVIORS = ("impression_id", "user_id", "time", "history", "impressions")


def load(folder: Path, *, min_impressions: int = MIN_IMPRESSIONS) -> Environment:
    """Read ``news.tsv`` and ``behaviors.tsv``; the pool is every article with enough impressions.

    Parameters
    ----------
    min_impressions
        5 as published; 0 keeps all articles.

    Raises
    ------
    DataError
        A file is malformed, or fewer than two articles remain.
    """
    news = _table(folder / "news.tsv", _NEWS)
    shown = _impressions(folder / "behaviors.tsv")
    news = news.join(shown, on="news_id", how="left", maintain_order="left").with_columns(
        pl.col("impressions", "clicks").fill_null(0)
    )
    categories = news["category"].unique().sort().to_list()
    top = news["subcategory"].value_counts(sort=True).sort(["count", "subcategory"], descending=[True, False])
    subcategories = sorted(top["subcategory"].head(SUBCATEGORIES).to_list())
    # A subcategory may be spelt like a category ("news"); the prefix keeps their columns apart.
    names = [*categories, *(f"sub:{name}" for name in subcategories), *QUALITY, "top_subcategory"]
    rows = shuffled_pool(np.flatnonzero(news["impressions"].to_numpy() >= min_impressions))
    if len(rows) < 2:
        raise DataError(f"{folder}: {len(rows)} articles have at least {min_impressions} impressions, 2 are needed")
    features = _features(news, categories, subcategories)[rows]
    codes = np.array([categories.index(value) for value in news["category"]])
    return Environment(
        name="mind-small" if news.height == COMPLETE_NEWS else "mind-truncated",
        features=features.astype(np.float32).astype(np.float64),
        topics=codes[rows].astype(np.int64),
        stakeholders=stakeholders(news, categories, names),
        facts={"train_interactions": int(shown["impressions"].sum()), "pool": len(rows)},
    )


def stakeholders(news: pl.DataFrame, categories: list[str], names: list[str]) -> dict[str, F64]:
    """Reader, publisher, advertiser, journalist and civic diversity, each ``[len(names)]``."""
    by = (
        news.group_by("category")
        .agg(pl.col("clicks", "impressions").sum(), pl.len().alias("articles"))
        .sort("category")
    )
    rate = (by["clicks"].to_numpy() + 1.0) / (by["impressions"].to_numpy() + 10.0)
    articles = by["articles"].to_numpy().astype(np.float64)
    column = {name: i for i, name in enumerate(names)}

    def weights(values: dict[str, float]) -> F64:
        out = np.zeros(len(names))
        for name, value in values.items():
            if name in column:  # a small sample may lack a category
                out[column[name]] = value
        return out

    supply = scaled_to_peak(1.0 / len(categories) - articles / articles.sum())
    return {
        "reader": weights(
            dict(zip(categories, rate / rate.max(), strict=True)) | {"title": 0.2, "abstract": 0.2, "entities": 0.3}
        ),
        "publisher": weights(dict(zip(categories, articles / articles.max(), strict=True))),
        "advertiser": weights(dict.fromkeys(ADVERTISED, 1.0) | {"news": -1.0} | dict.fromkeys(UNADVERTISED, -1.0)),
        "journalist": weights(
            dict.fromkeys(JOURNALISM, 1.0) | dict.fromkeys(PASTIME, -0.5) | dict.fromkeys(QUALITY, 0.5)
        ),
        "civic_diversity": weights(dict(zip(categories, supply, strict=True))),
    }


def _features(news: pl.DataFrame, categories: list[str], subcategories: list[str]) -> F64:
    def one_hot(values: pl.Series, names: list[str]) -> F64:
        return np.asarray(values.to_numpy()[:, None] == np.array(names, object)[None, :], np.float64)

    def length(values: pl.Series) -> F64:
        words = values.fill_null("").str.split(" ").list.len().to_numpy().astype(np.float64)
        return np.minimum(words / max(float(np.percentile(words, 95)), 1.0), 1.0)

    def entities(title: str | None, abstract: str | None) -> float:
        try:
            return float(len(json.loads(title or "[]")) + len(json.loads(abstract or "[]")))
        except json.JSONDecodeError as error:
            raise DataError(f"news.tsv: entities are not JSON ({error})") from error

    found = [entities(a, b) for a, b in zip(news["title_entities"], news["abstract_entities"], strict=True)]
    flag = news["subcategory"].is_in(subcategories).to_numpy().astype(np.float64)
    quality = [length(news["title"]), length(news["abstract"]), np.minimum(np.array(found) / 10.0, 1.0), flag]
    blocks = [one_hot(news["category"], categories), one_hot(news["subcategory"], subcategories)]
    return np.hstack([*blocks, np.stack(quality, axis=1)])


def _impressions(path: Path) -> pl.DataFrame:
    """Impressions and clicks of every shown article."""
    shown = (
        _table(path, _BEHAVIORS)
        .select(pl.col("impressions").str.split(" ").alias("shown"))
        .explode("shown")
        .filter(pl.col("shown").is_not_null() & (pl.col("shown") != ""))
        .select(
            pl.col("shown").str.extract(r"^(.+)-[01]$").alias("news_id"),
            pl.col("shown").str.extract(r"-([01])$").cast(pl.Int64).alias("click"),
        )
    )
    if shown["news_id"].null_count():
        raise DataError(f"{path}: an impression is not of the form N123-0 or N123-1")
    return shown.group_by("news_id").agg(pl.len().alias("impressions"), pl.col("click").sum().alias("clicks"))


def _table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, separator="\t", has_header=False, quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: {error}") from error
    if table.width != len(columns):
        raise DataError(f"{path}: {table.width} columns, {len(columns)} expected")
    return table.rename(dict(zip(table.columns, columns, strict=True)))


def is_complete(folder: Path) -> bool:
    """Whether the folder holds the whole MIND-small training set rather than a sample of it."""
    with (folder / "news.tsv").open("rb") as lines:
        return sum(1 for _ in lines) == COMPLETE_NEWS

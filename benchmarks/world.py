"""Events, importers and the synthetic network; rivals are what one would write with polars, JSON or NumPy alone.

The ratings file is drawn here, with the sizes and ties of MovieLens-100K: the real one may not be shipped.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xfast.events import EventBatch, decode_all, encode_all, from_arrow, read_parquet, to_arrow, write_parquet
from xfast.world import SyntheticConfig, World, generate, import_movielens, interactions
from xfast.world.movielens import ratings_of
from xfast.world.truth import HEADS

_SMALL = SyntheticConfig(users=200, posts=1_500, impressions=20_000)


class Synthetic:
    """The demo's world: generation, its events, its interactions."""

    timeout = 120.0
    world: World

    def setup(self) -> None:
        self.world = generate(SyntheticConfig(), seed=0)
        self.events = self.world.events()

    def time_generate(self) -> None:
        generate(SyntheticConfig(), seed=0)

    def time_events(self) -> None:
        self.world.events()

    def time_interactions(self) -> None:
        interactions(self.events)

    def time_rival_interactions_polars(self) -> None:
        """The same grouping as an expression of polars, from arrays that are already joined."""
        import polars as pl

        done = self.events.columns("engagement")
        names = ("user_id", "post_id", "request_id", "action")
        table = pl.DataFrame({name: done[name] for name in names}).with_columns(
            bit=pl.lit(1, pl.UInt64) * (2 ** pl.col("action").cast(pl.UInt64))
        )
        table.group_by("user_id", "post_id", "request_id", maintain_order=True).agg(pl.col("bit").sum())

    def time_true_probabilities(self) -> None:
        views = self.world.views
        self.world.truth.probabilities(views.user, views.post, views.time_ms)

    def peakmem_generate(self) -> None:
        generate(SyntheticConfig(), seed=0)

    def track_engagements(self) -> int:
        return int(self.world.views.outcome.sum())

    def track_largest_calibration_gap(self) -> float:
        """Observed rate over true probability, the action farthest from 1; sampling noise only."""
        views = self.world.views
        chance = self.world.truth.probabilities(views.user, views.post, views.time_ms).mean(axis=0, dtype=float)
        ratios = views.outcome.mean(axis=0) / chance
        common = [index for index in range(len(HEADS)) if chance[index] > 0.005]
        return float(np.abs(ratios[common] - 1).max())


class Codec:
    """20,000 events of all kinds in their forms."""

    events: EventBatch

    def setup(self) -> None:
        batch = generate(_SMALL, seed=0).events()
        self.events = batch.take(np.arange(0, len(batch), max(1, len(batch) // 20_000)))
        self.values = list(self.events)
        self.messages = self.events.to_bytes()
        self.table = to_arrow(self.events)
        self.lines = [json.dumps(asdict(event)) for event in self.values]

    def time_batch_to_bytes(self) -> None:
        self.events.to_bytes()

    def time_batch_from_bytes(self) -> None:
        EventBatch.from_bytes(self.messages)

    def time_single_to_bytes(self) -> None:
        encode_all(self.values)

    def time_single_from_bytes(self) -> None:
        decode_all(self.messages)

    def time_to_arrow(self) -> None:
        to_arrow(self.events)

    def time_from_arrow(self) -> None:
        from_arrow(self.table)

    def time_rival_json_loads(self) -> None:
        """Only into dicts: no types, no columns."""
        for line in self.lines:
            json.loads(line)

    def track_bytes_per_event(self) -> float:
        return sum(map(len, self.messages)) / len(self.messages)

    def track_rival_json_bytes_per_event(self) -> float:
        return sum(len(line.encode()) for line in self.lines) / len(self.lines)

    def track_parquet_bytes_per_event(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            write_parquet(self.events, Path(folder, "events.parquet"))
            return Path(folder, "events.parquet").stat().st_size / len(self.events)


class Ratings:
    """100,000 ratings: import, storing, reading back."""

    timeout = 120.0

    def setup_cache(self) -> str:
        folder = Path(tempfile.mkdtemp(prefix="xfast-ratings-"))
        rng = np.random.default_rng(0)
        user, item = rng.zipf(1.3, 400_000) % 943 + 1, rng.zipf(1.2, 400_000) % 1_682 + 1
        pairs = np.unique(user * 10_000 + item)
        pairs = rng.permutation(np.r_[pairs, rng.choice(943 * 10_000, 400_000) + 10_000])
        pairs = pairs[(pairs % 10_000 >= 1) & (pairs % 10_000 <= 1_682)][:100_000]
        times = 874_724_710 + rng.integers(0, 18_561, pairs.size) * 1_000
        columns = np.stack([pairs // 10_000, pairs % 10_000, rng.integers(1, 6, pairs.size), times], 1)
        np.savetxt(folder / "u.data", columns, "%d", "\t")
        import_movielens(folder).save(folder / "out")
        return str(folder)

    def setup(self, folder: str) -> None:
        self.imported = import_movielens(folder)

    def time_import(self, folder: str) -> None:
        import_movielens(folder)

    def time_rival_loadtxt(self, folder: str) -> Any:
        """Only the numbers, no check of any row."""
        return np.loadtxt(Path(folder, "u.data"), np.int64)

    def time_save(self, folder: str) -> None:
        with tempfile.TemporaryDirectory() as target:
            self.imported.save(target)

    def time_read_parquet(self, folder: str) -> None:
        read_parquet(Path(folder, "out", "events.parquet"))

    def peakmem_import(self, folder: str) -> None:
        import_movielens(folder)

    def track_ratings_recovered(self, folder: str) -> float:
        """Share of ratings that read back exactly from the actions; must be 1."""
        rows = interactions(self.imported.events)
        lines = Path(folder, "u.data").read_bytes().splitlines()
        stars = np.array([int(line.split(b"\t")[2]) for line in lines], np.int8)
        return float((ratings_of(rows.actions) == stars[rows.request_id.astype(np.int64) - 1]).mean())

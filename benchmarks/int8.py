"""Eight bits on the shipped, trained ranker: time, bytes and quality of each way, beside float32 and bfloat16.

Quality is the share of a list's ten best posts that stay among the ten best, over lists of real (synthetic network)
viewers; docs/int8.md has all metrics with intervals.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from xfast.feed.demo import MODELS
from xfast.phoenix import Ranker, load_artifacts
from xfast.phoenix.calibration import ViewerList, calibrate, viewer_lists
from xfast.phoenix.pipeline import weighted_scores
from xfast.phoenix.quantization import quantize_tower
from xfast.phoenix.stored import StoredParams
from xfast.phoenix.training.sequences import Sequences
from xfast.world import SyntheticConfig, generate

LISTS = 200
VARIANTS = ("float32", "bfloat16", "int8 engine", "int8 files", "int8 files, engine", "int8 files calibrated, engine")


@cache
def _lists() -> tuple[list[ViewerList], list[ViewerList]]:
    """To measure on, and to calibrate with."""
    sequences = Sequences.from_interactions(generate(SyntheticConfig(), 0).interactions())
    config = load_artifacts(MODELS).ranker.config
    return viewer_lists(sequences, config, LISTS), viewer_lists(sequences, config, 64, seed=1)


@cache
def _tower(variant: str) -> Any:
    tower = load_artifacts(MODELS).ranker
    # The shipped tables are float16; the yardstick is a model of float32 numbers.
    tables = {kind: np.array(getattr(tower.tables, kind), np.float32) for kind in ("user", "item", "author")}
    tower = replace(tower, tables=replace(tower.tables, **tables))
    if "calibrated" in variant:
        return calibrate(tower, _lists()[1]).tower
    return quantize_tower(tower) if "files" in variant else tower


def _scores(ranker: Ranker, lists: list[ViewerList]) -> Any:
    contexts = [ranker.encode(one.engagements, keep="newest") for one in lists]
    scores = ranker.score_batch(contexts, [one.candidates for one in lists])
    return np.stack([weighted_scores(one.probabilities, ranker.vocabulary) for one in scores])


class Int8:
    """Encode and score 200 lists of 32 posts."""

    params = (VARIANTS,)
    param_names = ("variant",)
    timeout = 300.0

    def setup(self, variant: str) -> None:
        precision: Any = "int8" if "engine" in variant else "bfloat16" if variant == "bfloat16" else "float32"
        self.lists = _lists()[0]
        self.ranker = Ranker(_tower(variant), engine="native", precision=precision)
        self.exact = Ranker(_tower("float32"), engine="native")

    def time_score(self, variant: str) -> None:
        _scores(self.ranker, self.lists)

    def track_top10_overlap(self, variant: str) -> float:
        best = [np.argsort(-_scores(r, self.lists), axis=1, kind="stable")[:, :10] for r in (self.exact, self.ranker)]
        return float((best[0][:, :, None] == best[1][:, None, :]).any(axis=2).mean())

    def track_bytes(self, variant: str) -> int:
        """Of the model as its file keeps it: dense parameters and tables."""
        tower = _tower(variant)
        stored = tower.params.stored if isinstance(tower.params, StoredParams) else tower.params
        tables = (tower.tables.user, tower.tables.item, tower.tables.author)
        return sum(
            int(np.asanyarray(v).nbytes if isinstance(v, np.ndarray) else v.nbytes) for v in stored.values()
        ) + sum(table.nbytes for table in tables)

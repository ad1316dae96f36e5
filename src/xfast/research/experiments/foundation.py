"""``foundation``: pools, stakeholder weights and how often stakeholders order a pair differently."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from xfast.research import pairs
from xfast.research.environment import F64
from xfast.research.experiments.base import Context, Experiment, Result, per_dataset


def run(context: Context, name: str) -> Result:
    """Pool size, split size, weights, pairwise disagreement over the whole pool."""
    environment = context.environment(name)
    utilities = environment.utilities()
    values = {
        f"data.{name}.pool": len(environment.features),
        f"foundation.{name}.num_train": environment.facts["train_interactions"],
        **{f"foundation.{name}.weights.{who}": w.tolist() for who, w in environment.stakeholders.items()},
    }
    sampled = {}
    draws = pairs.draw(context.count(10_000, 500), len(environment.features), seed=42)
    for a, b in combinations(environment.names, 2):
        values[f"foundation.{name}.disagreement.{a}-{b}"] = population_disagreement(utilities[a], utilities[b])
        sampled[f"{a}-{b}"] = pairs.disagreement(utilities[a], utilities[b], draws.items)
    return Result(
        values,
        notes={
            f"foundation.{name}.disagreement": "the value is exact over all pairs of the pool; a sample of 10,000 "
            "pairs, as published, has a standard error of 0.005"
        },
        detail={"disagreement_on_sampled_pairs": sampled},
    )


def population_disagreement(left: F64, right: F64) -> float:
    """Share of all item pairs that two utilities ``[I]`` order in opposite ways, exactly (Kendall's discordance).

    Counts inversions by blocks, so memory stays at ``block * I``.
    """
    items, opposite = len(left), 0
    for start in range(0, items, 512):
        rows = slice(start, start + 512)
        a = np.sign(left[rows, None] - left[None, :])
        b = np.sign(right[rows, None] - right[None, :])
        opposite += int((a * b < 0).sum())
    return opposite / (items * (items - 1))


EXPERIMENT = Experiment("foundation", "pools, weights and disagreement of every data set", per_dataset(run))

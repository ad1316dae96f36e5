"""``foundation``: pools, stakeholder weights and how often stakeholders order a pair differently."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from xfast.research import pairs
from xfast.research.environment import F64
from xfast.research.experiments.base import Context, Experiment, Result, Value, Why, per_dataset

SAMPLES = (42, 142, 242)


def run(context: Context, name: str) -> Result:
    """Pool size, split size, weights, pairwise disagreement over the whole pool."""
    environment = context.environment(name)
    utilities = environment.utilities()
    values: dict[str, Value] = {
        f"data.{name}.pool": len(environment.features),
        f"foundation.{name}.num_train": environment.facts["train_interactions"],
        **{f"foundation.{name}.weights.{who}": w.tolist() for who, w in environment.stakeholders.items()},
    }
    for a, b in combinations(environment.names, 2):
        values[f"foundation.{name}.disagreement.{a}-{b}"] = population_disagreement(utilities[a], utilities[b])
    sampled: dict[int, dict[str, float]] = {}
    for seed in SAMPLES:
        draws = pairs.draw(context.count(10_000, 500), len(environment.features), seed=seed)
        sampled[seed] = {
            f"{a}-{b}": pairs.disagreement(utilities[a], utilities[b], draws.items)
            for a, b in combinations(environment.names, 2)
        }
    return Result(
        values,
        whys={
            f"foundation.{name}.disagreement.{pair}": Why(
                "the published value comes from a sample of pairs",
                {
                    "all pairs of the pool": values[f"foundation.{name}.disagreement.{pair}"],
                    **{f"10,000 sampled pairs, seed {seed}": found[pair] for seed, found in sampled.items()},
                },
            )
            for pair in sampled[SAMPLES[0]]
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

"""``directions``: does the sign of the cosine predict who gains from more data? (Methods A and B, softmax, top-10)."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from xfast.research import directions, losses, policies, training
from xfast.research.experiments.base import Context, Experiment, Figure, Result, Series, Value, per_dataset

REPORTED = (0.1, 0.5, 1.0, 2.0, 10.0)
STRONG = 0.2


def run(context: Context, name: str) -> Result:
    """Every ordered pair of base stakeholders, and every named hidden stakeholder, with the published training."""
    environment = context.environment(name)
    seeds = directions.PAIR_SEEDS[: context.count(5, 2)]
    learned = directions.goodhart_pairs(environment, seeds=seeds, schedule=training.PUBLISHED)
    plain, _ = directions.unperturbed(environment, [losses.bradley_terry()], seeds=seeds)
    values: dict[str, Value] = {}
    matches: dict[str, list[bool]] = {}
    trained_cosine: dict[tuple[str, str], float] = {}
    changes = []
    for target, hidden in permutations(environment.names, 2):
        stem = f"direction.{name}.{target}->{hidden}"
        trained = directions.mean_cosine(plain["bradley_terry", target], plain["bradley_terry", hidden])
        values[f"{stem}.raw_cos"] = policies.cosine(environment.stakeholders[target], environment.stakeholders[hidden])
        values[f"{stem}.trained_cos"] = trained_cosine[target, hidden] = trained
        change = {"top-10": float(directions.top_change(environment, learned, target, hidden).mean())}
        for temperature in policies.TEMPERATURES:
            moved = directions.softmax_change(environment, learned, target, hidden, temperature)
            change[f"T={temperature}"] = float(moved.mean())
        values[f"{stem}.dU_top-10"] = change["top-10"]
        for temperature in REPORTED:
            values[f"{stem}.dU_T={temperature}"] = change[f"T={temperature}"]
        changes.append(change["T=1.0"])
        if abs(trained) > STRONG:
            for mechanism, amount in change.items():
                matches.setdefault(mechanism, []).append(bool(np.sign(amount) == np.sign(trained)))
    named: list[tuple[str, str, float, float]] = []
    for target in environment.names:
        percent = directions.frontier_change(environment, learned, target)
        for hidden in environment.names:
            if hidden != target:
                values[f"frontier.{name}.A.{target}->{hidden}.change_pct"] = percent[hidden]
                trained = trained_cosine[target, hidden]
                if abs(trained) > STRONG:
                    matches.setdefault("delta_frontier", []).append(bool(np.sign(percent[hidden]) == np.sign(trained)))
        for hidden, weights in environment.hidden.items():
            values[f"frontier.{name}.B.{target}->{hidden}.change_pct"] = percent[hidden]
            raw = policies.cosine(environment.stakeholders[target], weights)
            named.append((target, hidden, raw, percent[hidden]))
    strong = [(raw, change) for _, _, raw, change in named if abs(raw) > STRONG]
    return Result(
        values,
        detail={
            "strong_matches": {key: [sum(hits), len(hits)] for key, hits in matches.items()},
            "method_B": [dict(zip(("target", "hidden", "raw_cos", "change_pct"), row, strict=True)) for row in named],
            "method_B_strong_raw": [sum(bool(raw * change > 0) for raw, change in strong), len(strong)],
        },
        figures={
            f"direction-{name}": Figure(
                f"{name}: who gains from 25 → 2,000 pairs (softmax, T = 1)",
                "cosine of the trained weights",
                "change of the hidden stakeholder's utility",
                [Series("ordered pairs", list(trained_cosine.values()), changes, kind="points")],
            )
        },
    )


EXPERIMENT = Experiment("directions", "the directional Goodhart condition, Methods A and B", per_dataset(run))

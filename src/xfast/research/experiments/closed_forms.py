"""``closed-forms``: the covariance predictor against what training finds, and what the pool lets anyone learn."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np

from xfast.research import datasets, directions, losses, policies, training
from xfast.research.environment import Environment
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series, Value, per_dataset
from xfast.research.theory import boundary, covariance, identifiability, robustness, tangent

HOT = 10.0


def run(context: Context, name: str) -> Result:
    """Pool correlations with intervals, identifiability, radii, top-10 diagnosis and the drift/growth split."""
    environment = context.environment(name)
    rng = np.random.default_rng(0)
    utilities = environment.utilities()
    seeds = directions.PAIR_SEEDS[: context.count(5, 2)]
    learned = directions.goodhart_pairs(environment, seeds=seeds, schedule=training.PUBLISHED)
    plain, _ = directions.unperturbed(environment, [losses.bradley_terry()], n=context.count(2_500, 250), seeds=seeds)
    metric = np.cov(environment.features, rowvar=False, bias=True)
    values: dict[str, Value] = {}
    pool: dict[str, Any] = {}
    correlations, trained = [], []
    for a, b in combinations(environment.names, 2):
        found = covariance.predict(utilities[a], utilities[b], rng=rng, resamples=context.count(2_000, 200))
        values[f"ours.{name}.pool_corr.{a}-{b}"] = found.correlation
        cosine = directions.mean_cosine(plain["bradley_terry", a], plain["bradley_terry", b])
        at = robustness.radius(environment.stakeholders[a], environment.stakeholders[b], metric)
        pool[f"{a}-{b}"] = {
            "correlation": found.correlation,
            "bootstrap": found.bootstrap,
            "delta": found.delta,
            "verdict": found.verdict,
            "trained_cosine": cosine,
            "raw_cosine": policies.cosine(environment.stakeholders[a], environment.stakeholders[b]),
            "radius_each": at.each,
            "radius_ball": at.ball,
        }
        correlations.append(found.correlation)
        trained.append(cosine)
    ordered = {}
    for target, hidden in permutations(environment.names, 2):
        near = boundary.diagnose(utilities[target], utilities[hidden])
        splits = [
            tangent.split(environment.features, few, many, utilities[hidden])
            for few, many in zip(learned.few[target], learned.many[target], strict=True)
        ]
        total = float(np.mean([split.total for split in splits]))
        growth = float(np.mean([split.growth for split in splits]))
        ordered[f"{target}->{hidden}"] = {
            "hot_change": float(directions.softmax_change(environment, learned, target, hidden, HOT).mean()),
            "top10_change": float(directions.top_change(environment, learned, target, hidden).mean()),
            "pool_correlation": near.pool,
            "boundary_correlation": near.local,
            "reversal_explained": near.explains,
            "change_T1": total,
            "growth_share": growth / total if total else float("nan"),
        }
    agreement = sum(entry["hot_change"] * entry["pool_correlation"] > 0 for entry in ordered.values())
    return Result(
        values,
        detail={
            "pairs": pool,
            "ordered": ordered,
            "sign_agreement_T10": [agreement, len(ordered)],
            "identifiability": identify(environment),
        },
        figures={
            f"closed-forms-{name}": Figure(
                f"{name}: the pool correlation predicts the trained cosine",
                "pool correlation of two utilities (no training)",
                "cosine of trained weights",
                [
                    Series("pairs of stakeholders", correlations, trained, kind="points"),
                    Series("equal", [-1.0, 1.0], [-1.0, 1.0]),
                ],
            )
        },
    )


def identify(environment: Environment) -> dict[str, Any]:
    """Rank of the pool, pairs for +-0.05 on each cosine, what D-optimal pairs save."""
    found = identifiability.span(environment.features)
    needed = {}
    for a, b in combinations(environment.names, 2):
        precision = identifiability.cosine_precision(
            environment.features, environment.stakeholders[a], environment.stakeholders[b]
        )
        needed[f"{a}-{b}"] = precision.pairs_needed(0.05)
    rng = np.random.default_rng(0)
    weights = environment.weights[0]
    uniform = identifiability.random_pairs(len(environment.features), 200, rng=rng)
    chosen = identifiability.d_optimal(environment.features, weights, 200, rng=rng)
    errors = [identifiability.design_error(environment.features, weights, rows) for rows in (uniform, chosen)]
    return {
        "columns": environment.features.shape[1],
        "rank": found.rank,
        "hidden_directions": found.hidden.T,
        "pairs_for_half_width_0.05": needed,
        "d_optimal_variance_ratio": errors[0] / errors[1],
    }


def run_truncated(context: Context) -> Result:
    """The MIND sample under two definitions of the pool; signs are compared with published ones by the scoreboard."""
    result = run(context, "mind-truncated")
    whole = datasets.mind.load(context.folders["mind-truncated"], min_impressions=0)
    for key, environment in (("impressions", context.environment("mind-truncated")), ("all", whole)):
        utilities = environment.utilities()
        result.detail[f"pool_correlation_{key}"] = {
            f"{a}->{b}": float(np.corrcoef(utilities[a], utilities[b])[0, 1])
            for a, b in permutations(environment.names, 2)
        }
    return result


EXPERIMENT = Experiment(
    "closed-forms",
    "covariance predictor, identifiability, radii, top-10 diagnosis, drift against growth",
    (
        Part("synthetic", lambda context: run(context, "synthetic")),
        *per_dataset(run, [name for name in datasets.LOADERS if name != "mind-truncated"]),
        Part("mind-truncated", run_truncated, dataset="mind-truncated"),
    ),
)

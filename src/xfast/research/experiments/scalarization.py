"""``scalarization``: one model per mixture of stakeholders, or mixtures of one model per stakeholder?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from xfast.research import frontier, loso, pairs, space, synthetic, training
from xfast.research.environment import F64, I64, Environment
from xfast.research.experiments.base import (
    Context,
    Experiment,
    Part,
    Result,
    Value,
    Why,
    average,
    explanations,
    per_dataset,
)
from xfast.research.pareto import dominated_by, hypervolume, hypervolume_sampled, nondominated

RESOLUTION = 5
PAIRS = 2_000
SEED = 42
# Result files of this study say "movielens" for ML-100K.
STEMS = {"ml-100k": "movielens"}


def simplex(parts: int, resolution: int = RESOLUTION) -> F64:
    """Mixtures of `parts` stakeholders in steps of ``1 / resolution`` without the pure ones, ``[M, parts]``."""

    def rows(left: int, slots: int) -> list[tuple[int, ...]]:
        if slots == 1:
            return [(left,)]
        return [(first, *rest) for first in range(left + 1) for rest in rows(left - first, slots - 1)]

    grid = np.array(rows(resolution, parts)) / resolution
    return np.asarray(grid[grid.max(axis=1) < 1.0])


def mixed_pairs(utilities: F64, mixture: F64, n: int, *, seed: int, order: str = "lin") -> I64:
    """Pairs ``[n, 2]`` whose labeller is drawn from the mixture.

    Parameters
    ----------
    order
        How the generator is used for every pair: l labeller, i items, n noise. ``L`` first draws all labellers at once.
    """
    rng = np.random.default_rng(seed)
    who = rng.choice(len(mixture), size=n, p=mixture) if "L" in order else np.empty(n, np.int64)
    items, noise = np.empty((n, 2), np.int64), np.empty(n)
    for row in range(n):
        for step in order:
            if step == "l":
                who[row] = rng.choice(len(mixture), p=mixture)
            elif step == "i":
                items[row] = rng.choice(utilities.shape[1], size=2, replace=False)
            elif step == "n":
                noise[row] = rng.normal(0.0, pairs.LABEL_NOISE)
    gap = utilities[who, items[:, 0]] - utilities[who, items[:, 1]] + noise
    return np.where((gap > 0)[:, None], items, items[:, ::-1])


def shared_pairs(utilities: F64, mixture: F64, n: int, *, stride: int) -> I64:
    """Pairs in fixed shares: every stakeholder labels its share of `n` by the ordinary protocol, at its own seed."""
    counts = np.rint(mixture * n).astype(np.int64)
    counts[-1] = n - counts[:-1].sum()
    found = [
        pairs.label(pairs.draw(int(count), utilities.shape[1], seed=SEED + stride * who), utilities[who])
        for who, count in enumerate(counts)
    ]
    return np.concatenate(found)


Drawing = Callable[[F64, F64, int, int], I64]  # utilities, mixture, number of pairs, number of the mixture


def _in_order(order: str, stride: int) -> Drawing:
    return lambda utilities, mixture, n, number: mixed_pairs(
        utilities, mixture, n, seed=SEED + stride * number, order=order
    )


def _in_shares(stride: int) -> Drawing:
    return lambda utilities, mixture, n, number: shared_pairs(utilities, mixture, n, stride=stride)


# The sources say that labellers are drawn by the mixture, and neither in which order nor with which seeds.
DRAWINGS: Final[Mapping[str, Drawing]] = {
    **{
        f"{words}, {seeds}": _in_order(order, stride)
        for order, words in (
            ("lin", "labeller, items, noise"),
            ("iln", "items, labeller, noise"),
            ("inl", "items, noise, labeller"),
            ("Lin", "all labellers first"),
        )
        for stride, seeds in ((0, "one seed"), (100, "a seed per mixture"))
    },
    "fixed shares, one seed": _in_shares(0),
    "fixed shares, a seed per stakeholder": _in_shares(1_000),
}
DEFAULT = next(iter(DRAWINGS))


def study(
    environment: Environment, mixtures: F64, n: int, initial: F64 | None, drawings: Sequence[str] = (DEFAULT,)
) -> dict[str, dict[str, F64]]:
    """Weights of the three ways, per drawing: ``single`` [K, D], ``scalarized`` and ``composition`` [M, D],
    ``naive`` [1, D].
    """
    utilities = environment.weights @ environment.features.T
    train = pairs.split(n, seed=SEED)[0]
    draws = pairs.draw(n, len(environment.features), seed=SEED)
    runs = [training.Run(pairs.label(draws, row)[train], initial=initial) for row in utilities]
    for drawing in drawings:
        for number, mixture in enumerate(mixtures):
            labelled = DRAWINGS[drawing](utilities, mixture, n, number)
            runs.append(training.Run(labelled[train], initial=initial))
    learned = training.fit(environment.features, runs)
    single = learned[: len(utilities)]
    blocks = learned[len(utilities) :].reshape(len(drawings), len(mixtures), learned.shape[1])
    return {
        drawing: {
            "single": single,
            "scalarized": block,
            "composition": mixtures @ single,
            "naive": single.mean(axis=0)[None],
        }
        for drawing, block in zip(drawings, blocks, strict=True)
    }


def clouds(environment: Environment, weights: dict[str, F64], ways: Sequence[str]) -> dict[str, F64]:
    """Frontier points ``[rows * 21, K]`` of every way, added in float32 (:func:`xfast.research.loso.slate_sums`)."""
    out = {}
    for way in ways:
        chosen = frontier.slates(weights[way] @ environment.features.T, environment.topics)
        columns = [loso.slate_sums(environment.features, w, chosen).ravel() for w in environment.weights]
        out[way] = np.stack(columns, axis=1)
    return out


def projections(single: F64, mixed: F64) -> F64:
    """Cosine between each mixed vector and its projection on the span of the per-stakeholder vectors, ``[M]``."""
    basis = np.linalg.qr(single.T)[0]
    return np.asarray(np.linalg.norm(mixed @ basis, axis=1) / np.linalg.norm(mixed, axis=1))


def run(context: Context, name: str) -> Result:
    """Composition quality on every data set; hypervolumes where three stakeholders make them meaningful.

    With three stakeholders every way of drawing the mixed labels is tried, and means over them are shown.
    """
    environment = context.environment(name)
    drawings = list(DRAWINGS)[: context.count(len(DRAWINGS), 2)] if len(environment.names) == 3 else [DEFAULT]
    found = measure(context, environment, drawings)
    values = {drawing: values for drawing, (values, _) in found.items()}
    whys = explanations(
        values, "order and seeds of drawing labeller, items and noise are not published; the mean over ways is shown"
    )
    if len(environment.names) == 3:
        whys |= front_sizes(environment, study(environment, np.empty((0, 3)), context.count(PAIRS, 200), None)[DEFAULT])
    return Result(
        average(list(values.values())),
        whys=whys,
        detail={drawing: more for drawing, (_, more) in found.items()},
    )


def run_synthetic(context: Context) -> Result:
    """The same, as means over independent pools: the published one is not known."""
    worlds = synthetic.environments(500, context.count(12, 1))
    found = [measure(context, world, [DEFAULT])[DEFAULT] for world in worlds]
    pools = {f"pool {number}": values for number, (values, _) in enumerate(found)}
    return Result(
        average(list(pools.values())),
        whys=explanations(pools, f"the published pool is one unknown draw; the mean of {len(worlds)} pools is shown"),
        detail={"pools": [more for _, more in found]},
    )


def measure(
    context: Context, environment: Environment, drawings: Sequence[str]
) -> dict[str, tuple[dict[str, Value], dict[str, object]]]:
    """Everything this study says about one pool, per way of drawing: values, and detail."""
    name = environment.name
    mixtures = simplex(len(environment.names))[: context.count(1_000, 3)]
    initial = space.initial_weights() if name == "synthetic" else None
    out = {}
    for drawing, weights in study(environment, mixtures, context.count(PAIRS, 200), initial, drawings).items():
        cosines = projections(weights["single"], weights["scalarized"])
        values: dict[str, Value] = {
            f"composition.{name}.mean_projection_cosine": float(cosines.mean()),
            f"composition.{name}.frac_above_.95": f"{int((cosines > 0.95).sum())}/{len(cosines)}",
        }
        detail: dict[str, object] = {"projection_cosines": cosines}
        if len(environment.names) == 3:
            more, measured = _volumes(environment, weights, STEMS.get(name, name), context.count(50_000, 2_000))
            values |= more
            detail |= measured
        out[drawing] = values, detail
    return out


def front_sizes(environment: Environment, weights: dict[str, F64]) -> dict[str, Why]:
    """Front sizes that no drawing of mixed labels touches, by the way in which slates are added."""
    mixtures = simplex(len(environment.names))
    out = {}
    for way, rows in (("naive", weights["naive"]), ("composition", mixtures @ weights["single"])):
        chosen = frontier.slates(rows @ environment.features.T, environment.topics).reshape(-1, frontier.SLATE)
        columns = (environment.features @ environment.weights.T).T
        narrow = columns.astype(np.float32)
        picked = [np.cumsum(each[chosen], axis=1, dtype=np.float32)[:, -1] for each in narrow]
        added = {
            "a dot per item in float32": [
                loso.slate_sums(environment.features, w, chosen) for w in environment.weights
            ],
            "float64": [each[chosen].sum(axis=1) for each in columns],
            "float32 in picking order": picked,
            "float32 of whole-pool products": [each[chosen].sum(axis=1) for each in narrow],
        }
        out[f"scalarization.{STEMS.get(environment.name, environment.name)}.n_{way}_pareto"] = Why(
            "equal slates picked in another order differ in the last bit of their sums, and that bit decides how many "
            "count as efficient",
            {name: int(nondominated(np.stack(each, axis=1)).sum()) for name, each in added.items()},
        )
    return out


def _volumes(
    environment: Environment, weights: dict[str, F64], stem: str, samples: int
) -> tuple[dict[str, Value], dict[str, object]]:
    ways = ("naive", "composition", "scalarized")
    points = clouds(environment, weights, ways)
    everything = np.vstack(list(points.values()))
    low, high = everything.min(axis=0), everything.max(axis=0)
    volume = {
        way: hypervolume_sampled(points[way], low, high, samples=samples, rng=np.random.default_rng(SEED))
        for way in ways
    }
    front = {way: points[way][nondominated(points[way])] for way in ways}
    worse = dominated_by(front["composition"], front["scalarized"]).mean()
    better = dominated_by(front["scalarized"], front["composition"]).mean()
    key = f"scalarization.{stem}"
    values: dict[str, Value] = {
        f"{key}.naive_vs_scalar_ratio": volume["naive"] / volume["scalarized"],
        f"{key}.composition_vs_scalar_ratio": volume["composition"] / volume["scalarized"],
        f"{key}.composition_dominated_by_scalar_frac": float(worse),
        f"{key}.scalar_dominated_by_composition_frac": float(better),
        f"{key}.training_runs_per_stakeholder": len(environment.names),
        f"{key}.training_runs_scalarization": len(weights["scalarized"]),
    }
    for way in ways:
        values[f"{key}.{way}_hypervolume"] = volume[way]
        values[f"{key}.n_{way}_pareto"] = len(front[way])
        values[f"{key}.max_{way}"] = {
            f"{who}_utility": float(points[way][:, column].max()) for column, who in enumerate(environment.names)
        }
        if way != "naive":
            values[f"{key}.n_{way}_total"] = len(points[way])
    detail: dict[str, object] = {
        "exact_hypervolume": {way: hypervolume(front[way], low) for way in ways},
        "distinct_front_points": {way: len(np.unique(front[way].round(9), axis=0)) for way in ways},
        "reference_corner": low,
    }
    return values, detail


EXPERIMENT = Experiment(
    "scalarization",
    "mixing labels against mixing learned weights",
    (Part("synthetic", run_synthetic), *per_dataset(run)),
)

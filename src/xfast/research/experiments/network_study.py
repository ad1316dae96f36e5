"""``network``: hiding set-level society on a synthetic network — regret, proxies, data budget, degradation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from xfast.research import frontier, network, pairs, space, synthetic, training
from xfast.research.environment import F64
from xfast.research.experiments.base import (
    Context,
    Experiment,
    Figure,
    Part,
    Result,
    Series,
    Value,
    Why,
    average,
    explanations,
)
from xfast.research.experiments.recovery import determination
from xfast.research.network import Network
from xfast.research.pareto import nondominated

NAMES = ("user", "platform", "society")
SIZES = (0, 25, 50, 100, 200, 500, 1_000, 2_000)
SHOWN = 3.0
SEEDS = 5
BOOSTS = (1.5, 2.0, 3.0, 4.0)
POLITICS = (1 / 3, 1 / 2, 2 / 3)
KNOBS = (0.3, 0.5, 0.7, 0.9)
NOISES = tuple(np.geomspace(0.02, 1.0, 14).tolist())


def regret(points: Mapping[str, F64], hidden: str) -> float:
    """Mean regret of `hidden` over the points that are efficient for the other two."""
    others = np.stack([points[name] for name in NAMES if name != hidden], axis=1)
    return float((points[hidden].max() - points[hidden])[nondominated(others)].mean())


def slate_pairs(net: Network, n: int, *, seed: int) -> tuple[F64, F64]:
    """Random slates as training material for set-level preferences.

    Returns
    -------
    features
        ``[n, 18]`` differences of mean action probabilities, winner minus loser under society.
    slates
        Society utility gaps ``[n]``.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 6, n)
    rows = np.argsort(rng.random((n, 2, len(net.topics))), axis=2)[:, :, : frontier.SLATE]
    means = np.stack([net.kinds[kind][row].mean(axis=1) for kind, row in zip(kinds, rows, strict=True)])
    # Society of every slate for every archetype, then the pair's own archetype.
    worth = network.society(net, np.repeat(rows[None], 6, axis=0))[kinds, np.arange(n)]
    gap = worth[:, 0] - worth[:, 1] + rng.normal(0.0, pairs.LABEL_NOISE, n)
    sign = np.where(gap > 0, 1.0, -1.0)
    return (means[:, 0] - means[:, 1]) * sign[:, None], np.abs(gap)


def run(context: Context) -> Result:
    """Regret of each hidden stakeholder, what proxies win back, how many pairs help; over settings."""
    nets = {f"boost {SHOWN:g}, network {seed}": network.build(boost=SHOWN, seed=seed) for seed in range(SEEDS)}
    nets = dict(list(nets.items())[: context.count(SEEDS, 1)])
    main = [_one(net, context) for net in nets.values()]
    settings = list(product(BOOSTS, POLITICS, (False, True)))
    for boost, politics, alike in settings if context.tier == "full" else settings[:1]:
        name = (
            f"boost {boost:g}, {politics:.0%} political users, items {'alike in a topic' if alike else 'of their own'}"
        )
        nets[name] = network.build(boost=boost, politics=politics, alike=alike)
    tried = {name: main[row] if row < len(main) else _one(net, context) for row, (name, net) in enumerate(nets.items())}
    for name, net in nets.items():
        tried |= {f"{name}; {reading}": found for reading, found in _readings(net).items()}
    whys = explanations(
        tried,
        "archetype boosts, shares of archetypes, item probabilities and society's proxies are not published; shown: "
        f"boost {SHOWN:g}, a third of the users political, items of their own, mean of {len(main)} networks. What a "
        "trained scorer's regret is measured against and how large scores are beside the diversity knob is open, too",
    )
    variants = _budgets(network.build(boost=SHOWN, seed=0), context)
    for row, n in enumerate(_sizes(context)):
        why = whys[f"synthetic.budget.N{n}"]
        labelled = {f"labels of {way}": curve[row] for way, curve in variants.items()}
        whys[f"synthetic.budget.N{n}"] = Why(
            f"{why.open}. What is labelled and what ranks is open, too: pairs of items or of slates, the learned "
            "vector alone or added to the scorer",
            {**why.tried, **labelled},
        )
    return Result(average(main), whys=whys, detail={"settings": tried, "budget_variants": variants})


def _one(net: Network, context: Context) -> dict[str, Value]:
    points = network.serve(net, network.SCORER)
    best = float(points["society"].max())
    base = regret(points, "society")
    out: dict[str, Value] = {f"synthetic.loso.geom.{hidden}": regret(points, hidden) for hidden in NAMES}
    for knob in KNOBS:
        at = float(np.interp(knob, frontier.DELTAS, points["society"]))
        out[f"synthetic.proxy.knob{knob}_recovery"] = 1.0 - (best - at) / base
    weights = {"user": space.USER_A, "platform": space.PLATFORM_A}
    out |= {f"synthetic.loso.train.{hidden}": _trained(net, weights, hidden) for hidden in NAMES}
    proxies = {
        "oracle_linear": _least_squares(net),
        "structural": _structural(net),
    }
    for name, proxy in proxies.items():
        scorer = _unit(network.SCORER) + _unit(proxy)
        found = network.serve(net, scorer)["society"].max() - network.serve(net, scorer)["society"].mean()
        start = best - points["society"].mean()
        out[f"synthetic.proxy.{name}"] = 1.0 - float(found) / float(start)
    budget = _budget(net, best, _learned_from_items(net, _sizes(context), context.count(20, 2)))
    for n, value in zip(_sizes(context), budget, strict=True):
        out[f"synthetic.budget.N{n}"] = value
    return out


def _readings(net: Network) -> dict[str, dict[str, Value]]:
    """The same values where regret is counted from the best of the scorer's own frontier, and with larger scores."""
    weights = {"user": space.USER_A, "platform": space.PLATFORM_A}
    own: dict[str, Value] = {}
    for hidden in NAMES:
        observed = [_unit(w) for name, w in weights.items() if name != hidden]
        points = network.serve(net, np.mean(observed, axis=0))
        own[f"synthetic.loso.train.{hidden}"] = regret(points, hidden)
    large: dict[str, Value] = {}
    points = network.serve(net, 3.0 * network.SCORER)
    best, base = float(points["society"].max()), regret(points, "society")
    for knob in KNOBS:
        at = float(np.interp(knob, frontier.DELTAS, points["society"]))
        large[f"synthetic.proxy.knob{knob}_recovery"] = 1.0 - (best - at) / base
    return {"regret from the best of its own frontier": own, "scores three times as large": large}


def _sizes(context: Context) -> tuple[int, ...]:
    return SIZES if context.tier == "full" else SIZES[:2]


def _unit(weights: F64) -> F64:
    return weights / max(float(np.linalg.norm(weights)), 1e-12)


def _trained(net: Network, weights: Mapping[str, F64], hidden: str) -> float:
    """Regret against the best known point when the scorer is the mean of the observed stakeholders' weights."""
    observed = [_unit(w) for name, w in weights.items() if name != hidden]
    everyone = [network.serve(net, w) for w in (*weights.values(), network.SCORER)]
    best = max(float(points[hidden].max()) for points in everyone)
    scorer = np.mean(observed, axis=0)
    points = network.serve(net, scorer)
    others = np.stack([points[name] for name in NAMES if name != hidden], axis=1)
    return float((best - points[hidden])[nondominated(others)].mean())


def _least_squares(net: Network) -> F64:
    """The linear item utility closest to society: regression of random slates' society on their mean actions."""
    features, gaps = slate_pairs(net, 2_000, seed=1)
    return np.asarray(np.linalg.lstsq(features, gaps, rcond=None)[0])


def _structural(net: Network) -> F64:
    """A guess from structure alone: society likes what nobody blocks."""
    return np.where(space.NEGATIVE_MASK, -1.0, 0.0)


def _budget(net: Network, best: float, learned: F64, base: F64 | None = None) -> list[float]:
    """Mean society regret without any pair, then of scorers ``base + learned`` for vectors ``[sizes, seeds, 18]``."""
    start = np.zeros(len(space.ACTIONS)) if base is None else base
    means = [float(np.mean([_efficient_regret(net, start + w, best) for w in row])) for row in learned]
    return [_efficient_regret(net, network.SCORER, best), *means]


def _budgets(net: Network, context: Context) -> dict[str, list[float]]:
    """The budget curve by what is labelled (items or slates) and by what ranks (the learned vector, or both)."""
    best = float(network.serve(net, network.SCORER)["society"].max())
    sizes, repeats = _sizes(context), context.count(20, 2)
    items, slates = _learned_from_items(net, sizes, repeats), _learned_from_slates(net, sizes, repeats)
    return {
        "items, learned alone": _budget(net, best, items),
        "items, added to the scorer": _budget(net, best, items, network.SCORER),
        "slates, learned alone": _budget(net, best, slates),
        "slates, added to the scorer": _budget(net, best, slates, network.SCORER),
    }


def _learned_from_items(net: Network, sizes: tuple[int, ...], repeats: int) -> F64:
    """Weights ``[sizes - 1, repeats, 18]`` from pairs of items labelled by society's aversion to harm (set B)."""
    share = np.bincount(net.archetypes, minlength=6) / len(net.archetypes)
    features = np.tensordot(share, net.kinds, axes=1)
    utility = features @ space.alpha_weights(space.ALPHA["society"])
    runs = []
    for n in sizes[1:]:
        for seed in range(repeats):
            labelled = pairs.label(pairs.draw(n, len(utility), seed=42 + 100 * seed), utility)
            runs.append(training.Run(labelled[pairs.split(n, seed=42 + 100 * seed)[0]]))
    return training.fit(features, runs).reshape(len(sizes) - 1, repeats, -1)


def _learned_from_slates(net: Network, sizes: tuple[int, ...], repeats: int) -> F64:
    """Weights ``[sizes - 1, repeats, 18]`` from pairs of slates labelled by what society thinks of the whole slate.

    All sizes and seeds train together: the differences of every pair set are rows of one table whose row 0 is zero, so
    a pair is (difference, zero).
    """
    blocks, runs, offset = [np.zeros((1, len(space.ACTIONS)))], [], 1
    for n in sizes[1:]:
        for seed in range(repeats):
            blocks.append(slate_pairs(net, n, seed=seed)[0])
            rows = np.stack([np.arange(offset, offset + n), np.zeros(n, np.int64)], axis=1)
            runs.append(training.Run(rows[pairs.split(n, seed=seed)[0]]))
            offset += n
    return training.fit(np.vstack(blocks), runs).reshape(len(sizes) - 1, repeats, -1)


def _efficient_regret(net: Network, scorer: F64, best: float) -> float:
    """Society's mean regret against `best` over the points that are efficient for user and platform."""
    points = network.serve(net, scorer)
    keep = nondominated(np.stack([points["user"], points["platform"]], axis=1))
    return float((best - points["society"])[keep].mean())


# Reading of "loss against the error of the weights" -> arguments of `degrade`.
DEGRADED: Mapping[str, Mapping[str, Any]] = {
    "society, 100 draws a level, means": {},
    "user, 100 draws a level, means": {"who": "user"},
    "platform, 100 draws a level, means": {"who": "platform"},
    "society, 10 draws a level, means": {"draws": 10},
    "society, 3 draws a level, means": {"draws": 3},
    "society, 20 draws a level, every draw": {"draws": 20, "single": True},
    "user, 20 draws a level, every draw": {"who": "user", "draws": 20, "single": True},
    "society, 200 pairs": {"draws": 20, "n": 200},
    "society, 5,000 pairs": {"draws": 20, "n": 5_000},
    "society, another pool": {"pool": 1},
    "user, another pool": {"who": "user", "pool": 1},
}


def run_degradation(context: Context) -> Result:
    """Loss of the hidden stakeholder's slate against the relative error of the weights that rank."""
    readings = list(DEGRADED)[: context.count(len(DEGRADED), 2)]
    found = {name: degrade(context, **DEGRADED[name]) for name in readings}
    shown = found[readings[0]]
    return Result(
        {f"degradation.{key}": value for key, value in shown.values.items()},
        whys=explanations(
            {name: {f"degradation.{key}": v for key, v in one.values.items()} for name, one in found.items()},
            "what is perturbed, how often, and which loss is fitted are not published beyond 35 std^1.8; shown: "
            f"{readings[0]}, percent loss of the top 10, oracle {shown.laws['oracle']}, weights learned from 1,000 "
            f"pairs {shown.laws['proxy']}",
        ),
        detail={"laws": {name: one.laws for name, one in found.items()}},
        figures={
            "degradation": Figure(
                "Loss grows with the error of the weights",
                "relative error of the weights",
                "loss of the hidden stakeholder, %",
                [Series(key, list(NOISES), curve.tolist()) for key, curve in shown.curves.items()],
                logx=True,
            )
        },
    )


@dataclass(frozen=True)
class Degraded:
    """Measures of one reading, its power laws in words, and percent loss by noise level."""

    values: dict[str, Value]
    laws: dict[str, str]
    curves: dict[str, F64]


def degrade(
    context: Context, *, who: str = "society", draws: int = 100, single: bool = False, n: int = 1_000, pool: int = 0
) -> Degraded:
    """Fit power laws of percent loss against relative weight error.

    Parameters
    ----------
    who
        Stakeholder whose weights are perturbed and whose slate is judged.
    draws
        Perturbations per noise level.
    single
        Fit over single draws rather than over the means of levels.
    n
        Pairs that the learned ("proxy") weights come from.
    """
    environment = context.environment("synthetic") if pool == 0 else synthetic.environment(500, seed=1_000 + pool)
    truth = environment.stakeholders[who]
    utility = environment.features @ truth
    rng = np.random.default_rng(0)
    best = float(np.sort(utility)[-frontier.SLATE :].mean())
    draws, n = context.count(draws, min(draws, 5)), context.count(n, 100)
    weights = [truth * (1.0 + rng.normal(0.0, sigma, (draws, len(truth)))) for sigma in NOISES]
    few = min(draws, context.count(20, 2))
    sampled = pairs.draw(n, len(utility), seed=42)
    train = pairs.split(n, seed=42)[0]
    runs = [
        training.Run(pairs.label(sampled, environment.features @ w)[train], initial=space.initial_weights())
        for level in weights
        for w in level[:few]
    ]
    learned = training.fit(environment.features, runs).reshape(len(NOISES), few, -1)
    values: dict[str, Value] = {}
    laws, curves = {}, {}
    for key, vectors in (("oracle", weights), ("proxy", list(learned))):
        losses = [_loss(environment.features, utility, best, level) for level in vectors]
        curves[key] = np.array([level.mean() for level in losses])
        error = np.repeat(NOISES, len(losses[0])) if single else np.array(NOISES)
        loss = np.concatenate(losses) if single else curves[key]
        keep = loss > 0
        power, scale = np.polyfit(np.log(error[keep]), np.log(loss[keep]), 1)
        values[f"{key}_R2log"] = determination(np.log(loss[keep]), power * np.log(error[keep]) + scale)
        values[f"{key}_spearman"] = float(spearmanr(error, loss).statistic)
        laws[key] = f"{np.exp(scale):.0f} std^{power:.2f}"
    return Degraded(values, laws, curves)


def _loss(features: F64, utility: F64, best: float, weights: F64) -> F64:
    """Percent loss ``[S]`` of the top-10 utility when each of `weights` ``[S, 18]`` ranks."""
    chosen = np.argsort(-(weights @ features.T), axis=1, kind="stable")[:, : frontier.SLATE]
    return np.asarray(100.0 * (1.0 - utility[chosen].mean(axis=1) / best))


EXPERIMENT = Experiment(
    "network",
    "set-level society on a synthetic network, and how errors of weights add up",
    (Part("loso", run), Part("degradation", run_degradation)),
)

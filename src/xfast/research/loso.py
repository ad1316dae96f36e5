"""Leave one stakeholder out: what hiding one costs it, and how many of its pairs win that back (RESEARCH §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xfast.errors import ParameterError
from xfast.research import frontier, pairs, training
from xfast.research.environment import F64, I64, Environment
from xfast.research.pareto import nondominated

BUDGETS = (0, 25, 50, 100, 200, 500)
BUDGET_SEEDS = tuple(42 + 100 * i for i in range(20))


@dataclass(frozen=True)
class Regret:
    """Regret of a hidden stakeholder over the points that look efficient to the others.

    Attributes
    ----------
    published
        With the sums of :func:`slate_sums`, which come out at every published regret of ML-100K: equal slates picked in
        another order differ in the last bit, and that bit decides which duplicates count.
    distinct
        Every efficient slate once, compared as sets: no rounding decides anything.
    lowest, highest
        Range over all ways in which rounding could keep at least one of each group of equal slates.
    """

    published: float
    distinct: float
    lowest: float
    highest: float


def geometric(environment: Environment, scorer: F64, hidden: str) -> Regret:
    """Average regret of `hidden` over points that are Pareto-optimal in the other base stakeholders.

    Parameters
    ----------
    scorer
        ``[D]`` weights that rank; the published choice is the platform's (publisher's) true ones.
    """
    others = [name for name in environment.names if name != hidden]
    if hidden not in environment.stakeholders or not others:
        raise ParameterError(f"hidden is {hidden!r}; base stakeholders are {', '.join(environment.names)}")
    slates = frontier.slates(environment.features @ scorer, environment.topics)[0]
    utilities = environment.utilities()
    rounded = {
        name: slate_sums(environment.features, environment.stakeholders[name], slates) for name in environment.names
    }
    front = nondominated(np.stack([rounded[name] for name in others], axis=1))
    published = float((rounded[hidden].max() - rounded[hidden])[front].mean())

    unique, counts = np.unique(np.sort(slates, axis=1), axis=0, return_counts=True)
    exact = frontier.points(unique, utilities)
    keep = nondominated(np.stack([exact[name] for name in others], axis=1))
    regret, repeats = (exact[hidden].max() - exact[hidden])[keep], counts[keep]
    return Regret(published, float(regret.mean()), *_extreme_means(regret, repeats))


def slate_sums(features: F64, weights: F64, slates: I64) -> F64:
    """Utility of slates ``[..., size]`` in float32, the way plain NumPy code adds: a dot per item, a sum per slate.

    The dot keeps float32 products in a float64 sum and rounds once, as OpenBLAS does for short vectors. Of the ways of
    adding that were compared (precisions, whole-pool products, picking order) this one gives all three published
    regrets of ML-100K to their last digit.
    """
    products = features.astype(np.float32) * weights.astype(np.float32)
    each = np.cumsum(products, axis=1, dtype=np.float64)[:, -1].astype(np.float32)
    return np.asarray(each[slates].sum(axis=-1), np.float64)


def _extreme_means(regret: F64, repeats: I64) -> tuple[float, float]:
    """Lowest and highest weighted mean when each value may count between once and ``repeats`` times."""
    bounds = []
    for sign in (1.0, -1.0):
        order = np.argsort(sign * regret, kind="stable")
        means = []
        for taken in range(len(order) + 1):
            weight = np.ones(len(order))
            weight[order[:taken]] = repeats[order[:taken]]
            means.append(float(weight @ regret / weight.sum()))
        bounds.append(min(means) if sign > 0 else max(means))
    return bounds[0], bounds[1]


@dataclass(frozen=True)
class Budget:
    """Regret of a hidden stakeholder against the number of its own pairs.

    Attributes
    ----------
    regret
        ``[len(budgets)]`` mean regret; the first entry is without any pair.
    spread
        Standard deviation over seeds.
    n50, n80
        Pairs that win back 50 % and 80 % of the first regret (linear interpolation; infinite if never).
    """

    regret: F64
    spread: F64
    n50: float
    n80: float


def data_budget(
    environment: Environment,
    hidden: str,
    *,
    budgets: Sequence[int] = BUDGETS,
    seeds: Sequence[int] = BUDGET_SEEDS,
    rescale: bool = False,
    divisor: float = 3.0,
) -> Budget:
    """How fast pairs of the hidden stakeholder repair the feed for it.

    The scorer is ``(sum of observed weights + learned vector) / divisor``; the reference is the best point of the
    frontier scored by the mean of all true weights (not an optimum: regret can be negative).

    Parameters
    ----------
    rescale
        Give the learned vector the length of the true one. As published (False) its length grows with the number of
        optimiser steps and takes over the scorer.
    divisor
        A literal 3 in the reference, also for five stakeholders.
    """
    utility = environment.features @ environment.stakeholders[hidden]
    observed = [weights for name, weights in environment.stakeholders.items() if name != hidden]
    best = _frontier_utility(environment, environment.weights.mean(axis=0)[None], utility).max()
    start = best - _frontier_utility(environment, np.mean(observed, axis=0)[None], utility).mean()
    asked = [n for n in budgets if n > 0]
    runs = []
    for seed in seeds:
        for n in asked:
            labelled = pairs.label(pairs.draw(n, len(utility), seed=seed), utility)
            runs.append(training.Run(labelled[pairs.split(n, seed=seed)[0]]))
    learned = training.fit(environment.features, runs)
    if rescale:
        length = np.linalg.norm(environment.stakeholders[hidden])
        learned = learned * (length / np.linalg.norm(learned, axis=1, keepdims=True))
    scorers = (np.sum(observed, axis=0) + learned) / divisor
    regret = best - _frontier_utility(environment, scorers, utility).mean(axis=1).reshape(len(seeds), len(asked))
    mean = np.concatenate([[start], regret.mean(axis=0)])
    spread = np.concatenate([[0.0], regret.std(axis=0)])
    grid = np.array([0, *asked], np.float64)
    return Budget(mean, spread, crossing(grid, mean, 0.5 * start), crossing(grid, mean, 0.2 * start))


def crossing(grid: F64, values: F64, level: float) -> float:
    """First place where a piecewise linear curve falls to `level`; infinity if it never does."""
    for row in range(1, len(grid)):
        if values[row] <= level:
            share = (values[row - 1] - level) / (values[row - 1] - values[row])
            return float(grid[row - 1] + share * (grid[row] - grid[row - 1]))
    return float("inf")


def _frontier_utility(environment: Environment, scorers: F64, utility: F64) -> F64:
    """Slate utility ``[R, deltas]`` of scorers ``[R, D]``."""
    chosen = frontier.slates(scorers @ environment.features.T, environment.topics)
    return np.asarray(utility[chosen].sum(axis=-1))

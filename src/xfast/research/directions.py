"""The directional experiments: train on one stakeholder with 25 and with 2,000 pairs, judge another (RESEARCH §5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xfast.research import frontier, losses, pairs, policies, training
from xfast.research.environment import F64, Environment

FEW, MANY = 25, 2_000
SIGMA = 0.3
PAIR_SEEDS = tuple(42 + 100 * i for i in range(5))
CURVE_SEEDS = tuple(42 + 1000 * i + 100 * j for i in range(5) for j in range(5))


def proxy_run(
    environment: Environment,
    target: str,
    n: int,
    *,
    seed: int,
    sigma: float = SIGMA,
    noise: float = pairs.LABEL_NOISE,
    initial: F64 | None = None,
) -> training.Run:
    """A run whose labels come from misspecified weights of `target`: one seed for proxy, pairs and split.

    `sigma` is the relative error of the proxy weights, `noise` the standard deviation on every label.
    """
    proxy = pairs.misspecify(environment.stakeholders[target], sigma=sigma, seed=seed)
    draws = pairs.draw(n, len(environment.features), seed=seed, noise=noise)
    labelled = pairs.label(draws, environment.features @ proxy)
    return training.Run(labelled[pairs.split(n, seed=seed)[0]], initial=initial)


@dataclass(frozen=True)
class Pairs:
    """Learned weights for every target and seed at `FEW` and `MANY` pairs.

    Attributes
    ----------
    few, many
        Target -> ``[seeds, D]``.
    """

    few: dict[str, F64]
    many: dict[str, F64]


def goodhart_pairs(
    environment: Environment,
    *,
    seeds: Sequence[int] = PAIR_SEEDS,
    schedule: training.Adam,
    sigma: float = SIGMA,
    noise: float = pairs.LABEL_NOISE,
) -> Pairs:
    """Train every base stakeholder on few and on many pairs for every seed, in one compile."""
    keys = [(target, n, seed) for target in environment.names for n in (FEW, MANY) for seed in seeds]
    runs = [proxy_run(environment, target, n, seed=seed, sigma=sigma, noise=noise) for target, n, seed in keys]
    learned = training.fit(environment.features, runs, schedule)
    return gather(environment, learned, len(seeds))


def gather(environment: Environment, learned: F64, seeds: int) -> Pairs:
    """Arrange weights trained in the order target × (few, many) × seed."""
    cube = learned.reshape(len(environment.names), 2, seeds, -1)
    return Pairs(
        {name: cube[row, 0] for row, name in enumerate(environment.names)},
        {name: cube[row, 1] for row, name in enumerate(environment.names)},
    )


def top_change(environment: Environment, learned: Pairs, target: str, hidden: str) -> F64:
    """Change of the hidden stakeholder's mean top-10 utility from few to many pairs, per seed."""
    utility = environment.utilities()[hidden]
    many, few = (weights @ environment.features.T for weights in (learned.many[target], learned.few[target]))
    return policies.top_utility(many, utility) - policies.top_utility(few, utility)


def softmax_change(environment: Environment, learned: Pairs, target: str, hidden: str, temperature: float) -> F64:
    """Change of the hidden stakeholder's softmax utility from few to many pairs, per seed."""
    utility = environment.utilities()[hidden]
    many, few = (weights @ environment.features.T for weights in (learned.many[target], learned.few[target]))
    return policies.softmax_utility(many, utility, temperature) - policies.softmax_utility(few, utility, temperature)


def frontier_change(environment: Environment, learned: Pairs, target: str) -> dict[str, float]:
    """Percent change of every stakeholder's mean over the 21-point frontier, from few to many pairs."""
    means = []
    for weights in (learned.few[target], learned.many[target]):
        chosen = frontier.slates(weights @ environment.features.T, environment.topics)
        means.append({name: values.mean() for name, values in frontier.points(chosen, environment.utilities()).items()})
    low, high = means
    return {name: float((high[name] - low[name]) / abs(low[name]) * 100.0) for name in low}


def unperturbed(
    environment: Environment,
    members: Sequence[losses.Loss],
    *,
    n: int = 2_500,
    seeds: Sequence[int] = PAIR_SEEDS,
    noise: float = pairs.LABEL_NOISE,
) -> tuple[dict[tuple[str, str], F64], dict[str, list[float]]]:
    """Train every base stakeholder on its own labels with several losses.

    Returns
    -------
    weights
        (loss name, stakeholder) -> ``[seeds, D]``.
    accuracies
        ``train`` and ``eval`` accuracy of every run.
    """
    utilities = environment.utilities()
    keys, runs, rows = [], [], []
    for member in members:
        for name in environment.names:
            for seed in seeds:
                draws = pairs.draw(n, len(environment.features), seed=seed, noise=noise)
                labelled = pairs.label(draws, utilities[name])
                train, held_out = pairs.split(n, seed=seed)
                runs.append(training.Run(labelled[train], member, np.clip(utilities[name], 0.0, 1.0)))
                keys.append((member.name, name))
                rows.append((labelled[train], labelled[held_out]))
    learned = training.fit(environment.features, runs)
    weights: dict[tuple[str, str], F64] = {}
    for key in dict.fromkeys(keys):
        weights[key] = learned[[row for row, other in enumerate(keys) if other == key]]
    scores = learned @ environment.features.T
    return weights, {
        "train": [pairs.accuracy(score, train) for score, (train, _) in zip(scores, rows, strict=True)],
        "eval": [pairs.accuracy(score, held_out) for score, (_, held_out) in zip(scores, rows, strict=True)],
    }


def mean_cosine(left: F64, right: F64) -> float:
    """Mean over seeds of the cosine of two stacks ``[seeds, D]``."""
    return float(np.mean([policies.cosine(a, b) for a, b in zip(left, right, strict=True)]))

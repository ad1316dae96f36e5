"""``losses``: the 87-run study — four losses, three stakeholders, one compile — and 30 rerankers without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from xfast.research import convergence, losses, pairs, policies, space, synthetic, training
from xfast.research.environment import F64, I64, Environment
from xfast.research.experiments.base import Context, Experiment, Part, Result, Value, average, explanations

MARGINS = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
LAMBDAS = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
STRENGTHS = (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)
RERANK_ALPHAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
SEED = 42


def members(stakeholder: str) -> Iterator[tuple[str, losses.Loss]]:
    """The 29 losses of one stakeholder: (published run name, loss)."""
    yield f"bradley_terry_{stakeholder}", losses.bradley_terry()
    for m in MARGINS:
        yield f"margin_bt_{stakeholder}_m{m}", losses.margin(m)
    for lam in LAMBDAS:
        yield f"calibrated_bt_{stakeholder}_cal{lam}", losses.calibrated(lam)
    for strength in STRENGTHS:
        yield f"constrained_bt_{stakeholder}_cw{strength}", losses.constrained(stakeholder, strength)


def posthoc(probabilities: F64, stakeholder: str, alpha: float, score: F64 | None = None) -> F64:
    """Scores of the reranker that trains nothing (RESEARCH §3), ``[I]``.

    The user loses ``alpha`` times the negative probabilities, society gains ``alpha`` times the normalised entropy of
    the actions, the platform keeps the hand-weighted score.
    """
    base = probabilities @ space.HAND_WEIGHTS if score is None else score
    if stakeholder == "user":
        return np.asarray(base - alpha * probabilities[:, space.NEGATIVE_MASK].sum(axis=1))
    if stakeholder == "society":
        share = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
        entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(axis=1) / np.log(len(space.ACTIONS))
        return np.asarray(base + alpha * entropy)
    return base


def run(context: Context) -> Result:
    """Train all 87 vectors at once, evaluate the 30 rerankers, compare learned directions with the converged ones.

    Means over independent pools: the published one is not known.
    """
    worlds = synthetic.environments(context.count(2_000, 200), context.count(6, 1))
    found = [study(context, world) for world in worlds]
    pools = {f"pool {number}": values for number, (values, _) in enumerate(found)}
    return Result(
        average(list(pools.values())),
        whys=explanations(pools, f"the published pool is one unknown draw; the mean of {len(worlds)} pools is shown"),
        detail={"pools": [more for _, more in found]},
    )


def study(context: Context, environment: Environment) -> tuple[dict[str, Value], dict[str, object]]:
    """All 87 runs and 30 rerankers on one pool."""
    n, epochs = context.count(50_000, 500), context.count(30, 5)
    draws = pairs.draw(n, len(environment.features), seed=SEED, per_item=True)
    train, held_out = pairs.split(n, seed=SEED)
    targets = synthetic.calibration_targets(environment.features)
    utilities = environment.utilities()
    names, runs, judged = [], [], []
    for who in environment.names:
        labelled = pairs.label(draws, utilities[who])
        for name, loss in members(who):
            names.append(name)
            runs.append(training.Run(labelled[train], loss, targets, space.initial_weights()))
            judged.append(labelled[held_out])
    learned = training.fit(environment.features, runs, training.Adam(epochs=epochs))
    values: dict[str, Value] = {}
    for name, w, rows in zip(names, learned, judged, strict=True):
        values[f"loss87.{name}.accuracy"] = pairs.accuracy(environment.features @ w, rows)
    weights = dict(zip(names, learned, strict=True))
    for a, b in combinations(environment.names, 2):
        cosine = policies.cosine(weights[f"bradley_terry_{a}"], weights[f"bradley_terry_{b}"])
        values[f"loss87.cos.{a}-{b}"] = cosine
        values[f"loss87.disagreement.{a}-{b}"] = pairs.disagreement(utilities[a], utilities[b], draws.items)
    rerank = _rerankers(environment, judged)
    for kind in ("bradley_terry", "margin_bt", "calibrated_bt", "constrained_bt"):
        values[f"loss87.count.{kind}"] = sum(name.startswith(kind) for name in names)
    values["loss87.count.posthoc"] = len(rerank)
    detail: dict[str, object] = {
        "posthoc_accuracy": rerank,
        "society_constraint_over_all_weights": _finite_constraint(environment, runs, names, epochs),
        **_converged(environment, runs, names),
    }
    return values, detail


def _rerankers(environment: Environment, judged: list[I64]) -> dict[str, float]:
    """Accuracy of the 30 post-hoc scorers on each stakeholder's held-out pairs."""
    out = {}
    per_stakeholder = len(judged) // len(environment.names)
    for row, who in enumerate(environment.names):
        for alpha in RERANK_ALPHAS:
            scores = posthoc(environment.features, who, alpha)
            out[f"posthoc_{who}_a{alpha}"] = pairs.accuracy(scores, judged[row * per_stakeholder])
    return out


def _finite_constraint(
    environment: Environment, runs: list[training.Run], names: list[str], epochs: int
) -> dict[str, float]:
    """The society-constrained runs with the spread of all 18 weights, whose gradient exists at the published start."""
    chosen = [(name, run) for name, run in zip(names, runs, strict=True) if name.startswith("constrained_bt_society")]
    again = [replace(run, loss=replace(run.loss, constraint="diversity")) for _, run in chosen]
    learned = training.fit(environment.features, again, training.Adam(epochs=epochs))
    return {
        name.removeprefix("constrained_bt_society_"): pairs.accuracy(environment.features @ w, run.pairs)
        for (name, run), w in zip(chosen, learned, strict=True)
    }


def _converged(environment: Environment, runs: list[training.Run], names: list[str]) -> dict[str, dict[str, float]]:
    """Cosines of the three Bradley-Terry optima: what the labels say once the optimiser no longer matters."""
    rows = [names.index(f"bradley_terry_{who}") for who in environment.names]
    optima = convergence.fit(environment.features, [runs[row] for row in rows])
    return {
        "converged_cosines": {
            f"{a}-{b}": policies.cosine(optima[i], optima[j])
            for (i, a), (j, b) in combinations(enumerate(environment.names), 2)
        }
    }


EXPERIMENT = Experiment("losses", "87 trained losses and 30 rerankers on synthetic pairs", (Part("synthetic", run),))

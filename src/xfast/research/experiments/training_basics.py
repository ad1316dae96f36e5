"""``train``: the plainest question — do learned weights order held-out pairs, with and without noise?"""

from __future__ import annotations

import numpy as np

from xfast.research import pairs, space, synthetic, training
from xfast.research.experiments.base import Context, Experiment, Part, Result, Value

CLEAR_GAP = 0.1


def run(context: Context) -> Result:
    """Held-out accuracy for the three stakeholders on noisy pairs, and on the clear pairs of the first phase."""
    environment = context.environment("synthetic")
    n = context.count(2_500, 250)
    train, held_out = pairs.split(n, seed=42)
    draws = pairs.draw(n, len(environment.features), seed=42)
    runs, judged = [], []
    for utility in (environment.features @ w for w in environment.stakeholders.values()):
        rows = pairs.label(draws, utility)
        runs.append(training.Run(rows[train], initial=space.initial_weights()))
        judged.append(rows[held_out])
    learned = training.fit(environment.features, runs)
    values: dict[str, Value] = {
        f"synthetic.heldout.{who}.eval_accuracy": pairs.accuracy(environment.features @ w, rows)
        for who, w, rows in zip(environment.names, learned, judged, strict=True)
    }
    spread = [
        [pairs.accuracy(features @ w, rows) for w, rows in zip(fitted, held, strict=True)]
        for features, fitted, held in (_again(seed, n) for seed in range(context.count(6, 2)))
    ]
    values["bt.phase1.val_accuracy"] = _first_phase(context)
    ranges = np.array(spread)
    shown = ", ".join(
        f"{who} {low:.3f} to {high:.3f}"
        for who, low, high in zip(environment.names, ranges.min(axis=0), ranges.max(axis=0), strict=True)
    )
    return Result(
        values,
        notes={
            "synthetic.heldout": "500 held-out pairs have a standard error of 0.011; the published pool and seeds are "
            f"not specified, over six pools the accuracies range over {shown}",
            "bt.phase1": "the published first phase is not specified beyond its gap of 0.1 and noise-free labels",
        },
    )


def _again(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """The same training on another pool with other pairs."""
    environment = synthetic.environment(500, seed=seed)
    train, held_out = pairs.split(n, seed=seed)
    draws = pairs.draw(n, len(environment.features), seed=seed)
    labelled = [pairs.label(draws, environment.features @ w) for w in environment.stakeholders.values()]
    runs = [training.Run(rows[train], initial=space.initial_weights()) for rows in labelled]
    return environment.features, training.fit(environment.features, runs), [rows[held_out] for rows in labelled]


def _first_phase(context: Context) -> float:
    """Validation accuracy on noise-free pairs whose ground-truth rewards differ by at least 0.1 (RESEARCH §2)."""
    environment = context.environment("synthetic")
    reward = environment.features @ space.HAND_WEIGHTS
    items = pairs.draw(context.count(5_000, 300), len(reward), seed=42).items
    gap = reward[items[:, 0]] - reward[items[:, 1]]
    items = np.where((gap > 0)[:, None], items, items[:, ::-1])[np.abs(gap) >= CLEAR_GAP]
    train, held_out = pairs.split(len(items), seed=42)
    w = training.fit(environment.features, [training.Run(items[train], initial=space.initial_weights())])[0]
    return pairs.accuracy(environment.features @ w, items[held_out])


EXPERIMENT = Experiment("train", "held-out accuracy of the plain model", (Part("synthetic", run),))

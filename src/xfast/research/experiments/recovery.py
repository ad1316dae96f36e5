"""``alpha``: can pairs tell how much a stakeholder dislikes harm — and when does that break?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.stats import norm, spearmanr

from xfast.research import convergence, losses, pairs, policies, space, synthetic, training
from xfast.research.environment import F64, I64, Environment
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

ALPHAS = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0)
SCHEDULE = training.Adam(epochs=150)
PAIRS = 5_000
FLIPS = (0.0, 0.05, 0.1, 0.2, 0.3)
SIZES = (50, 100, 200, 500, 1_000, 2_000)
BETAS = (float("inf"), 2.0, 1.0, 0.5, 0.2)
COPULAS = (0.0, 0.3, 0.6, 0.8)
BREAK = 0.95
Coupling = Literal["one to one", "groups", "mean"]
COUPLINGS: tuple[Coupling, ...] = ("one to one", "groups", "mean")


def ratio(weights: F64) -> F64:
    """``alpha_hat = -mean(w_negative) / mean(w_positive)`` of weights ``[..., 18]``."""
    negative, positive = weights[..., space.NEGATIVE_MASK], weights[..., space.POSITIVE_MASK]
    return np.asarray(-negative.mean(axis=-1) / positive.mean(axis=-1))


def correlated_pool(items: int, rho: float, rng: np.random.Generator, *, coupling: Coupling = "one to one") -> F64:
    """Action probabilities whose positive and negative actions have a Gaussian copula of strength `rho`.

    Parameters
    ----------
    coupling
        ``one to one``: each negative action with one positive action. ``groups``: the group of positive and the group
        of negative actions share a factor each (half of the variance), and the two factors correlate. ``mean``: every
        negative action with the mean of the positive ones.
    """
    latent = rng.normal(size=(items, len(space.ACTIONS)))
    positive, negative = np.flatnonzero(space.POSITIVE_MASK), np.flatnonzero(space.NEGATIVE_MASK)
    rest = np.sqrt(1.0 - rho**2)
    if coupling == "one to one":
        latent[:, negative] = rho * latent[:, positive[: len(negative)]] + rest * latent[:, negative]
    elif coupling == "groups":
        good, own = rng.normal(size=(2, items, 1))
        latent[:, positive] = np.sqrt(0.5) * (good + latent[:, positive])
        latent[:, negative] = np.sqrt(0.5) * (rho * good + rest * own + latent[:, negative])
    else:
        mean = latent[:, positive].mean(axis=1, keepdims=True) * np.sqrt(len(positive))
        latent[:, negative] = rho * mean + rest * latent[:, negative]
    return 0.05 + 0.25 * np.asarray(norm.cdf(latent))


def temperature_labels(items: I64, utilities: F64, beta: float, rng: np.random.Generator) -> I64:
    """Labels drawn from Bradley-Terry with inverse temperature `beta`; infinite means no noise."""
    gap = utilities[items[:, 0]] - utilities[items[:, 1]]
    if np.isinf(beta):
        chosen = gap > 0
    else:
        chosen = rng.random(len(items)) < 1.0 / (1.0 + np.exp(-beta * gap))
    return np.where(chosen[:, None], items, items[:, ::-1])


def run(context: Context) -> Result:
    """Recover 13 alphas; relate the cosine of learned weights to how often stakeholders disagree."""
    worlds = synthetic.environments(500, context.count(12, 2))
    each = [recover(context, world.features) for world in worlds]
    values = average([values for values, _ in each])
    found = np.mean([found for _, found in each], axis=0)
    slope, intercept = np.polyfit(ALPHAS, found, 1)
    fit = slope * np.array(ALPHAS) + intercept
    pools = {f"pool {number}": values for number, (values, _) in enumerate(each)}
    drawn = f"the published pool is one unknown draw; the mean of {len(worlds)} pools is shown"
    whys = explanations(pools, drawn, ids="disagreement")
    whys |= explanations(
        pools | _converged(context, worlds),
        f"{drawn}. The ridge stretches alpha, too: converged fits with three ridges are tried beside it",
        ids="alpha",
    )
    return Result(
        values,
        whys=whys,
        detail={"alpha_hat": dict(zip(map(str, ALPHAS), found.tolist(), strict=True))},
        figures={
            "alpha-recovery": Figure(
                "The learned ratio keeps the order of alpha and stretches it",
                "alpha",
                "learned alpha",
                [
                    Series("learned", list(ALPHAS), found.tolist(), kind="points"),
                    Series(f"fit {slope:.3f} alpha {intercept:+.3f}", list(ALPHAS), fit.tolist()),
                    Series("equal", [0.0, 8.0], [0.0, 8.0]),
                ],
            )
        },
    )


def recover(context: Context, features: F64) -> tuple[dict[str, Value], F64]:
    """The published recovery on one pool: values, and the learned alphas."""
    n = context.count(PAIRS, 200)
    schedule = SCHEDULE if context.tier == "full" else training.Adam(epochs=5)
    draws = pairs.draw(n, len(features), seed=42)
    train = pairs.split(n, seed=42)[0]
    utilities = {alpha: features @ space.alpha_weights(alpha) for alpha in ALPHAS}
    runs = [training.Run(pairs.label(draws, u)[train], initial=space.initial_weights()) for u in utilities.values()]
    learned = training.fit(features, runs, schedule)
    found = ratio(learned)
    values = _line(found) | _bound(features, learned, list(utilities.values()), draws.items)
    return values, found


def _converged(context: Context, worlds: Sequence[Environment]) -> dict[str, dict[str, Value]]:
    """The same values from converged fits, by ridge: mean over the first pools."""
    n = context.count(PAIRS, 200)
    train = pairs.split(n, seed=42)[0]
    out = {}
    for l2 in (3e-3, losses.L2, 1e-4):
        found = []
        for world in worlds[:3]:
            draws = pairs.draw(n, len(world.features), seed=42)
            runs = [
                training.Run(pairs.label(draws, world.features @ space.alpha_weights(alpha))[train]) for alpha in ALPHAS
            ]
            found.append(_line(ratio(convergence.fit(world.features, runs, l2=l2))))
        out[f"converged, ridge {l2:g}, mean of {len(found)} pools"] = average(found)
    return out


def _line(found: F64) -> dict[str, Value]:
    """Values of one recovered set of alphas ``[13]``: order, line, three single ones."""
    slope, intercept = np.polyfit(ALPHAS, found, 1)
    return {
        "alpha.spearman": float(spearmanr(ALPHAS, found).statistic),
        "alpha.slope": float(slope),
        "alpha.intercept": float(intercept),
        "alpha.R2": determination(found, slope * np.array(ALPHAS) + intercept),
        **{f"alpha.hat.{who}": float(found[ALPHAS.index(alpha)]) for who, alpha in space.ALPHA.items()},
    }


def determination(observed: F64, fitted: F64) -> float:
    """Coefficient of determination R²."""
    return 1.0 - float(((observed - fitted) ** 2).sum() / ((observed - observed.mean()) ** 2).sum())


def _bound(features: F64, learned: F64, utilities: Sequence[F64], items: I64) -> dict[str, Value]:
    """Cosine of learned weights against disagreement d, and against d and the margin m of disagreed pairs."""
    rows = []
    for i, j in combinations(range(len(utilities)), 2):
        gap_i, gap_j = (u[items[:, 0]] - u[items[:, 1]] for u in (utilities[i], utilities[j]))
        apart = gap_i * gap_j < 0
        margin = float(np.abs(gap_i - gap_j)[apart].mean()) if apart.any() else 0.0
        rows.append((policies.cosine(learned[i], learned[j]), float(apart.mean()), margin))
    cosine, disagreement, margin_column = np.array(rows).T
    ones = np.ones(len(rows))
    out: dict[str, Value] = {
        "disagreement.bound.spearman": float(spearmanr(disagreement, cosine).statistic),
    }
    for key, columns in (("R2_two_var", (ones, disagreement, margin_column)), ("R2_d_only", (ones, disagreement))):
        design = np.stack(columns, axis=1)
        weights = np.linalg.lstsq(design, cosine, rcond=None)[0]
        out[f"disagreement.bound.{key}"] = determination(cosine, design @ weights)
    return out


World = Callable[[float, int], tuple[F64, list[I64]]]


def run_stress(context: Context) -> Result:
    """1,300 runs and more: label flips, few pairs, soft labels, correlated actions; where the order of alpha breaks.

    Trained like the recovery (150 epochs); 50 epochs, the start at 0.1 and other couplings are tried beside it.
    """
    seeds = context.count(12, 1)
    axes: dict[str, tuple[Sequence[float], World]] = {
        "flip": (FLIPS, _flipped),
        "n": (SIZES, _few),
        "beta": (BETAS, _soft),
        "rho": (COPULAS, _correlated("one to one")),
    }
    schedule = SCHEDULE if context.tier == "full" else training.Adam(epochs=3)
    whys: dict[str, Why] = {}
    signed: dict[str, dict[str, float]] = {}
    magnitude: dict[str, dict[str, float]] = {}
    figures = {}
    for name, (every, world) in axes.items():
        levels = every if context.tier == "full" else (every[0], every[-1])
        orders = {level: spearmans(world, level, seeds, schedule=schedule) for level in levels}
        signed[name] = {str(level): float(order[:, 0].mean()) for level, order in orders.items()}
        magnitude[name] = {str(level): float(order[:, 1].mean()) for level, order in orders.items()}
        for key, axis, place in STRESSED:
            if axis == name:
                level = every[place]
                whys[f"alpha.stress.{key}_spearman"] = _tried(context, axis, level, world, orders[level])
        figures[f"alpha-stress-{name}"] = Figure(
            f"Order of alpha under stress: {name} in {', '.join(f'{level:g}' for level in levels)}",
            "level",
            "mean Spearman",
            [Series(name, [float(i) for i in range(len(levels))], list(signed[name].values()))],
        )
    broken = {name: [key for key, value in row.items() if value < BREAK] for name, row in signed.items()}
    values: dict[str, Value] = {
        f"alpha.stress.{key}_spearman": (magnitude if axis == "rho" else signed)[axis][str(axes[axis][0][place])]
        for key, axis, place in STRESSED
    }
    return Result(
        values,
        whys=whys,
        detail={"spearman": signed, "spearman_of_magnitude": magnitude, "breaks_at": broken},
        figures=figures,
    )


# (published name, axis, place of its level)
STRESSED = (("flip30", "flip", -1), ("n50", "n", 0), ("beta0.2", "beta", -1), ("rho0.8", "rho", -1))


def spearmans(
    world: World, level: float, seeds: int, *, schedule: training.Adam = SCHEDULE, start: float | None = None
) -> F64:
    """Spearman of learned and true alpha, with and without regard to sign, ``[seeds, 2]``.

    Correlated actions let the ridge push the mean positive weight below 0; the ratio then changes sign.
    """
    initial = space.initial_weights() if start is None else np.full(len(space.ACTIONS), start)
    out = []
    for seed in range(seeds):
        features, labelled = world(level, seed)
        train = pairs.split(len(labelled[0]), seed=42 + seed)[0]
        found = ratio(
            training.fit(features, [training.Run(rows[train], initial=initial) for rows in labelled], schedule)
        )
        out.append((spearmanr(ALPHAS, found).statistic, spearmanr(ALPHAS, np.abs(found)).statistic))
    return np.array(out)


def _tried(context: Context, axis: str, level: float, world: World, orders: F64) -> Why:
    """One stressed level, whose orders by seed are known, under the settings that the sources leave open."""
    few, seeds = context.count(5, 1), len(orders)
    found = {f"seed {seed}": row for seed, row in enumerate(orders)}
    if context.tier == "full":
        found["start at 0.1"] = spearmans(world, level, few, start=0.1).mean(axis=0)
        found["50 epochs"] = spearmans(world, level, few, schedule=training.PUBLISHED).mean(axis=0)
    if axis == "rho" and context.tier == "full":
        for coupling in COUPLINGS[1:]:
            found[f"coupling: {coupling}"] = spearmans(_correlated(coupling), level, few).mean(axis=0)
    sides = {
        f"{name}, {kind}": float(v)
        for name, row in found.items()
        for kind, v in zip(("signed", "size"), row, strict=True)
    }
    return Why(
        f"the published mean is over 5 unknown seeds, and schedule, start and how the ratio's sign counts are open; "
        f"{seeds} seeds are averaged here (150 epochs as in the recovery; the sign counts but for correlated actions, "
        "where the ridge turns it)",
        sides,
    )


_STRESS_PAIRS = 2_000


def _base(seed: int, n: int = _STRESS_PAIRS) -> tuple[F64, I64, list[F64]]:
    features = synthetic.environment(500, seed=seed).features
    items = pairs.draw(n, len(features), seed=42 + seed).items
    return features, items, [features @ space.alpha_weights(alpha) for alpha in ALPHAS]


def _flipped(share: float, seed: int) -> tuple[F64, list[I64]]:
    features, _, utilities = _base(seed)
    draws = pairs.draw(_STRESS_PAIRS, len(features), seed=42 + seed)
    rng = np.random.default_rng(seed)
    return features, [pairs.flip(pairs.label(draws, u), share=share, rng=rng) for u in utilities]


def _few(n: float, seed: int) -> tuple[F64, list[I64]]:
    features, _, utilities = _base(seed)
    draws = pairs.draw(int(n), len(features), seed=42 + seed)
    return features, [pairs.label(draws, u) for u in utilities]


def _soft(beta: float, seed: int) -> tuple[F64, list[I64]]:
    features, items, utilities = _base(seed)
    rng = np.random.default_rng(seed)
    return features, [temperature_labels(items, u, beta, rng) for u in utilities]


def _correlated(coupling: Coupling) -> World:
    def world(rho: float, seed: int) -> tuple[F64, list[I64]]:
        features = correlated_pool(500, rho, np.random.default_rng(seed), coupling=coupling)
        draws = pairs.draw(_STRESS_PAIRS, len(features), seed=42 + seed)
        return features, [pairs.label(draws, features @ space.alpha_weights(alpha)) for alpha in ALPHAS]

    return world


EXPERIMENT = Experiment(
    "alpha", "recovering harm aversion, and what breaks it", (Part("recovery", run), Part("stress", run_stress))
)

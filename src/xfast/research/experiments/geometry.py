"""``geometry``: more stakeholders, other weights, non-linear utilities — how far do the linear findings carry?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xfast.research import frontier, network, pairs, policies, space, synthetic, training
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
    with_error,
)
from xfast.research.pareto import hausdorff, nondominated

# Eight hand-made directions of taste; orthogonalised, stakeholders are mixtures of them.
FACTORS: Mapping[str, Mapping[str, float]] = {
    "engagement": {"favorite": 1, "reply": 1, "repost": 1},
    "safety": dict.fromkeys(space.NEGATIVE, -1.0),
    "virality": {"repost": 1, "quote": 1, "share": 1},
    "retention": {"follow_author": 1, "favorite": 0.5, "not_interested": -1},
    "passive": {"dwell": 1, "photo_expand": 1, "vqv": 1},
    "links": {"click": 1, "quoted_click": 1, "share_via_copy_link": 1},
    "discovery": {"profile_click": 1, "follow_author": 1, "click": 0.5},
    "quality": {"quote": 1, "reply": 1, "dwell": 0.5, "report": -1},
}
KS = (3, 5, 7, 10)
CONCENTRATIONS = (0.5, 5.0)
SIGN_FLIP = 0.2
DELTAS_101 = tuple(np.linspace(0.0, 1.0, 101).tolist())
SCALES = (0.25, 0.5, 0.75, 0.9, 1.1, 1.25, 1.5, 2.0)


def factors() -> F64:
    """The eight factors as orthonormal rows ``[8, 18]``."""
    table = np.stack([space.vector(weights) for weights in FACTORS.values()])
    return np.asarray(np.linalg.qr(table.T)[0].T)


def stakeholders(k: int, concentration: float, rng: np.random.Generator) -> F64:
    """`k` random stakeholders ``[k, 18]``: Dirichlet loadings on the factors, signs flipped with probability 0.2."""
    loadings = rng.dirichlet(np.full(len(FACTORS), concentration), size=k)
    signs = np.where(rng.random(loadings.shape) < SIGN_FLIP, -1.0, 1.0)
    return np.asarray((loadings * signs) @ factors())


SCORERS: Mapping[str, Callable[[F64, int], F64]] = {
    "mean of all": lambda weights, hidden: weights.mean(axis=0),
    "mean of the observed": lambda weights, hidden: np.delete(weights, hidden, axis=0).mean(axis=0),
    "first observed": lambda weights, hidden: np.delete(weights, hidden, axis=0)[0],
    "hand weights": lambda weights, hidden: space.HAND_WEIGHTS,
}
UNITS: Mapping[str, Callable[[F64], float]] = {
    "range over the frontier": lambda utility: float(np.ptp(utility)),
    "utility itself": lambda utility: 1.0,
}
KEPT = ("efficient points", "all points")


def relative_regrets(features: F64, topics: I64, weights: F64) -> dict[str, float]:
    """Leave-one-out regret averaged over stakeholders ``[K, 18]``, under every reading of the sources.

    Readings differ in who scores (a scorer that does not depend on who is hidden, or the observed ones), which points
    of the frontier count (those efficient for the observed, or all), and the unit.
    """
    out: dict[str, list[float]] = {}
    known: dict[bytes, I64] = {}  # most scorers do not depend on who is hidden
    for hidden in range(len(weights)):
        for scorer, scoring in SCORERS.items():
            by = scoring(weights, hidden)
            if by.tobytes() not in known:
                known[by.tobytes()] = frontier.slates(features @ by, topics, deltas=DELTAS_101)[0]
            slates = known[by.tobytes()]
            utilities = (features @ weights.T)[slates].sum(axis=1)
            judged = utilities[:, hidden]
            efficient = nondominated(np.delete(utilities, hidden, axis=1))
            for points, rows in zip(KEPT, (efficient, np.ones(len(slates), bool)), strict=True):
                for unit, size in UNITS.items():
                    if (length := size(judged)) > 0:
                        regret = float((judged.max() - judged[rows]).mean()) / length
                        out.setdefault(f"scored by {scorer}; {points}; in {unit}", []).append(regret)
    return {name: float(np.mean(found)) for name, found in out.items()}


SHOWN_REGRET = f"scored by mean of all; {KEPT[0]}; in {next(iter(UNITS))}"


def run_k(context: Context) -> Result:
    """Regret against the number of stakeholders and the concentration of their tastes."""
    environment = context.environment("synthetic")
    seeds = context.count(60, 2)
    settings = {f"kscale.regret.K{k}": (k, 2.0) for k in KS}
    settings |= {f"kscale.conc{concentration:g}": (5, concentration) for concentration in CONCENTRATIONS}
    values: dict[str, Value] = {}
    whys, shown = {}, []
    for key, (k, concentration) in settings.items():
        rows = [
            relative_regrets(
                environment.features,
                environment.topics,
                stakeholders(k, concentration, np.random.default_rng(seed)),
            )
            for seed in range(seeds)
        ]
        means = {name: with_error(np.array([row[name] for row in rows if name in row])) for name in rows[0]}
        values[key] = means[SHOWN_REGRET]
        shown.append(means[SHOWN_REGRET]["value"])
        whys[key] = Why(
            "the entries of the eight factors, who scores, which points count and the unit of regret are not "
            f"published; shown: {SHOWN_REGRET}, {seeds} sets of stakeholders",
            {name: found["value"] for name, found in means.items()},
        )
    return Result(
        values,
        whys=whys,
        figures={
            "kscale": Figure(
                "Regret hardly depends on the number of stakeholders",
                "stakeholders",
                "regret / range",
                [Series("c = 2", [float(k) for k in KS], shown[: len(KS)])],
            )
        },
    )


def cloud(environment: Environment, scorer: F64, judges: Mapping[str, F64]) -> F64:
    """Frontier points ``[21, K]`` of one scorer."""
    slates = frontier.slates(environment.features @ scorer, environment.topics)[0]
    return np.stack([(environment.features @ w)[slates].sum(axis=1) for w in judges.values()], axis=1)


# Where the weights come from, which ones are scaled one by one, and how far the aversion to harm is scaled.
BASES: Mapping[str, F64] = {"set B": space.alpha_weights(space.ALPHA["user"]), "set A": space.USER_A}
HARM_SCALES: Mapping[str, tuple[float, ...]] = {
    "the same factors": SCALES,
    "alphas 0.1 to 8": (0.1, 0.2, 0.3, 0.5, 0.8, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 8.0),
}
LENGTHS = (0.25, 0.5, 1.0)
SHOWN_SENSITIVITY = "set B; one weight against alpha by the same factors"
SHOWN_MATCH = "set A; a change of 0.5 of the length"


def run_sensitivity(context: Context) -> Result:
    """Changing weights inside a group against scaling the aversion to harm: which moves the frontier? Over pools."""
    worlds = synthetic.environments(500, context.count(6, 1))
    found = [sensitivity(context, world) for world in worlds]
    readings = {
        key: {name: float(np.mean([each[key][name] for each in found])) for name in found[0][key]} for key in found[0]
    }
    shown = {
        "sensitivity.alpha_dominance_ratio": SHOWN_SENSITIVITY,
        "sensitivity.selection_ratio": SHOWN_SENSITIVITY,
        "sensitivity.matched.within": SHOWN_MATCH,
        "sensitivity.matched.alpha": SHOWN_MATCH,
    }
    values: dict[str, Value] = {key: readings[key][name] for key, name in shown.items()}
    whys = {
        key: Why(
            "which 14 weights, which factors of alpha and which base are not published; means of Hausdorff distances "
            f"of the frontier in utility units (of changes of the top 10 for selection) over {len(worlds)} pools, "
            f"shown: {name}",
            {**readings[key]},
        )
        for key, name in shown.items()
    }
    stable = {
        f"network of boost {boost:g}, seed {seed}": rank_stability(network.build(boost=boost, seed=seed))
        for boost in (2.0, 3.0)[: context.count(2, 1)]
        for seed in range(context.count(4, 1))
    }
    values["sensitivity.rank_stability"] = float(np.mean(list(stable.values())))
    whys["sensitivity.rank_stability"] = Why(
        "order of the three stakeholders' regrets on the synthetic network when one weight of set A is scaled by the 8 "
        "factors; the published network is one unknown draw, the mean of several is shown",
        {**stable},
    )
    moves = readings["sensitivity.alpha_dominance_ratio"]
    return Result(
        values,
        whys=whys,
        detail={"pools": found},
        figures={
            "sensitivity": Figure(
                "How far the frontier moves inside groups, in units of scaling the aversion to harm",
                ", ".join(f"{i}: {name}" for i, name in enumerate(moves)),
                "ratio of Hausdorff distances",
                [Series("mean", [float(i) for i in range(len(moves))], list(moves.values()), kind="bars")],
            )
        },
    )


def sensitivity(context: Context, environment: Environment) -> dict[str, dict[str, float]]:
    """Target -> reading -> value on one pool."""
    out: dict[str, dict[str, float]] = {}
    rng = np.random.default_rng(0)
    for name, base in BASES.items():
        reference = cloud(environment, base, environment.stakeholders)
        best = set(policies.top(environment.features @ base).tolist())

        def moved(weights: F64, reference: F64 = reference, best: set[int] = best) -> tuple[float, float]:
            """Distance that the frontier moves, and the share of the top 10 that changes."""
            picked = set(policies.top(environment.features @ weights).tolist())
            distance = hausdorff(cloud(environment, weights, environment.stakeholders), reference)
            return distance, 1.0 - len(best & picked) / policies.TOP_K

        within = {
            "one weight": [
                moved(_scaled(base, column, f))
                for column in np.flatnonzero(~space.NEGATIVE_MASK).tolist()
                for f in SCALES
            ],
            "weights permuted in groups": [moved(_permuted(base, rng)) for _ in range(context.count(50, 3))],
        }
        for which, factors in HARM_SCALES.items():
            harm = np.mean([moved(np.where(space.NEGATIVE_MASK, base * f, base)) for f in factors], axis=0)
            for kind, changes in within.items():
                ratio = np.mean(changes, axis=0) / np.maximum(harm, 1e-12)
                reading = f"{name}; {kind} against alpha by {which}"
                out.setdefault("sensitivity.alpha_dominance_ratio", {})[reading] = float(ratio[0])
                out.setdefault("sensitivity.selection_ratio", {})[reading] = float(ratio[1])
        for share in LENGTHS:
            inside, along = _matched(base, lambda weights: moved(weights)[0], rng, share, context.count(30, 2))
            reading = f"{name}; a change of {share:g} of the length"
            out.setdefault("sensitivity.matched.within", {})[reading] = inside
            out.setdefault("sensitivity.matched.alpha", {})[reading] = along
    return out


def _scaled(base: F64, column: int, factor: float) -> F64:
    changed = base.copy()
    changed[column] *= factor
    return changed


def _permuted(base: F64, rng: np.random.Generator) -> F64:
    """Weights exchanged among all non-negative actions, and among the negative ones."""
    changed = base.copy()
    for group in (~space.NEGATIVE_MASK, space.NEGATIVE_MASK):
        changed[group] = rng.permutation(changed[group])
    return changed


def _matched(
    base: F64, moved: Callable[[F64], float], rng: np.random.Generator, share: float, count: int
) -> tuple[float, float]:
    """Frontier movement inside groups and along alpha, both at a change of `share` of the length of the weights."""
    length = share * float(np.linalg.norm(base))
    within = []
    for _ in range(count):
        step = np.zeros(len(base))
        for group in (space.POSITIVE_MASK, space.NEGATIVE_MASK):
            noise = rng.normal(size=int(group.sum()))
            step[group] = noise - noise.mean()
        within.append(moved(base + step * (length / np.linalg.norm(step))))
    harm = np.where(space.NEGATIVE_MASK, base, 0.0)
    along = [moved(base + sign * harm * (length / np.linalg.norm(harm))) for sign in (1.0, -1.0)]
    return float(np.mean(within)), float(np.mean(along))


def rank_stability(net: network.Network) -> float:
    """Share of single-weight changes (set A of user and platform, `SCALES`) that keep the order of the regrets."""
    orders = []
    slates = frontier.slates(net.scores(network.SCORER), net.topics)
    judges = {"user": space.USER_A, "platform": space.PLATFORM_A}
    changes: list[tuple[str, int, float]] = [
        (who, column, factor)
        for who, base in judges.items()
        for column in np.flatnonzero(base).tolist()
        for factor in SCALES
    ]
    for who, column, factor in [("user", 0, 1.0), *changes]:
        weights = judges | {who: _scaled(judges[who], column, factor)}
        points = network.judge(net, slates, user=weights["user"], platform=weights["platform"])
        regrets = []
        for hidden in points:
            keep = nondominated(np.stack([points[name] for name in points if name != hidden], axis=1))
            regrets.append(float((points[hidden].max() - points[hidden][keep]).mean()))
        orders.append(np.argsort(regrets).tolist())
    return float(np.mean([order == orders[0] for order in orders[1:]]))


def concave(power: float) -> Callable[[F64, float], F64]:
    """``pos^g - alpha neg^g`` on probabilities ``[I, 18]``."""
    return lambda p, alpha: _harmful(p, alpha, lambda pos, neg: (pos**power, neg**power))


def thresholded(start: float) -> Callable[[F64, float], F64]:
    """``pos - alpha max(neg - t, 0)``: harm counts only above `start`."""
    return lambda p, alpha: _harmful(p, alpha, lambda pos, neg: (pos, np.maximum(neg - start, 0.0)))


def _harmful(p: F64, alpha: float, shape: Callable[[F64, F64], tuple[F64, F64]]) -> F64:
    good, bad = shape(p[:, space.POSITIVE_MASK].sum(axis=1), p[:, space.NEGATIVE_MASK].sum(axis=1))
    return np.asarray(good - alpha * bad)


def run_nonlinear(context: Context) -> Result:
    """Linear rewards learned from concave and thresholded utilities; what interpolating alpha wins back."""
    worlds = synthetic.environments(500, context.count(6, 1))
    kinds: dict[str, Callable[[F64, float], F64]] = {"linear": concave(1.0)}
    kinds |= {f"concave_{g}": concave(g) for g in (0.3, 0.5, 0.7)}
    kinds |= {f"threshold_{t}": thresholded(t) for t in (0.2, 0.35, 0.5)}
    n = context.count(5_000, 200)
    train = pairs.split(n, seed=42)[0]
    cosines, shares = [], []
    for world in worlds:
        draws = pairs.draw(n, len(world.features), seed=42)
        runs = [
            training.Run(pairs.label(draws, utility(world.features, alpha))[train], initial=space.initial_weights())
            for utility in kinds.values()
            for alpha in space.ALPHA.values()
        ]
        learned = training.fit(world.features, runs).reshape(len(kinds), len(space.ALPHA), -1)
        cosines.append([policies.cosine(w[0], w[1]) for w in learned])
        shares.append([interpolated(world, utility, w) for utility, w in zip(kinds.values(), learned, strict=True)])
    platform = dict(zip(kinds, np.mean(cosines, axis=0).tolist(), strict=True))
    recovered = dict(zip(kinds, np.mean(shares, axis=0).tolist(), strict=True))
    shown = {"linear": "linear", "concave": "concave_0.5", "threshold": "threshold_0.35"}
    values: dict[str, Value] = {f"nonlinear.{name}.platform_cos": platform[kind] for name, kind in shown.items()}
    values |= {
        "nonlinear.proxy.linear_interp": recovered["linear"],
        "synthetic.proxy.interp_500items": recovered["linear"],
        "nonlinear.proxy.threshold_interp": recovered["threshold_0.35"],
    }
    readings = cosine_readings(context, kinds, worlds)
    whys = {
        f"nonlinear.{name}.platform_cos": Why(
            "exponent, threshold, pool, number of pairs and which two vectors make the cosine are not published; "
            f"shown: learned weights of user and platform, 5,000 pairs, mean of {len(worlds)} pools",
            {
                reading: value
                for reading, value in readings.items()
                if reading.split(";")[0] == name or reading.startswith(f"{name}_")
            },
        )
        for name in shown
    }
    by_pool = np.array(shares)
    names = list(kinds)
    for key, family in (("linear_interp", "linear"), ("threshold_interp", "threshold")):
        whys[f"nonlinear.proxy.{key}"] = Why(
            "the threshold, the pool, which weights are mixed and which regret is measured are not published; here the "
            "best mixture of the learned platform and user weights, society's frontier regret",
            {
                f"{kind}, pool {number}": float(by_pool[number, names.index(kind)])
                for kind in kinds
                if kind.startswith(family)
                for number in range(len(worlds))
            },
        )
    whys["synthetic.proxy.interp_500items"] = whys["nonlinear.proxy.linear_interp"]
    return Result(values, whys=whys, detail={"user_platform_cosine": platform, "recovery": recovered})


def cosine_readings(
    context: Context, kinds: Mapping[str, Callable[[F64, float], F64]], worlds: Sequence[Environment]
) -> dict[str, float]:
    """Cosines for every shape of utility under readings of the sources: pool, pairs, and which two vectors.

    Without topics nothing separates positive and negative actions, and few pairs leave the weights near their start.
    """
    plain = 0.05 + 0.25 * np.random.default_rng(0).random((500, len(space.ACTIONS)))
    pools = {"without topics": [plain], "with topics": [world.features for world in worlds[: context.count(3, 1)]]}
    alphas = list(space.ALPHA.values())
    sums: dict[str, list[float]] = {}
    for where, tables in pools.items():
        for n in (50, 200, 5_000)[: context.count(3, 1)]:
            for features in tables:
                draws = pairs.draw(n, len(features), seed=42)
                train = pairs.split(n, seed=42)[0]
                runs = [
                    training.Run(pairs.label(draws, utility(features, alpha))[train], initial=space.initial_weights())
                    for utility in kinds.values()
                    for alpha in alphas
                ]
                learned = training.fit(features, runs).reshape(len(kinds), len(alphas), -1)
                for kind, (user, platform, society) in zip(kinds, learned, strict=True):
                    for what, pair in (
                        ("user, platform", (user, platform)),
                        ("user, society", (user, society)),
                        ("platform, its linear truth", (platform, space.alpha_weights(space.ALPHA["platform"]))),
                    ):
                        sums.setdefault(f"{kind}; {where}; {n} pairs; {what}", []).append(policies.cosine(*pair))
    return {name: float(np.mean(found)) for name, found in sums.items()}


def interpolated(environment: Environment, utility: Callable[[F64, float], F64], learned: F64) -> float:
    """Share of society's frontier regret under the platform that mixing in the user's learned weights wins back.

    Society (alpha 4) is never observed; the mixtures run from the platform's (alpha 0.3) to the user's (alpha 1)
    weights, and the best one counts.
    """
    society = utility(environment.features, space.ALPHA["society"])
    user, platform = learned[0], learned[1]
    share = np.linspace(0.0, 1.0, 21)[:, None]
    scorers = (1.0 - share) * platform + share * user
    slates = frontier.slates(scorers @ environment.features.T, environment.topics)
    regret = np.sort(society)[-frontier.SLATE :].sum() - society[slates].sum(axis=-1).mean(axis=1)
    return float(1.0 - regret.min() / regret[0])


EXPERIMENT = Experiment(
    "geometry",
    "number of stakeholders, sensitivity to weights, non-linear utilities",
    (Part("k-scaling", run_k), Part("sensitivity", run_sensitivity), Part("nonlinear", run_nonlinear)),
)

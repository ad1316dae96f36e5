"""Every number of an audit, closed forms first; training only where a curve over preference pairs is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xfast.errors import ParameterError
from xfast.research import convergence, pairs, policies, space, training
from xfast.research.audit.inputs import FeedWeights, Society
from xfast.research.environment import F64
from xfast.research.theory import boundary, covariance, identifiability, robustness, tangent, threshold

SIZES = (25, 50, 100, 200, 500, 1_000, 2_000)
TEMPERATURES = np.geomspace(0.1, 10.0, 17)
NORMS = np.geomspace(0.5, 20.0, 17)
WIDTHS = (0.2, 0.1, 0.05, 0.02)
SIGMA = 0.3


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Attributes
    ----------
    subject
        The judge the verdict is about.
    verdict
        ``works against``, ``works for`` or ``cannot tell``.
    sentences
        The verdict in plain language.
    numbers
        Everything else, JSON types (see `docs/research.md` for the fields).
    """

    subject: str
    verdict: str
    sentences: list[str]
    numbers: dict[str, Any]


def audit(
    feed: FeedWeights,
    society: Society,
    features: F64,
    *,
    rng: np.random.Generator,
    items_from: str,
    seeds: int = 20,
    resamples: int = 2_000,
) -> Audit:
    """Audit the weights of a feed.

    Parameters
    ----------
    features
        ``[I, 18]`` action probabilities of the items.
    items_from
        Where the items come from, for the report.
    seeds
        Training runs per point of the curve over preference pairs.

    Raises
    ------
    ParameterError
        Fewer than 20 items, or weights that are all zero.
    """
    if len(features) < 20:
        raise ParameterError(f"features holds {len(features)} items; an audit needs at least 20")
    if not np.any(feed.weights):
        raise ParameterError(f"{feed.name}: all weights are zero, there is no feed to audit")
    score = features @ feed.weights
    if np.ptp(score) == 0:
        raise ParameterError(f"{feed.name}: every item has the same score, there is no ranking to audit")
    # Only the direction of a weight vector ranks; scores are brought to unit spread so that temperatures compare.
    scale = float(score.std())
    platform = feed.weights / scale
    subject = society.first
    metric = np.cov(features, rowvar=False, bias=True)
    judges: dict[str, Any] = {}
    for name, weights in society.judges.items():
        utility = features @ weights
        if np.ptp(utility) == 0:
            raise ParameterError(f"{name}: every item has the same utility, nothing can be judged")
        found = covariance.predict(score, utility, rng=rng, resamples=resamples)
        at_pool = robustness.radius(feed.weights, weights, metric)
        near = boundary.diagnose(score, utility)
        judges[name] = {
            "cosine": policies.cosine(feed.weights, weights),
            "cosine_interval": robustness.cosine_interval(feed.weights, weights, SIGMA, rng=rng),
            "covariance": found.covariance / scale,
            "covariance_interval": tuple(end / scale for end in found.covariance_bootstrap),
            "correlation": found.correlation,
            "interval_delta": found.delta,
            "interval_bootstrap": found.bootstrap,
            "verdict": found.verdict,
            "radius_ball": at_pool.ball,
            "radius_each": at_pool.each,
            "flip_probability": robustness.flip_probability(feed.weights, weights, SIGMA, metric),
            "top10_correlation": near.local,
            "top10_may_reverse": near.explains,
            "top10_gain": float(policies.top_utility(score, utility) - utility.mean()),
        }
    judge = society.judges[subject]
    numbers = {
        "feed": feed.name,
        "items": {"count": len(features), "from": items_from, "silent_actions": _silent(features)},
        "weights": dict(zip(space.ACTIONS, feed.weights.tolist(), strict=True)),
        "ignored_parameters": dict(feed.ignored),
        "judges": judges,
        "threshold": _threshold(feed.weights, judge, features),
        "pairs_curve": _pairs_curve(features, platform, judge, seeds),
        "temperature_norm": _map(features, platform, judge),
        "planner": _planner(features, judge, platform, rng),
        "tornado": _tornado(feed.weights, judge, metric),
        "identifiability": _span(features),
    }
    verdict, sentences = _verdict(subject, judges[subject], numbers)
    return Audit(subject, verdict, sentences, numbers)


def _silent(features: F64) -> list[str]:
    """Actions that do not vary over the items (a missing column, say): their weights have no say."""
    return [name for name, spread in zip(space.ACTIONS, np.ptp(features, axis=0), strict=True) if spread == 0]


def _threshold(weights: F64, judge: F64, features: F64) -> dict[str, Any]:
    negative = space.NEGATIVE_MASK
    positive = weights[~negative]
    # The curve is drawn in units of the mean weight of the five positive actions, so that 0.3125 is readable on it.
    unit = float(np.abs(weights[space.POSITIVE_MASK]).mean()) or float(np.abs(positive).mean()) or 1.0
    grid = np.linspace(-2.0, 2.0, 161)
    root = threshold.root(weights, judge, negative)
    pool_root = threshold.pool_root(weights, judge, negative, features)
    return {
        "unit": unit,
        "grid": grid.tolist(),
        "cosine": threshold.curve(weights, judge, negative, grid * unit).tolist(),
        "root": None if root is None else root / unit,
        "pool_root": None if pool_root is None else pool_root / unit,
        "now": float(weights[negative].mean()) / unit,
        "published_example": {"root": threshold.root(threshold.grouped(1, 0, 0), space.alpha_weights(4.0), negative)},
    }


def _pairs_curve(features: F64, platform: F64, judge: F64, seeds: int) -> dict[str, Any]:
    """Judge's softmax utility when the platform's taste is learned from N pairs: published training and converged."""
    utility = features @ judge
    reward = features @ platform
    base = float(utility.mean())
    runs = []
    for n in SIZES:
        for seed in range(seeds):
            labelled = pairs.label(pairs.draw(n, len(features), seed=seed), reward)
            runs.append(training.Run(labelled, initial=np.zeros(features.shape[1])))
    out: dict[str, Any] = {"pairs": list(SIZES), "seeds": seeds}
    learned = {"step_limited": training.fit(features, runs), "converged": convergence.fit(features, runs)}
    for name, weights in learned.items():
        spread = (weights @ features.T).std(axis=1, keepdims=True)
        views = {name: weights, f"{name}_unit_spread": weights / np.maximum(spread, 1e-12)}
        for view, rows in views.items():
            gain = (policies.softmax_utility(rows @ features.T, utility, 1.0) - base).reshape(len(SIZES), seeds)
            out[view] = {
                "mean": gain.mean(axis=1).tolist(),
                "se": (gain.std(axis=1, ddof=1) / np.sqrt(seeds)).tolist() if seeds > 1 else [0.0] * len(SIZES),
            }
    blocks = learned["step_limited"].reshape(len(SIZES), seeds, -1)
    found = [tangent.split(features, a, b, utility) for a, b in zip(blocks[0], blocks[-1], strict=True)]
    out["from_fewest_to_most"] = {
        field: float(np.mean([getattr(split, field) for split in found]))
        for field in ("total", "drift", "growth", "tangent_drift", "tangent_growth")
    }
    return out


def _map(features: F64, platform: F64, judge: F64) -> dict[str, Any]:
    utility = features @ judge
    score = features @ platform
    gain = [
        [float(policies.softmax_utility(score * norm, utility, temperature) - utility.mean()) for norm in NORMS]
        for temperature in TEMPERATURES
    ]
    shown = [float(policies.effective_items(policies.softmax(score, ratio))) for ratio in TEMPERATURES]
    return {
        "temperatures": TEMPERATURES.tolist(),
        "norms": NORMS.tolist(),
        "gain": gain,
        "effective_items_at_norm_1": shown,
    }


def _planner(features: F64, judge: F64, platform: F64, rng: np.random.Generator) -> dict[str, Any]:
    """Pairs of the judge needed to know its cosine with the feed, and what choosing pairs well saves."""
    scaled = judge / max(float((features @ judge).std()), 1e-12)
    precision = identifiability.cosine_precision(features, scaled, platform)
    count = 200
    chosen = identifiability.d_optimal(features, scaled, count, rng=rng)
    uniform = identifiability.random_pairs(len(features), count, rng=rng)
    ratio = identifiability.design_error(features, scaled, uniform) / identifiability.design_error(
        features, scaled, chosen
    )
    return {
        "cosine_visible": precision.cosine,
        "pairs_for_half_width": {str(width): precision.pairs_needed(width) for width in WIDTHS},
        "intervals": {str(n): precision.interval(n) for n in SIZES},
        "d_optimal_saving": ratio,
    }


def _tornado(weights: F64, judge: F64, metric: F64) -> list[dict[str, Any]]:
    """Correlation when one weight halves or doubles, largest effect first."""

    def correlation(w: F64) -> float:
        return float(w @ metric @ judge / np.sqrt((w @ metric @ w) * (judge @ metric @ judge)))

    now, rows = correlation(weights), []
    single = robustness.radius(weights, judge, metric).single
    for column, name in enumerate(space.ACTIONS):
        if weights[column] == 0:
            continue
        halved, doubled = weights.copy(), weights.copy()
        halved[column] *= 0.5
        doubled[column] *= 2.0
        low, high = correlation(halved), correlation(doubled)
        rows.append(
            {"action": name, "halved": low, "doubled": high, "now": now, "flips_at_factor": 1.0 + float(single[column])}
        )
    return sorted(rows, key=lambda row: -abs(row["doubled"] - row["halved"]))


def _span(features: F64) -> dict[str, Any]:
    found = identifiability.span(features)
    return {"columns": features.shape[1], "rank": found.rank, "hidden_directions": found.hidden.T.tolist()}


def _verdict(subject: str, judge: dict[str, Any], numbers: dict[str, Any]) -> tuple[str, list[str]]:
    words = {"gains": "works for", "loses": "works against", "abstain": "cannot tell"}
    verdict = words[judge["verdict"]]
    low, high = judge["interval_bootstrap"]
    correlation = f"{judge['correlation']:+.2f} (95 % interval {low:+.2f} to {high:+.2f})"
    opening = {
        "gains": f"The more closely people are shown what this feed scores high, the better off {subject} is",
        "loses": f"The more closely people are shown what this feed scores high, the worse off {subject} is",
        "abstain": f"These items do not tell whether this feed helps or hurts {subject}",
    }[judge["verdict"]]
    sentences = [
        f"{opening}: over {numbers['items']['count']} items the score and its utility correlate {correlation}."
    ]
    silent = numbers["items"]["silent_actions"]
    if silent:
        sentences.append(
            f"{len(silent)} of {len(space.ACTIONS)} actions do not vary over these items ({', '.join(silent[:4])}"
            f"{', …' if len(silent) > 4 else ''}): what they weigh has no say here."
        )
    if judge["cosine"] * judge["correlation"] < 0:
        sentences.append(
            f"The cosine of the weights ({judge['cosine']:+.2f}) has the other sign: it ignores how often actions go "
            "together, and should not be used here."
        )
    threshold_now = numbers["threshold"]
    if threshold_now["root"] is not None:
        pool = threshold_now["pool_root"]
        items = "" if pool is None else f", over these items at {pool:+.2f}"
        sentences.append(
            f"By weights alone the sign would flip if every negative action weighed {threshold_now['root']:+.2f} "
            f"(in units of the mean positive weight){items}; they now weigh {threshold_now['now']:+.2f} on average."
        )
    if judge["radius_each"] is not None and judge["verdict"] != "abstain":
        sentences.append(
            f"The verdict survives any error of up to {judge['radius_each']:.0%} in each weight; with random errors of "
            f"30 % it flips with probability {judge['flip_probability']:.1%}."
        )
    if judge["top10_may_reverse"]:
        sentences.append(
            "Among the best 50 items the correlation has the other sign: a hard top-10 may behave differently from the "
            "feed as a whole."
        )
    growth = numbers["pairs_curve"]["from_fewest_to_most"]
    share = growth["growth"] / growth["total"] if growth["total"] != 0 else np.nan
    if 0 <= share <= 1:
        sentences.append(
            f"If the feed were learned from preference pairs, {share:.0%} of the change from 25 to 2,000 pairs would "
            "come from a longer vector (a colder feed), not a better direction."
        )
    elif np.isfinite(share):
        sentences.append(
            "If the feed were learned from preference pairs, the longer vector (a colder feed) and the direction would "
            f"move {subject} in opposite ways from 25 to 2,000 pairs, by {growth['growth']:+.2f} and "
            f"{growth['drift']:+.2f}."
        )
    action = {
        "loses": "Escalate: change the weights the tornado names before collecting more engagement data.",
        "gains": "Monitor: repeat the audit when weights or items change.",
        "abstain": "Collect evidence: the planner says how many preference pairs settle it.",
    }[judge["verdict"]]
    return verdict, [*sentences, action]

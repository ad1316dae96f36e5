"""The covariance predictor: who gains when a feed follows someone's scores, from the item pool alone.

For the softmax policy ``pi ~ exp(r / T)`` the derivative of a stakeholder's expected utility by 1/T is
``Cov_pi(r, U)``. Near the uniform policy its sign is that of ``w' S v``, with S the covariance of item features: the
pool correlation of the two utilities. The cosine of the weights ignores S and can have the other sign (RESEARCH §7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from xfast.errors import ParameterError
from xfast.research.environment import F64
from xfast.research.policies import softmax

Verdict = Literal["gains", "loses", "abstain"]
WEAK = 0.1


@dataclass(frozen=True)
class Prediction:
    """Pool covariance and correlation of two utilities, with uncertainty over items.

    Attributes
    ----------
    covariance, correlation
        Over the pool, or under a policy.
    delta
        Delta-method interval of the correlation (Fisher's z is not used: utilities are far from normal).
    bootstrap
        Percentile interval of the correlation over resampled items.
    covariance_bootstrap
        The same of the covariance.
    verdict
        ``abstain`` when an interval contains 0 or ``|correlation| < 0.1``.
    """

    covariance: float
    correlation: float
    delta: tuple[float, float]
    bootstrap: tuple[float, float]
    covariance_bootstrap: tuple[float, float]
    verdict: Verdict


def predict(
    score: F64,
    utility: F64,
    *,
    rng: np.random.Generator,
    resamples: int = 2_000,
    level: float = 0.95,
    weak: float = WEAK,
) -> Prediction:
    """Predict whether a stakeholder with `utility` ``[I]`` gains when the feed follows `score` ``[I]``.

    Raises
    ------
    ParameterError
        Fewer than three items, a constant score or utility, or a level outside (0, 1).
    """
    if len(score) != len(utility) or len(score) < 3:
        raise ParameterError(f"score has {len(score)} items, utility {len(utility)}; both need the same number, >= 3")
    if not 0 < level < 1:
        raise ParameterError(f"level is {level}; it must lie in (0, 1)")
    if np.ptp(score) == 0 or np.ptp(utility) == 0:
        raise ParameterError("score and utility must vary over the pool; a constant has no correlation")
    x, y = score - score.mean(), utility - utility.mean()
    covariance = float(np.mean(x * y))
    a, b = float(np.mean(x * x)), float(np.mean(y * y))
    correlation = covariance / float(np.sqrt(a * b))
    # Influence of one item on the correlation; its spread over items is the delta-method standard error.
    influence = (x * y) / np.sqrt(a * b) - 0.5 * correlation * (x * x / a + y * y / b)
    half = float(norm.ppf(0.5 + level / 2)) * float(influence.std()) / np.sqrt(len(score))
    delta = (max(correlation - half, -1.0), min(correlation + half, 1.0))
    bootstrap, around = _bootstrap(score, utility, rng, resamples, level)
    sure = abs(correlation) >= weak and all(low * high > 0 for low, high in (delta, bootstrap))
    verdict: Verdict = "abstain" if not sure else "gains" if correlation > 0 else "loses"
    return Prediction(covariance, correlation, delta, bootstrap, around, verdict)


def _bootstrap(
    score: F64, utility: F64, rng: np.random.Generator, resamples: int, level: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Percentile intervals of correlation and covariance.

    Multinomial weights instead of index lists, so a resample costs one row of a product.
    """
    moments = np.stack([score, utility, score * score, utility * utility, score * utility], axis=1)
    found, moved = [], []
    items = len(score)
    for start in range(0, resamples, 256):
        count = min(256, resamples - start)
        weight = rng.multinomial(items, np.full(items, 1.0 / items), size=count) / items
        x, y, xx, yy, xy = (weight @ moments).T
        spread = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 1e-300))
        found.append((xy - x * y) / spread)
        moved.append(xy - x * y)

    def interval(parts: list[F64]) -> tuple[float, float]:
        low, high = np.quantile(np.concatenate(parts), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    return interval(found), interval(moved)


def matrix(utilities: F64) -> F64:
    """Pool correlation of several utilities ``[K, I]``, shape ``[K, K]``."""
    return np.asarray(np.corrcoef(utilities))


def policy_covariance(score: F64, utility: F64, temperature: float) -> float:
    """``Cov_pi(score, utility)`` under the softmax policy: the exact slope of expected utility in 1/T."""
    pi = softmax(score, temperature)
    return float(pi @ (score * utility) - (pi @ score) * (pi @ utility))

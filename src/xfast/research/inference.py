"""Honest comparisons: paired intervals, sign-flip nulls, Holm's correction, calibrated sign probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from xfast.errors import ParameterError
from xfast.research.environment import F64


@dataclass(frozen=True)
class Paired:
    """A paired comparison over seeds.

    Attributes
    ----------
    mean, error
        Mean difference and its standard error.
    interval
        95 % t interval.
    p_value
        Two-sided sign-flip permutation test (exact in distribution, 10,000 flips).
    positive
        Probability that the true mean is positive (normal posterior under a flat prior).
    """

    mean: float
    error: float
    interval: tuple[float, float]
    p_value: float
    positive: float


def paired(differences: F64, *, rng: np.random.Generator, flips: int = 10_000) -> Paired:
    """Summarise paired differences ``[S]``.

    Raises
    ------
    ParameterError
        Fewer than two seeds.
    """
    count = len(differences)
    if count < 2:
        raise ParameterError(f"differences has {count} values; at least 2 seeds are needed")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(count))
    half = float(t.ppf(0.975, count - 1)) * error
    null = (rng.integers(0, 2, (flips, count), dtype=np.int8) * 2 - 1) @ differences / count
    # The observed labelling is one of the flips: the p-value is never 0. The slack keeps rounding from splitting ties.
    p_value = float((1 + (np.abs(null) >= abs(mean) - 1e-12).sum()) / (flips + 1))
    positive = float(norm.cdf(mean / error)) if error > 0 else float(mean > 0)
    return Paired(mean, error, (mean - half, mean + half), p_value, positive)


def holm(p_values: F64) -> F64:
    """Holm's step-down adjusted p-values, in the order given."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    stepped = np.maximum.accumulate(p_values[order] * (count - np.arange(count)))
    out = np.empty(count)
    out[order] = np.minimum(stepped, 1.0)
    return out


def brier(probabilities: F64, outcomes: F64) -> float:
    """Mean squared error of predicted probabilities against 0/1 outcomes: lower is better calibrated and sharper."""
    return float(np.mean((probabilities - outcomes) ** 2))

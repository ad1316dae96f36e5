"""How wrong may hand-written weights be before the verdict flips? Closed forms for relative errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from xfast.errors import ParameterError
from xfast.research.environment import F64


@dataclass(frozen=True)
class Radius:
    """Smallest relative errors ``w_i (1 + e_i)`` that bring the alignment ``w' M v`` to zero.

    Attributes
    ----------
    ball
        Smallest Euclidean norm of e. None when no error can do it.
    each
        Smallest common bound on every ``|e_i|``.
    single
        Per weight, the relative change of that weight alone that does it (infinite where it has no say), ``[D]``.
    """

    ball: float | None
    each: float | None
    single: F64


def radius(weights: F64, other: F64, metric: F64 | None = None) -> Radius:
    """Misspecification radius of the sign of ``weights' M other``.

    The alignment is ``sum_i c_i`` with ``c_i = w_i (M v)_i``; relative errors scale each term, so the smallest error in
    the Euclidean norm is along c and in the maximum norm has equal entries.

    Parameters
    ----------
    metric
        ``[D, D]`` matrix M (the pool covariance), identity by default.
    """
    terms = contributions(weights, other, metric)
    total = float(terms.sum())
    length, mass = float(np.linalg.norm(terms)), float(np.abs(terms).sum())
    with np.errstate(divide="ignore"):
        single = np.where(terms != 0, -total / np.where(terms != 0, terms, 1.0), np.inf)
    return Radius(abs(total) / length if length else None, abs(total) / mass if mass else None, single)


def contributions(weights: F64, other: F64, metric: F64 | None = None) -> F64:
    """Each weight's share of the alignment, ``w_i (M v)_i``, shape ``[D]``."""
    return np.asarray(weights * (other if metric is None else metric @ other))


def cosine_interval(
    weights: F64, other: F64, sigma: float, *, rng: np.random.Generator, draws: int = 4_000, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the cosine when independent relative errors N(0, sigma^2) sit on every weight of `other`.

    A cosine of two given vectors has no sampling error; what is uncertain is what a judge really wants.
    """
    if sigma < 0:
        raise ParameterError(f"sigma is {sigma}; it must be >= 0")
    moved = other * (1.0 + rng.normal(0.0, sigma, (draws, len(other))))
    lengths = np.linalg.norm(moved, axis=1) * np.linalg.norm(weights)
    cosines = moved @ weights / np.maximum(lengths, 1e-300)
    low, high = np.quantile(cosines, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def flip_probability(weights: F64, other: F64, sigma: float, metric: F64 | None = None) -> float:
    """Probability that independent relative errors N(0, sigma^2) flip the sign: exactly normal in the errors."""
    if sigma < 0:
        raise ParameterError(f"sigma is {sigma}; it must be >= 0")
    terms = contributions(weights, other, metric)
    spread = sigma * float(np.linalg.norm(terms))
    return float(norm.cdf(-abs(float(terms.sum())) / spread)) if spread else 0.0

"""What more data changes: the direction of the learned vector, or only its length?

A softmax feed at fixed temperature reacts to both. A longer vector is a lower temperature, so part of a "Goodhart
effect" is only that step-limited training stops earlier on fewer pairs. The split is exact; the tangent is its first
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xfast.errors import ParameterError
from xfast.research.environment import F64
from xfast.research.policies import softmax


@dataclass(frozen=True)
class Split:
    """Change of expected utility from weights a to weights b: ``total = drift + growth``, exactly.

    Attributes
    ----------
    drift
        Part due to the direction, at fixed length (mean over taking it first and last).
    growth
        Part due to the length, at fixed direction.
    tangent_drift, tangent_growth
        First-order predictions at a, from the gradient ``Cov_pi(x, U) / T``.
    """

    total: float
    drift: float
    growth: float
    tangent_drift: float
    tangent_growth: float


def gradient(features: F64, weights: F64, utility: F64, temperature: float) -> F64:
    """Gradient ``[D]`` of expected softmax utility by the weights: ``Cov_pi(x, U) / T``."""
    pi = softmax(features @ weights, temperature)
    centred = utility - pi @ utility
    return np.asarray((pi * centred) @ features / temperature)


def split(features: F64, before: F64, after: F64, utility: F64, *, temperature: float = 1.0) -> Split:
    """Split the change from weights `before` to weights `after` into direction drift and norm growth.

    Raises
    ------
    ParameterError
        One of the vectors is zero: it has no direction.
    """
    short, long_ = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if short == 0 or long_ == 0:
        raise ParameterError("before and after must be non-zero; a zero vector has no direction")

    def value(length: float, direction: F64) -> float:
        return float(softmax(features @ (length * direction), temperature) @ utility)

    old, new = before / short, after / long_
    start, end = value(short, old), value(long_, new)
    turned, grown = value(short, new), value(long_, old)
    drift = 0.5 * ((turned - start) + (end - grown))
    slope = gradient(features, before, utility, temperature)
    return Split(
        total=end - start,
        drift=drift,
        growth=(end - start) - drift,
        tangent_drift=float(slope @ (short * (new - old))),
        tangent_growth=float(slope @ old) * (long_ - short),
    )

"""What a scorer makes visible: softmax over the pool, or the hard top of it (RESEARCH §5)."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax as _softmax

from xfast.errors import ParameterError
from xfast.research.environment import F64, I64

TEMPERATURES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TOP_K = 10


def softmax(scores: F64, temperature: float) -> F64:
    """``pi ~ exp(score / T)`` over the last axis.

    Raises
    ------
    ParameterError
        `temperature` is not positive.
    """
    if temperature <= 0:
        raise ParameterError(f"temperature is {temperature}; it must be > 0")
    return np.asarray(_softmax(scores / temperature, axis=-1))


def softmax_utility(scores: F64, utility: F64, temperature: float) -> F64:
    """Expected utility ``[...]`` of the softmax policy of scores ``[..., I]`` for utility ``[I]``."""
    return softmax(scores, temperature) @ utility


def top(scores: F64, k: int = TOP_K) -> I64:
    """Rows of the k best items, best first, ``[..., k]``; the lowest pool index wins ties."""
    if not 1 <= k <= scores.shape[-1]:
        raise ParameterError(f"k is {k}; the pool holds {scores.shape[-1]} items")
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def top_utility(scores: F64, utility: F64, k: int = TOP_K) -> F64:
    """Mean utility of the k best items, ``[...]``."""
    return np.asarray(utility[top(scores, k)].mean(axis=-1))


def effective_items(probabilities: F64) -> F64:
    """Effective sample size ``1 / sum pi^2``: how many items a policy really shows."""
    return np.asarray(1.0 / (probabilities**2).sum(axis=-1))


def cosine(left: F64, right: F64) -> float:
    """Cosine of two vectors; NaN if one is zero."""
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norm if norm > 0 else float("nan")

"""A determinantal point process picks posts that are good and unlike each other (HOME_MIXER §8.3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError

__all__ = ["greedy_dpp"]

_SMALLEST_MARGINAL = 1e-6
_LARGEST_THETA = 1 - 1e-6


def greedy_dpp(
    scores: npt.NDArray[np.float64], embeddings: npt.NDArray[np.floating], *, theta: float, top_k: int
) -> npt.NDArray[np.int64]:
    """Greedy choice of rows that maximise the determinant of ``L[i, j] = q_i q_j cos(i, j)``.

    Parameters
    ----------
    scores
        ``[N]``; the quality is ``q_i = exp(a s_i / max(s))`` with ``a = theta / (2 (1 - theta))``.
    embeddings
        ``[N, D]``, any length; a zero vector is like nothing, so it has no marginal and is never chosen.
    theta
        0 (only differences count) to 1 (only scores count); others are moved to the nearer end.
    top_k
        How many to choose at most; stops early when nothing new is left.

    Returns
    -------
    Row indices in the order of choice.

    Raises
    ------
    ParameterError
        ``theta`` is NaN, or one embedding per score missing.
    """
    if theta != theta:
        raise ParameterError("theta is nan, must be a number")
    if len(scores) != len(embeddings):
        raise ParameterError(f"embeddings have {len(embeddings)} rows for {len(scores)} scores")
    count = len(scores)
    chosen: list[int] = []
    if count == 0 or top_k <= 0:
        return np.empty(0, np.int64)
    theta = min(max(theta, 0.0), _LARGEST_THETA)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape, np.float64), where=lengths > 0)
    # A row's marginal is q^2 times its residual in the similarity kernel alone; with q kept as a logarithm even a theta
    # of almost 1 (exponents of 500,000) stays finite.
    log_quality = 2 * (theta / (2 * (1 - theta))) * scores / max(float(scores.max()), 1e-6)
    # Exactly one: of rows as good as each other the first is taken, not the one that rounding favours.
    residual = (lengths[:, 0] > 0).astype(np.float64)
    factors = np.zeros((min(top_k, count), count))
    free = np.ones(count, np.bool_)
    while len(chosen) < min(top_k, count):
        with np.errstate(divide="ignore"):
            gains = np.where(free & (residual > 0), log_quality + np.log(np.maximum(residual, 1e-300)), -np.inf)
        best = int(np.argmax(gains))
        if gains[best] <= np.log(_SMALLEST_MARGINAL):
            break
        step = len(chosen)
        row = (unit @ unit[best] - factors[:step, best] @ factors[:step]) / np.sqrt(residual[best])
        factors[step] = row
        residual = residual - row * row
        free[best] = False
        chosen.append(best)
    return np.array(chosen, np.int64)

"""Quality numbers and their intervals; plain NumPy, every function on arrays of one score or label per row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError

__all__ = [
    "Interval",
    "auc",
    "bootstrap",
    "calibration_error",
    "hit_rate",
    "log_loss",
    "ndcg",
    "paired_auc_difference",
    "rank_in_catalogue",
]

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def _ranks(scores: npt.NDArray[np.floating]) -> F64:
    """Ranks from 1, ties share their mean."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: F64 = ((2 * last - counts + 1) / 2)[inverse]
    return ranks


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN without both kinds."""
    s, y = np.asarray(scores, np.float64), np.asarray(labels, bool)
    positives = int(y.sum())
    if positives in (0, len(y)):
        return float("nan")
    total = _ranks(s)[y].sum() - positives * (positives + 1) / 2
    return float(total / positives / (len(y) - positives))


def log_loss(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean binary cross-entropy in nats; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-7, 1 - 1e-7)
    y = np.asarray(labels, bool)
    return float(-np.mean(np.where(y, np.log(p), np.log1p(-p))))


def calibration_error(probabilities: npt.ArrayLike, labels: npt.ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error: |mean probability - share of positives|, over bins of equally many rows."""
    if bins < 1:
        raise ParameterError(f"bins is {bins}, must be at least 1")
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
    parts = np.array_split(np.argsort(p, kind="stable"), min(bins, len(p)))
    return float(sum(abs(p[part].mean() - y[part].mean()) * len(part) for part in parts) / len(p))


def rank_in_catalogue(scores: npt.NDArray[np.floating], target: int, hidden: npt.NDArray[np.integer]) -> int:
    """Posts ranked above ``target`` (0 = first) by scores [N], ties to the lower row; ``hidden`` rows do not count."""
    own = scores[target]
    above = scores > own
    above[:target] |= scores[:target] == own
    above[hidden] = False
    above[target] = False
    return int(above.sum())


def hit_rate(ranks: npt.NDArray[np.integer], k: int) -> F64:
    """1 where the target is among the first k, else 0; one value per user."""
    return (ranks < k).astype(np.float64)


def ndcg(ranks: npt.NDArray[np.integer], k: int) -> F64:
    """NDCG at k with one relevant post: 1 / log2(rank + 2) within the first k, else 0; one value per user."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)


def bootstrap(
    values: npt.NDArray[np.floating],
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Mean of values [N] with a percentile bootstrap interval."""
    if not 0 < level < 1:
        raise ParameterError(f"level is {level}, must be between 0 and 1 (exclusive)")
    count = len(values)
    # Resampling with replacement = multinomial counts; in blocks, to bound memory.
    means = np.concatenate(
        [
            rng.multinomial(count, np.full(count, 1 / count), size=min(200, resamples - start)) @ values / count
            for start in range(0, resamples, 200)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def paired_auc_difference(
    ours: npt.ArrayLike,
    theirs: npt.ArrayLike,
    labels: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    groups: npt.ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """AUC of ``ours`` minus that of ``theirs`` on the same rows, with a paired percentile bootstrap interval.

    ``groups`` [N] resamples whole groups (users) instead of rows, which is the honest unit where the rows of a user
    hang together.
    """
    a, b, y = np.asarray(ours, np.float64), np.asarray(theirs, np.float64), np.asarray(labels, bool)
    weighted = (_weighted_auc(a, y), _weighted_auc(b, y))
    members = np.arange(len(y)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    size = int(members.max()) + 1
    differences = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(rng.integers(0, size, size), minlength=size)[members].astype(np.float64)
        differences[index] = weighted[0](weights) - weighted[1](weights)
    low, high = np.nanquantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Interval(auc(a, y) - auc(b, y), float(low), float(high))


def _weighted_auc(scores: F64, labels: Bools) -> Callable[[F64], float]:
    """AUC as a function of row weights; the sort is done once for all resamples."""
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], labels[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def value(weights: F64) -> float:
        w = weights[order]
        pos = np.add.reduceat(np.where(positive, w, 0.0), starts)
        neg = np.add.reduceat(np.where(positive, 0.0, w), starts)
        total = pos.sum() * neg.sum()
        return float(np.sum(pos * (np.cumsum(neg) - neg / 2)) / total) if total > 0 else float("nan")

    return value

"""What preference pairs can tell: rank, null space, gauge, Fisher information, pairs needed, D-optimal pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from xfast.errors import ParameterError
from xfast.research.environment import F64, I64
from xfast.research.losses import L2


@dataclass(frozen=True)
class Span:
    """Directions that differences of pool items can and cannot show.

    Attributes
    ----------
    rank
        Dimension of the visible directions.
    visible
        ``[D, rank]`` orthonormal basis of the row space of item differences.
    hidden
        ``[D, D - rank]`` orthonormal basis of what no pair can ever tell (a one-hot block hides its sum).
    """

    rank: int
    visible: F64
    hidden: F64


def span(features: F64, *, tolerance: float = 1e-9) -> Span:
    """Row space and null space of the differences of pool items."""
    _, sizes, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=True)
    rank = int((sizes > tolerance * max(float(sizes[0]), 1e-300)).sum())
    return Span(rank, axes[:rank].T, axes[rank:].T)


def gauge(weights: F64, found: Span) -> F64:
    """Canonical representative of `weights` ``[..., D]``: the part that pairs can see."""
    return np.asarray(weights @ found.visible @ found.visible.T)


def fisher(features: F64, weights: F64) -> F64:
    """Information ``[D, D]`` of one uniformly drawn pair about `weights`, exactly, over all pairs of the pool.

    ``E[s (1 - s) x x']`` with x the difference of the items and s the probability of its label. Computed from the pair
    table in blocks: the weight of each item is a row sum, the cross terms one product.
    """
    items = len(features)
    if items < 2:
        raise ParameterError(f"the pool holds {items} items; pairs need 2")
    score = features @ weights
    total = np.zeros((features.shape[1], features.shape[1]))
    for start in range(0, items, 512):
        rows = slice(start, start + 512)
        tilt = expit(score[rows, None] - score[None, :])
        weight = tilt * (1.0 - tilt)
        block = features[rows]
        outer = (block * weight.sum(axis=1)[:, None]).T @ block
        cross = block.T @ weight @ features
        total += outer + (features * weight.sum(axis=0)[:, None]).T @ features - cross - cross.T
    return total / (items * (items - 1))


def covariance(features: F64, weights: F64, pairs: int, *, l2: float = L2) -> F64:
    """Asymptotic covariance ``[D, D]`` of a ridge Bradley-Terry fit on `pairs` pairs (sandwich form).

    The ridge adds ``2 l2`` to the curvature but carries no information, so the bread is not the meat.
    """
    if pairs < 1:
        raise ParameterError(f"pairs is {pairs}; it must be >= 1")
    meat = fisher(features, weights)
    bread = np.linalg.inv(meat + 2 * l2 * np.eye(len(weights)))
    return np.asarray(bread @ meat @ bread / pairs)


@dataclass(frozen=True)
class Precision:
    """Uncertainty of the cosine between a learned vector and a fixed one.

    Attributes
    ----------
    cosine
        At the true weights.
    error
        Standard error per square root of a pair: divide by ``sqrt(N)``.
    """

    cosine: float
    error: float

    def interval(self, pairs: int, level: float = 0.95) -> tuple[float, float]:
        """Interval of the cosine learned from `pairs` pairs, cut at -1 and 1."""
        half = float(norm.ppf(0.5 + level / 2)) * self.error / np.sqrt(pairs)
        return max(self.cosine - half, -1.0), min(self.cosine + half, 1.0)

    def pairs_needed(self, width: float, level: float = 0.95) -> int:
        """Pairs after which the half-width of the interval is at most `width`."""
        if width <= 0:
            raise ParameterError(f"width is {width}; it must be > 0")
        return max(1, int(np.ceil((float(norm.ppf(0.5 + level / 2)) * self.error / width) ** 2)))


def cosine_precision(features: F64, weights: F64, other: F64, *, l2: float = L2) -> Precision:
    """Delta-method precision of ``cos(learned weights, other)``, both in the canonical gauge."""
    found = span(features)
    w, v = gauge(weights, found), gauge(other, found)
    length, side = float(np.linalg.norm(w)), float(np.linalg.norm(v))
    if length == 0 or side == 0:
        raise ParameterError("weights and other must differ over the pool; a vector that no pair can see has no cosine")
    value = float(w @ v) / (length * side)
    slope = v / (length * side) - value * w / length**2
    return Precision(value, float(np.sqrt(slope @ covariance(features, w, 1, l2=l2) @ slope)))


def random_pairs(items: int, count: int, *, rng: np.random.Generator) -> I64:
    """Uniform pairs ``[count, 2]`` of two distinct item rows."""
    first = rng.integers(0, items, count)
    return np.stack([first, (first + rng.integers(1, items, count)) % items], axis=1)


def d_optimal(features: F64, weights: F64, count: int, *, rng: np.random.Generator, pool: int = 2_000) -> I64:
    """Pick `count` pairs greedily for the largest determinant of their information, out of `pool` random candidates.

    Each step takes the candidate with the largest ``s (1 - s) x' M^-1 x`` and updates the inverse in one rank.

    Returns
    -------
    ``[count, 2]`` item rows.
    """
    if count < 1 or len(features) < 2:
        raise ParameterError(f"count is {count} with {len(features)} items; need count >= 1 and two items")
    candidates = random_pairs(len(features), pool, rng=rng)
    x = features[candidates[:, 0]] - features[candidates[:, 1]]
    tilt = expit(x @ weights)
    scaled = x * np.sqrt(tilt * (1 - tilt))[:, None]
    inverse = np.eye(features.shape[1]) / (2 * L2)
    chosen = np.empty(count, np.int64)
    for step in range(count):
        gain = np.einsum("ij,jk,ik->i", scaled, inverse, scaled)
        best = int(gain.argmax())
        chosen[step] = best
        moved = inverse @ scaled[best]
        inverse -= np.outer(moved, moved) / (1.0 + float(scaled[best] @ moved))
    return candidates[chosen]


def design_error(features: F64, weights: F64, rows: I64, *, l2: float = L2) -> float:
    """Mean variance of the visible weights after labelling exactly these pairs ``[n, 2]`` (A-criterion)."""
    x = features[rows[:, 0]] - features[rows[:, 1]]
    tilt = expit(x @ weights)
    information = (x * (tilt * (1 - tilt))[:, None]).T @ x
    basis = span(features).visible
    inner = basis.T @ information @ basis + 2 * l2 * len(rows) * np.eye(basis.shape[1])
    return float(np.trace(np.linalg.inv(inner)) / basis.shape[1])

"""Preference pairs: two items, a noisy comparison, a winner, with the published use of the generator (RESEARCH §2)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from xfast.errors import ParameterError
from xfast.research.environment import F64, I64

LABEL_NOISE = 0.05
EVAL_SHARE = 0.2


@dataclass(frozen=True)
class Draws:
    """The random part of a pair set; it depends on the seed and the pool size, never on a stakeholder.

    Attributes
    ----------
    items
        ``[n, 2]`` distinct item rows.
    noise
        ``[n, d]`` standard deviations already applied: one draw on the difference (d = 1) or one per item (d = 2).
    """

    items: I64
    noise: F64


@lru_cache(maxsize=512)
def draw(n: int, pool: int, *, seed: int, noise: float = LABEL_NOISE, per_item: bool = False) -> Draws:
    """Draw `n` pairs from a pool, by ``choice(size=2, replace=False)`` then ``normal`` for every pair.

    Raises
    ------
    ParameterError
        `n` is negative or the pool has fewer than two items.
    """
    if n < 0 or pool < 2:
        raise ParameterError(f"cannot draw n={n} pairs from pool={pool} items; n must be >= 0 and pool >= 2")
    rng = np.random.default_rng(seed)
    items = np.empty((n, 2), np.int64)
    errors = np.empty((n, 2 if per_item else 1))
    for row in range(n):
        items[row] = rng.choice(pool, size=2, replace=False)
        errors[row] = rng.normal(0.0, noise, size=errors.shape[1])
    items.flags.writeable = errors.flags.writeable = False
    return Draws(items, errors)


def label(draws: Draws, utilities: F64) -> I64:
    """Order every pair as (preferred, rejected) by noisy utility; ties go to the second item.

    Parameters
    ----------
    utilities
        ``[I]`` utility of every item of the pool.

    Returns
    -------
    ``[n, 2]`` item rows.
    """
    first, second = utilities[draws.items[:, 0]], utilities[draws.items[:, 1]]
    if draws.noise.shape[1] == 2:
        gap = (first + draws.noise[:, 0]) - (second + draws.noise[:, 1])
    else:
        gap = first - second + draws.noise[:, 0]
    return np.where((gap > 0)[:, None], draws.items, draws.items[:, ::-1])


def split(n: int, *, seed: int) -> tuple[I64, I64]:
    """Training and evaluation rows: the first fifth of ``default_rng(seed).permutation(n)`` evaluates."""
    order = np.random.default_rng(seed).permutation(n)
    cut = int(n * EVAL_SHARE)
    return order[cut:], order[:cut]


def misspecify(weights: F64, *, sigma: float, seed: int) -> F64:
    """Proxy weights ``w (1 + N(0, sigma^2))``, elementwise, from ``default_rng(seed)`` (RESEARCH §2)."""
    return weights * (1.0 + np.random.default_rng(seed).normal(0.0, sigma, size=weights.shape))


def accuracy(scores: F64, pairs: I64) -> float:
    """Share of pairs ``[n, 2]`` whose preferred item scores strictly higher; NaN scores never do."""
    return float(np.mean(scores[pairs[:, 0]] > scores[pairs[:, 1]])) if len(pairs) else float("nan")


def disagreement(left: F64, right: F64, items: I64) -> float:
    """Share of pairs ``[n, 2]`` that two utilities ``[I]`` order differently."""
    a = left[items[:, 0]] > left[items[:, 1]]
    b = right[items[:, 0]] > right[items[:, 1]]
    return float(np.mean(a != b))


def flip(pairs: I64, *, share: float, rng: np.random.Generator) -> I64:
    """Swap winner and loser in a random `share` of the pairs (annotator error)."""
    if not 0.0 <= share <= 1.0:
        raise ParameterError(f"share is {share}; it must lie in [0, 1]")
    chosen: NDArray[np.bool_] = rng.random(len(pairs)) < share
    return np.where(chosen[:, None], pairs[:, ::-1], pairs)

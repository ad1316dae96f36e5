"""Points on and off a Pareto front: dominance, hypervolume, distance between fronts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import directed_hausdorff

from xfast.errors import ParameterError
from xfast.research.environment import F64


def dominated_by(points: F64, others: F64) -> NDArray[np.bool_]:
    """Which of `points` ``[P, K]`` some row of `others` ``[Q, K]`` beats (no worse everywhere, better somewhere)."""
    no_worse = np.all(others[None, :, :] >= points[:, None, :], axis=2)
    better = np.any(others[None, :, :] > points[:, None, :], axis=2)
    return np.asarray(np.any(no_worse & better, axis=1))


def nondominated(points: F64) -> NDArray[np.bool_]:
    """Mask of the points that no other point beats; equal points all stay. Larger is better in every column."""
    return ~dominated_by(points, points)


def hypervolume(points: F64, reference: F64) -> float:
    """Exact volume dominated by `points` ``[P, K]`` above `reference` ``[K]`` (larger is better).

    Sweeps the last axis and recurses on the others: exact for any K, meant for K <= 4 and some hundred points.

    Raises
    ------
    ParameterError
        The widths differ.
    """
    if points.ndim != 2 or points.shape[1] != len(reference):
        raise ParameterError(f"points have shape {points.shape}, reference has {len(reference)} values")
    inside = points[(points > reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(inside.max() - reference[0])
    inside = np.unique(inside[nondominated(inside)], axis=0)
    order = inside[np.argsort(-inside[:, -1], kind="stable")]
    if inside.shape[1] == 2:
        # Sorted by the second axis falling, the first rises along the front: a staircase.
        height = order[:, 1] - np.append(order[1:, 1], reference[1])
        return float((np.maximum.accumulate(order[:, 0] - reference[0]) * height).sum())
    depth = order[:, -1] - np.append(order[1:, -1], reference[-1])
    return float(
        sum(
            thickness * hypervolume(order[: row + 1, :-1], reference[:-1])
            for row, thickness in enumerate(depth)
            if thickness > 0
        )
    )


def hypervolume_sampled(
    points: F64, reference: F64, ceiling: F64, *, samples: int = 50_000, rng: np.random.Generator
) -> float:
    """Monte-Carlo hypervolume in the box from `reference` to `ceiling`, the published way (50,000 samples)."""
    front = points[nondominated(points)]
    hits = 0
    for block in np.array_split(rng.uniform(reference, ceiling, (samples, len(reference))), max(1, samples // 10_000)):
        hits += int(np.any(np.all(block[:, None, :] <= front[None], axis=2), axis=1).sum())
    return hits / samples * float(np.prod(ceiling - reference))


def hausdorff(left: F64, right: F64) -> float:
    """Symmetric Hausdorff distance of two point sets ``[P, K]`` and ``[Q, K]``."""
    return float(max(directed_hausdorff(left, right)[0], directed_hausdorff(right, left)[0]))

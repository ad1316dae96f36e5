"""Where a platform's treatment of negative actions turns its feed against society, exactly (RESEARCH §6).

The inner product of the platform's and society's weights is linear in the platform's common weight n on negative
actions. With positive actions fixed its root is ``n* = sum_pos w_soc w_plat / sum_neg |w_soc|``: for the published
weights ``5 / 16 = 0.3125``, where the paper says 0.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from xfast.errors import ParameterError
from xfast.research import space
from xfast.research.environment import F64
from xfast.research.policies import cosine

# The published scenarios: weights of (5 positive, 9 neutral, 4 negative) actions. The names are the published ones.
SCENARIOS: Final = {
    "Pure engagement (all actions)": (1.0, 1.0, 1.0),
    "Engagement (neg half-weight)": (1.0, 1.0, 0.5),
    "2023 Phoenix (explicit weights)": (1.0, 0.0, -0.3),
    "Engagement + mild neg penalty": (1.0, 0.5, -0.1),
    "Engagement + moderate neg penalty": (1.0, 0.5, -0.3),
    "User-aligned (balanced)": (1.0, 0.0, -1.0),
    "Safety-first": (1.0, 0.0, -2.0),
}


def grouped(positive: float, neutral: float, negative: float) -> F64:
    """Weights ``[18]`` that are constant over each group."""
    return np.where(space.POSITIVE_MASK, positive, np.where(space.NEGATIVE_MASK, negative, neutral))


def root(platform: F64, society: F64, negative: NDArray[np.bool_]) -> float | None:
    """Common weight on the `negative` actions at which the platform's alignment with society changes sign.

    Parameters
    ----------
    platform, society
        ``[D]`` weights; the platform's own entries under `negative` are ignored.

    Returns
    -------
    The root, or None when society does not care about the negative actions (the sign never changes).
    """
    slope = float(society[negative].sum())
    if slope == 0.0:
        return None
    return -float(platform[~negative] @ society[~negative]) / slope


def pool_root(platform: F64, society: F64, negative: NDArray[np.bool_], features: F64) -> float | None:
    """The same root for the pool covariance ``w' S v`` instead of the inner product."""
    if features.shape[1] != len(platform):
        raise ParameterError(f"features have {features.shape[1]} columns, platform has {len(platform)} weights")
    pull = np.cov(features, rowvar=False, bias=True) @ society
    slope = float(pull[negative].sum())
    return None if slope == 0.0 else -float(platform[~negative] @ pull[~negative]) / slope


def curve(platform: F64, society: F64, negative: NDArray[np.bool_], values: F64) -> F64:
    """Cosine of the platform with society for each common negative weight in `values`."""
    rows = np.tile(platform, (len(values), 1))
    rows[:, negative] = values[:, None]
    return np.array([cosine(row, society) for row in rows])


def minimum_penalty(platform: F64, society: F64, negative: NDArray[np.bool_]) -> float | None:
    """Factor on the platform's own negative weights at which its alignment with society changes sign.

    Below it (towards 0) the penalties no longer outweigh; None when no factor does it.
    """
    slope = float(platform[negative] @ society[negative])
    return None if slope == 0.0 else -float(platform[~negative] @ society[~negative]) / slope

"""Why a hard top-K reverses: only items near the boundary change places, and there the covariance may differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xfast.errors import ParameterError
from xfast.research.environment import F64
from xfast.research.policies import top


@dataclass(frozen=True)
class Boundary:
    """Pool correlation against the correlation among the items that compete for the last places.

    Attributes
    ----------
    pool, local
        Correlation of score and utility over the pool and over the best `window` items.
    explains
        The two differ in sign: a top-K reversal is then what the covariance predicts locally.
    """

    pool: float
    local: float
    window: int

    @property
    def explains(self) -> bool:
        return self.pool * self.local < 0


def diagnose(score: F64, utility: F64, *, k: int = 10, window: int | None = None) -> Boundary:
    """Compare the pool with the neighbourhood of the top-K boundary.

    Parameters
    ----------
    window
        Best items taken as the neighbourhood; ``5 k`` by default.
    """
    wide = min(5 * k if window is None else window, len(score))
    if wide < 3:
        raise ParameterError(f"window is {wide}; a correlation needs at least 3 items")
    near = top(score, wide)
    return Boundary(_correlation(score, utility), _correlation(score[near], utility[near]), wide)


def _correlation(x: F64, y: F64) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0

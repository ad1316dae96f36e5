"""What every experiment runs on: a pool of items with features and topics, and stakeholders with true weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xfast.errors import DataError, ParameterError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Environment:
    """A pool of items and the linear utilities that judge it (RESEARCH §1, §4).

    Attributes
    ----------
    name
        Data set name, as the published targets spell it (``ml-100k``, ``synthetic``, …).
    features
        ``[I, D]`` item features, float64 holding float32 values (the reference trains in fp32).
    topics
        ``[I]`` topic of each item, used by the diversity bonus of the frontier.
    stakeholders
        Base stakeholders: name -> true weights ``[D]``.
    hidden
        Named extra stakeholders of "Method B": judged, never trained.
    facts
        Counts worth reporting (training interactions, …).
    """

    name: str
    features: F64
    topics: I64
    stakeholders: Mapping[str, F64]
    hidden: Mapping[str, F64] = field(default_factory=dict)
    facts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        items, width = self.features.shape
        if self.topics.shape != (items,):
            raise ParameterError(f"topics has shape {self.topics.shape}, features asks for ({items},)")
        if not np.isfinite(self.features).all():
            raise DataError(f"{self.name}: features hold NaN or infinity")
        for name, weights in {**self.stakeholders, **self.hidden}.items():
            if weights.shape != (width,):
                raise ParameterError(f"weights of {name!r} have shape {weights.shape}, features ask for ({width},)")

    @property
    def names(self) -> tuple[str, ...]:
        """Base stakeholders in their published order."""
        return tuple(self.stakeholders)

    @property
    def weights(self) -> F64:
        """True weights of the base stakeholders, ``[K, D]`` in the order of `names`."""
        return np.stack([self.stakeholders[name] for name in self.names])

    def utilities(self) -> dict[str, F64]:
        """Utility of every item for every base and hidden stakeholder, name -> ``[I]``."""
        return {name: self.features @ w for name, w in {**self.stakeholders, **self.hidden}.items()}


def shuffled_pool(ids: I64, *, seed: int = 42) -> I64:
    """Sort item ids and shuffle them as published, by ``default_rng(seed)`` (RESEARCH §4)."""
    pool = np.sort(ids)
    np.random.default_rng(seed).shuffle(pool)
    return pool


def scaled_to_peak(values: F64) -> F64:
    """Divide by the largest absolute value (all-zero input stays zero)."""
    peak = np.abs(values).max(initial=0.0)
    return values / peak if peak > 0 else values

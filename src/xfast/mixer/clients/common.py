"""What all protocols of the mixer's collaborators share: column types, the clock, plain or ``async`` answers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["I64", "U64", "Clock", "Mask", "Maybe", "sequence_length", "system_clock"]

T = TypeVar("T")
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Maybe: TypeAlias = T | Awaitable[T]

Clock = Callable[[], int]


def system_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def sequence_length(sequence: Any) -> int:
    """Number of actions in a viewer's history; 0 when unset or unknown."""
    return len(sequence) if hasattr(sequence, "__len__") else 0

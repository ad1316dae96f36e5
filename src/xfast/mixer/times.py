"""Time read back from 64-bit ids (HOME_MIXER §1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.ids import as_uint64

__all__ = ["ID_EPOCH_MS", "age_ms", "created_ms"]

#: Milliseconds since 1970 at which an id's time field is 0.
ID_EPOCH_MS = 1_288_834_974_657
_TIME_SHIFT = np.uint64(22)


def created_ms(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Creation time, in ms since 1970, that each id carries in its upper 42 bits."""
    return (as_uint64(ids) >> _TIME_SHIFT).astype(np.int64) + ID_EPOCH_MS


def age_ms(ids: npt.ArrayLike, now_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Age in ms and whether it is known; the age of an id from the future is not."""
    ages: npt.NDArray[Any] = now_ms - created_ms(ids)
    return ages, ages >= 0

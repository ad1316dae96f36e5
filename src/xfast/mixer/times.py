"""Age of posts and accounts from their ids (HOME_MIXER §1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.ids import as_uint64, snowflake_time_ms

__all__ = ["age_ms", "created_ms"]


def created_ms(ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Creation time, in ms since 1970, that each id ``[N]`` carries."""
    return snowflake_time_ms(as_uint64(ids))


def age_ms(ids: npt.ArrayLike, now_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Age in ms and whether it is known; the age of an id from the future is not."""
    ages = now_ms - created_ms(ids)
    return ages, ages >= 0

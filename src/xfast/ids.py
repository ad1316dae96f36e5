"""64-bit ids: snowflake time, bit-casts between signed and unsigned, and stable ids for foreign keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError

__all__ = ["as_int64", "as_uint64"]


def _integers(ids: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = np.asarray(ids)
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(np.int64)
    if array.dtype.kind == "O":
        # Python integers beyond 2**63 mixed with small ones: NumPy gives up on a common integer dtype.
        values = [int(value) for value in array.ravel()]
        if any(not -(2**63) <= value < 2**64 for value in values):
            raise ParameterError(f"{name} holds an integer outside 64 bits")
        return np.array([value % 2**64 for value in values], np.uint64).reshape(array.shape)
    if array.dtype.kind not in "iu":
        raise ParameterError(f"{name} has dtype {array.dtype}, must be an integer dtype")
    return array


def as_int64(ids: npt.ArrayLike, *, name: str = "ids") -> npt.NDArray[np.int64]:
    """Return ids as int64, bit-casting uint64 (2**64 - 1 becomes -1); never goes through float.

    Raises
    ------
    ParameterError
        ``ids`` is not of an integer dtype.
    """
    array = _integers(ids, name)
    return array.view(np.int64) if array.dtype == np.uint64 else array.astype(np.int64, copy=False)


def as_uint64(ids: npt.ArrayLike, *, name: str = "ids") -> npt.NDArray[np.uint64]:
    """Return ids as uint64, bit-casting negative values; the inverse of :func:`as_int64`."""
    return as_int64(ids, name=name).view(np.uint64)

"""Arrays in the form in which a model file holds them: floats, or int8 with scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ArtifactError, ParameterError

__all__ = ["SCALE_SUFFIX", "Int8Matrix", "StoredParams", "stored_arrays", "take_int8"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
#: An int8 array ``key`` has its scales, float32 or float16, under ``key + SCALE_SUFFIX``.
SCALE_SUFFIX = ".scale"


@dataclass(frozen=True, eq=False)
class Int8Matrix:
    """A matrix as int8 values times scales; rows come out as float32.

    Parameters
    ----------
    values : int8 [R, C]
        Possibly memory-mapped.
    scale : float32 or float16 [R, 1] or [1, C]
        Per row or per column.
    """

    values: npt.NDArray[np.int8]
    scale: Array

    def __post_init__(self) -> None:
        rows, columns = self.values.shape
        if self.scale.shape not in ((rows, 1), (1, columns)):
            raise ParameterError(f"scale has shape {self.scale.shape}, must be ({rows}, 1) or (1, {columns})")

    @property
    def shape(self) -> tuple[int, ...]:
        """(R, C)."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of values and scales."""
        return self.values.nbytes + self.scale.nbytes

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> F32:
        """Rows as float32 (a new array)."""
        scale = self.scale if self.scale.shape[0] != len(self.values) else self.scale[rows]
        dense: F32 = np.multiply(self.values[rows], scale, dtype=np.float32)
        return dense

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("an Int8Matrix has no dense array to share")
        return self[:].astype(dtype or np.float32, copy=False)


class StoredParams(Mapping[str, F32]):
    """Dense parameters in the form of a file: some arrays as :class:`Int8Matrix`; reading a key gives float32."""

    def __init__(self, stored: Mapping[str, Array | Int8Matrix]) -> None:
        self.stored = dict(stored)

    def __getitem__(self, key: str) -> F32:
        return np.asarray(self.stored[key], np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def stored_arrays(key: str, value: Any) -> dict[str, Array]:
    """What a file holds for an array or an :class:`Int8Matrix`."""
    if isinstance(value, Int8Matrix):
        return {key: value.values, key + SCALE_SUFFIX: value.scale}
    return {key: value}


def take_int8(arrays: Mapping[str, Array], key: str, label: str) -> Int8Matrix | None:
    """The :class:`Int8Matrix` that a file holds under ``key``; None where it holds floats.

    Raises
    ------
    ArtifactError
        An int8 array without scales, or scales of the wrong type or shape.
    """
    values = arrays[key]
    if values.dtype != np.int8 or values.ndim != 2:
        return None
    scale = arrays.get(key + SCALE_SUFFIX)
    if scale is None:
        raise ArtifactError(f"{label} is int8, but {key + SCALE_SUFFIX!r} is missing")
    if scale.dtype not in (np.float32, np.float16) or not np.isfinite(scale).all():
        raise ArtifactError(f"{label}: its {SCALE_SUFFIX!r} must hold finite float32 or float16 values")
    try:
        return Int8Matrix(values, scale)
    except ParameterError as error:
        raise ArtifactError(f"{label}: {error}") from error

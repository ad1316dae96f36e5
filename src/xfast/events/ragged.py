"""Ragged: a column of lists, as one array of values and the offsets where each list starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError


class Ragged:
    """N lists in two arrays: list ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Parameters
    ----------
    offsets
        [N + 1] integers that start at 0, never fall, and end at the number of values.
    values
        [M] of any dtype.

    Raises
    ------
    ParameterError
        The offsets are not of that form.
    """

    __slots__ = ("offsets", "values")

    def __init__(self, offsets: npt.ArrayLike, values: npt.NDArray[Any]) -> None:
        self.offsets: npt.NDArray[np.int64] = np.asarray(offsets, np.int64)
        self.values = values
        bounds = self.offsets
        if bounds.ndim != 1 or not bounds.size or bounds[0] != 0 or bounds[-1] != len(values):
            raise ParameterError(f"offsets must run from 0 to the number of values, {len(values)}")
        if bool(np.any(bounds[1:] < bounds[:-1])):
            raise ParameterError("offsets must not fall")

    @classmethod
    def filled(cls, count: int, dtype: npt.DTypeLike) -> Ragged:
        """Return ``count`` empty lists."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, dtype))

    @classmethod
    def concat(cls, parts: Sequence[Ragged]) -> Ragged:
        """Return the lists of several columns, one after the other."""
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(np.r_[0, np.cumsum(lengths)], np.concatenate([part.values for part in parts]))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[N] the length of each list."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return int(self.offsets.size) - 1

    def __getitem__(self, rows: Any) -> Any:
        """Return one list (an integer) or the lists at ``rows`` (an integer array or a mask)."""
        if isinstance(rows, int | np.integer):
            row = int(rows)
            if not -len(self) <= row < len(self):
                raise IndexError(f"list {row} of {len(self)}")
            row %= len(self)
            return self.values[self.offsets[row] : self.offsets[row + 1]]
        wanted = np.asarray(rows)
        if wanted.dtype == np.bool_:
            wanted = np.flatnonzero(wanted)
        lengths = self.lengths[wanted]
        offsets = np.r_[0, np.cumsum(lengths)]
        source = np.repeat(self.offsets[:-1][wanted] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(offsets, self.values[source])

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        for start, stop in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist()):
            yield self.values[start:stop]

    def tolist(self) -> list[list[Any]]:
        """Return the lists as Python lists."""
        values = self.values.tolist()
        bounds = self.offsets.tolist()
        return [values[start:stop] for start, stop in pairwise(bounds)]

    def __repr__(self) -> str:
        return f"<Ragged of {len(self)} lists, {len(self.values)} values of {self.values.dtype}>"

"""MinHash signatures of id sets and the Jaccard similarity that they estimate (HOME_MIXER §6, MutualFollowJaccard).

With K positions the estimate has standard deviation ``sqrt(J (1 - J) / K)``: at most 0.031 for K = 256.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from xfast.errors import DataError, ParameterError
from xfast.ids import as_uint64
from xfast.sketch import _native

__all__ = ["MinHash", "jaccard", "jaccard_column", "signatures"]

DEFAULT_POSITIONS = 256  # HOME_MIXER §6 refuses shorter hashes
_MAGIC = b"XMH1"
_MAX_POSITIONS = _native.MAX_POSITIONS


def _check(num_positions: int, seed: int) -> None:
    if not isinstance(num_positions, int) or not 1 <= num_positions <= _MAX_POSITIONS:
        raise ParameterError(f"num_positions is {num_positions!r}, must be an int of 1 to {_MAX_POSITIONS}")
    if not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ParameterError(f"seed is {seed!r}, must be an int of 0 to 2**64 - 1")


def _ids(ids: npt.ArrayLike) -> NDArray[np.uint64]:
    if isinstance(ids, np.ndarray) and ids.dtype == np.uint64 and ids.ndim == 1 and ids.flags.c_contiguous:
        return ids  # the checks below cost as much as sketching a short list
    return np.ascontiguousarray(as_uint64(ids).reshape(-1))


class MinHash:
    """The sketch of one set, kept up to date as the set grows.

    Parameters
    ----------
    ids
        Members of the set, any integer dtype, repetitions allowed.
    num_positions
        Length K of the signature, 1 to 256.
    seed
        Sketches are comparable only if their seeds and lengths are equal.

    Notes
    -----
    Adding is exact: the sketch of a set does not depend on the order or the steps in which it was filled. Removing is
    impossible, so an unfollow calls :meth:`rebuild` with the remaining list. Not safe for concurrent writers.
    """

    __slots__ = ("_bins", "seed")

    def __init__(self, ids: npt.ArrayLike = (), *, num_positions: int = DEFAULT_POSITIONS, seed: int = 0) -> None:
        _check(num_positions, seed)
        self.seed = seed
        self._bins = _native.minhash_bins(_ids(ids), num_positions, seed)

    @property
    def num_positions(self) -> int:
        """Length of the signature."""
        return len(self._bins)

    def add(self, ids: npt.ArrayLike) -> None:
        """Add members: a follow, or many."""
        _native.minhash_add(self._bins, _ids(ids), self.seed)

    def rebuild(self, ids: npt.ArrayLike) -> None:
        """Replace the set: after an unfollow."""
        self._bins = _native.minhash_bins(_ids(ids), self.num_positions, self.seed)

    def merge(self, other: MinHash) -> None:
        """Add all members of another sketch.

        Raises
        ------
        ParameterError
            The sketches differ in length or seed.
        """
        self._require_same_kind(other)
        np.minimum(self._bins, other._bins, out=self._bins)

    def _require_same_kind(self, other: MinHash) -> None:
        if (self.num_positions, self.seed) != (other.num_positions, other.seed):
            raise ParameterError(
                f"other has {other.num_positions} positions and seed {other.seed}, "
                f"must have {self.num_positions} and {self.seed}"
            )

    @property
    def is_empty(self) -> bool:
        """Whether the set has no member."""
        return int(self._bins[0]) == _native.EMPTY_BIN

    def signature(self) -> NDArray[np.uint32]:
        """The K comparable positions; all 2**32 - 1 for the empty set, never otherwise."""
        return _native.minhash_signature(self._bins)

    def jaccard(self, other: MinHash) -> float:
        """Estimate |A ∩ B| / |A ∪ B|; 0.0 if either set is empty."""
        self._require_same_kind(other)
        return float(jaccard_column(self.signature(), other.signature()[None, :])[0])

    def to_bytes(self) -> bytes:
        """The sketch with its seed, for a store."""
        return _MAGIC + self.seed.to_bytes(8, "little") + self._bins.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> MinHash:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        DataError
            ``data`` was not written by it.
        """
        length, rest = divmod(len(data) - 12, 8)
        if data[:4] != _MAGIC or rest or not 1 <= length <= _native.MAX_POSITIONS:
            raise DataError(f"data is no MinHash sketch ({len(data)} bytes that begin with {data[:4]!r})")
        sketch = cls(num_positions=length, seed=int.from_bytes(data[4:12], "little"))
        sketch._bins[:] = np.frombuffer(data, "<u8", offset=12)
        return sketch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MinHash) and self.seed == other.seed and bool(np.array_equal(self._bins, other._bins))

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return MinHash.from_bytes, (self.to_bytes(),)


def signatures(
    ids: npt.ArrayLike, offsets: npt.ArrayLike, *, num_positions: int = DEFAULT_POSITIONS, seed: int = 0
) -> NDArray[np.uint32]:
    """Signatures of many sets in one call.

    Parameters
    ----------
    ids
        The members of all sets one after another.
    offsets
        Shape [N + 1], ascending from 0 to ``len(ids)``: set i is ``ids[offsets[i]:offsets[i + 1]]``.
    num_positions, seed
        As for :class:`MinHash`.

    Returns
    -------
    ndarray of uint32, shape [N, num_positions]
        Rows equal to :meth:`MinHash.signature`.

    Raises
    ------
    ParameterError
        A bad length, or offsets that do not cover ``ids``.
    """
    _check(num_positions, seed)
    column = _ids(ids)
    bounds = np.ascontiguousarray(np.asarray(offsets, np.int64).reshape(-1))
    if len(bounds) == 0 or bounds[0] != 0 or bounds[-1] != len(column) or (np.diff(bounds) < 0).any():
        raise ParameterError(f"offsets must ascend from 0 to len(ids) = {len(column)}")
    return _native.minhash_signatures(column, bounds, num_positions, seed)


def jaccard_column(viewer: npt.ArrayLike, authors: npt.ArrayLike) -> NDArray[np.float64]:
    """Estimate the Jaccard similarity of one viewer with a column of authors.

    Parameters
    ----------
    viewer
        Signature of shape [K], uint32.
    authors
        Signatures of shape [N, K], uint32.

    Returns
    -------
    ndarray of float64, shape [N]
        Equal positions / K; 0.0 where a set is empty.
    """
    one = np.ascontiguousarray(viewer)
    column = np.ascontiguousarray(authors)
    if one.dtype != np.uint32 or column.dtype != np.uint32:
        raise ParameterError(f"viewer and authors have dtypes {one.dtype} and {column.dtype}, must be uint32")
    if one.ndim != 1 or column.ndim != 2 or column.shape[1] != one.shape[0] or not len(one):
        raise ParameterError(f"viewer and authors have shapes {one.shape} and {column.shape}, must be [K] and [N, K]")
    if one[0] == _native.EMPTY_POSITION:
        return np.zeros(len(column))
    return _native.equal_positions(one, column) / np.float64(len(one))


def jaccard(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Compare two signatures of any integer dtype and possibly different lengths (HOME_MIXER §6).

    Returns
    -------
    float
        Equal positions / the shorter length; 0.0 if one is empty.
    """
    left, right = as_uint64(a, name="a").reshape(-1), as_uint64(b, name="b").reshape(-1)
    length = min(len(left), len(right))
    return float(np.count_nonzero(left[:length] == right[:length]) / length) if length else 0.0

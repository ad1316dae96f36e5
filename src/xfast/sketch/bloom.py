"""Bloom filters of what a viewer was shown (HOME_MIXER §7.7).

The release publishes the parameters of an entry (words, size cap, false-positive rate) but not the hashing, so the
hashing is a named scheme: ``"xfast"`` is ours, and an embedder who knows another adds it with :func:`register_scheme`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from xfast.errors import DataError, ParameterError
from xfast.ids import as_uint64
from xfast.sketch import _native

__all__ = ["BloomFilter", "BloomScheme", "contains_any", "register_scheme"]

_MAGIC = b"XBF1"
_MAX_SIZE_CAP = 2**31 - 1  # an i32 in the release's entry


class BloomScheme(Protocol):
    """How ids become bits: subclass or imitate, then :func:`register_scheme`."""

    def hash_count(self, bits: int, size_cap: int) -> int:
        """Number of bits per id, at least 1."""
        ...

    def positions(self, ids: NDArray[np.uint64], bits: int, hashes: int) -> NDArray[np.integer[Any]]:
        """Bit numbers in [0, ``bits``), shape [N, hashes]."""
        ...


def _natural_hash_count(bits: int, size_cap: int) -> int:
    """round(ln 2 · m / n), at least 1: the count with the least false positives at ``size_cap`` ids."""
    return max(1, round(math.log(2) * bits / size_cap))


_SCHEMES: dict[str, BloomScheme] = {}


def register_scheme(name: str, scheme: BloomScheme) -> None:
    """Make a scheme known under a name, which filters carry when they are stored.

    Raises
    ------
    ParameterError
        The name is taken, empty, or longer than 255 bytes.
    """
    if name == "xfast" or name in _SCHEMES or not 0 < len(name.encode()) < 256:
        raise ParameterError(f"name is {name!r}, must be a new name of 1 to 255 bytes (taken: xfast, {[*_SCHEMES]})")
    _SCHEMES[name] = scheme


class BloomFilter:
    """A set of ids that may answer "contains" for an id that was never added, at a known rate.

    Parameters
    ----------
    words
        The bits, shape [W] uint64; copied. W = 0 is the filter that contains nothing.
    size_cap
        How many ids the filter is made for, 1 to 2**31 - 1.
    false_positive_rate
        The rate that it was sized for; kept with the filter, in (0, 1).
    scheme
        ``"xfast"``, or a registered name.

    Raises
    ------
    ParameterError
        An argument out of range, or an unknown scheme.
    """

    __slots__ = ("false_positive_rate", "hash_count", "scheme", "size_cap", "words")

    def __init__(
        self, words: npt.ArrayLike, size_cap: int, false_positive_rate: float, *, scheme: str = "xfast"
    ) -> None:
        if not 1 <= size_cap <= _MAX_SIZE_CAP:
            raise ParameterError(f"size_cap is {size_cap}, must be 1 to {_MAX_SIZE_CAP}")
        if not 0.0 < false_positive_rate < 1.0:
            raise ParameterError(f"false_positive_rate is {false_positive_rate}, must be between 0 and 1, exclusive")
        if scheme != "xfast" and scheme not in _SCHEMES:
            raise ParameterError(f"scheme is {scheme!r}, must be 'xfast' or registered ({[*_SCHEMES]})")
        self.words = np.array(as_uint64(words, name="words").reshape(-1))
        self.size_cap = int(size_cap)
        self.false_positive_rate = float(false_positive_rate)
        self.scheme = scheme
        rule = _natural_hash_count if scheme == "xfast" else _SCHEMES[scheme].hash_count
        self.hash_count = rule(self.bit_count, self.size_cap)

    @classmethod
    def sized(cls, size_cap: int, false_positive_rate: float = 0.01, *, scheme: str = "xfast") -> BloomFilter:
        """An empty filter with enough bits for ``size_cap`` ids at that rate: n ln(1/p) / (ln 2)², whole words."""
        filter_ = cls((), size_cap, false_positive_rate, scheme=scheme)
        bits = size_cap * -math.log(false_positive_rate) / math.log(2) ** 2
        return cls(np.zeros(math.ceil(bits / 64), np.uint64), filter_.size_cap, false_positive_rate, scheme=scheme)

    @property
    def bit_count(self) -> int:
        """Number of bits, 64 per word."""
        return 64 * len(self.words)

    def add(self, ids: npt.ArrayLike) -> None:
        """Add ids.

        Raises
        ------
        ParameterError
            The filter has no bits.
        """
        column = np.ascontiguousarray(as_uint64(ids).reshape(-1))
        if not len(self.words):
            raise ParameterError("the filter has no words; BloomFilter.sized makes one with room")
        if self.scheme == "xfast":
            _native.bloom_add(self.words, column, self.hash_count)
        else:
            at = self._positions(column).ravel()
            np.bitwise_or.at(self.words, at >> np.uint64(6), np.uint64(1) << (at & np.uint64(63)))

    def contains(self, ids: npt.ArrayLike) -> NDArray[np.bool_]:
        """Tell for each id whether it may have been added; False is certain.

        Returns
        -------
        ndarray of bool, shape [N]
        """
        return contains_any([self], ids)

    def _positions(self, ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
        positions = _SCHEMES[self.scheme].positions(ids, self.bit_count, self.hash_count)
        return as_uint64(positions, name="positions")

    def _or_into(self, found: NDArray[np.bool_], ids: NDArray[np.uint64]) -> None:
        if self.scheme == "xfast":
            _native.bloom_contains(self.words, ids, self.hash_count, found)
        elif len(self.words):
            at = self._positions(ids)
            found |= (self.words[at >> np.uint64(6)] >> (at & np.uint64(63)) & np.uint64(1)).astype(bool).all(axis=1)

    def to_bytes(self) -> bytes:
        """The filter with its parameters: a stable little-endian format."""
        name = self.scheme.encode()
        head = self.size_cap.to_bytes(4, "little") + np.float64(self.false_positive_rate).astype("<f8").tobytes()
        return b"".join((_MAGIC, bytes([len(name)]), name, head, self.words.astype("<u8").tobytes()))

    @classmethod
    def from_bytes(cls, data: bytes) -> BloomFilter:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        DataError
            ``data`` was not written by it.
        ParameterError
            The scheme is not registered here.
        """
        start = 5 + data[4] if len(data) > 4 else 0
        if data[:4] != _MAGIC or len(data) < start + 12 or (len(data) - start - 12) % 8:
            raise DataError(f"data is no Bloom filter ({len(data)} bytes that begin with {data[:4]!r})")
        size_cap = int.from_bytes(data[start : start + 4], "little")
        rate = float(np.frombuffer(data, "<f8", 1, start + 4)[0])
        words = np.frombuffer(data, "<u8", offset=start + 12)
        return cls(words, size_cap, rate, scheme=data[5:start].decode())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BloomFilter) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return BloomFilter.from_bytes, (self.to_bytes(),)


def contains_any(filters: Iterable[BloomFilter], ids: npt.ArrayLike) -> NDArray[np.bool_]:
    """Tell for each id whether any of the filters may contain it.

    Returns
    -------
    ndarray of bool, shape [N]
        All False without filters.
    """
    column = np.ascontiguousarray(as_uint64(ids).reshape(-1))
    found = np.zeros(len(column), np.bool_)
    for filter_ in filters:
        filter_._or_into(found, column)
    return found

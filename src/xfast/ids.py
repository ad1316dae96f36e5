"""64-bit ids: snowflake time, bit-casts between signed and unsigned, and stable ids for foreign keys."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, overload
from uuid import UUID

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError

__all__ = ["SNOWFLAKE_EPOCH_MS", "IdMap", "as_int64", "as_uint64", "snowflake", "snowflake_time_ms"]

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
"""Unix milliseconds at which snowflake time begins, 4 November 2010 (HOME_MIXER §1)."""

_SEQUENCE_BITS = 22
_TIME_LIMIT_MS = SNOWFLAKE_EPOCH_MS + (1 << 41)  # beyond it an id would not fit a signed 64-bit integer


def _integers(ids: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = np.asarray(ids)
    if array.size == 0 and array.dtype.kind in "fO":
        return array.astype(np.int64)
    if array.dtype.kind == "f" and not isinstance(ids, np.ndarray):
        # [1, 2**63]: NumPy finds no common integer dtype for such a list and rounds it to floats.
        array = np.asarray(ids, object)
    if array.dtype.kind == "O":
        if any(isinstance(value, bool) or not isinstance(value, int | np.integer) for value in array.ravel()):
            raise ParameterError(f"{name} must hold integers")
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


@overload
def snowflake(time_ms: int, sequence: int = 0) -> int: ...
@overload
def snowflake(time_ms: npt.NDArray[Any], sequence: npt.ArrayLike = 0) -> npt.NDArray[np.uint64]: ...
def snowflake(time_ms: Any, sequence: Any = 0) -> Any:
    """Mint ids whose time can be read back: ``(time_ms - epoch) << 22 | sequence`` (HOME_MIXER §1).

    Parameters
    ----------
    time_ms
        Unix milliseconds, from the snowflake epoch (4 November 2010) to July 2080; an integer or an array.
    sequence
        What tells ids of one millisecond apart, in [0, 4194303]; broadcast against ``time_ms``.

    Returns
    -------
    int or ndarray of uint64
        An int if both arguments are plain integers.

    Raises
    ------
    ParameterError
        A time or a sequence is out of range.
    """
    times = _integers(time_ms, "time_ms")
    numbers = _integers(sequence, "sequence")
    _check_range(times, SNOWFLAKE_EPOCH_MS, _TIME_LIMIT_MS - 1, "time_ms")
    _check_range(numbers, 0, (1 << _SEQUENCE_BITS) - 1, "sequence")
    ids = (times.astype(np.uint64) - np.uint64(SNOWFLAKE_EPOCH_MS)) << np.uint64(_SEQUENCE_BITS) | numbers.astype(
        np.uint64
    )
    return int(ids) if np.ndim(time_ms) == 0 and np.ndim(sequence) == 0 else ids


@overload
def snowflake_time_ms(ids: int) -> int: ...
@overload
def snowflake_time_ms(ids: npt.NDArray[Any]) -> npt.NDArray[np.int64]: ...
def snowflake_time_ms(ids: Any) -> Any:
    """Return the Unix milliseconds in snowflake ids: ``(id >> 22) + 1288834974657``, the id taken as unsigned.

    Ids that were never minted from a time give one all the same (id 20 dates from 2010); whether a time in the future
    counts as unknown is the caller's rule.
    """
    if type(ids) is int and -(2**63) <= ids < 2**64:  # one id costs ten microseconds as an array
        return (ids % 2**64 >> _SEQUENCE_BITS) + SNOWFLAKE_EPOCH_MS
    times = (as_uint64(ids) >> np.uint64(_SEQUENCE_BITS)).astype(np.int64) + SNOWFLAKE_EPOCH_MS
    return int(times) if np.ndim(ids) == 0 else times


def _check_range(values: npt.NDArray[Any], low: int, high: int, name: str) -> None:
    if values.size:
        smallest, largest = int(values.min()), int(values.max())
        if smallest < low or largest > high:
            wrong = smallest if smallest < low else largest
            raise ParameterError(f"{name} is {wrong}, must be in [{low}, {high}]")


class IdMap:
    """Stable 64-bit ids for an embedder's strings and UUIDs, and back.

    An id is a hash of the namespace and the key, so two machines give a key the same id without talking to each other.
    Ids are in [1, 2**63 - 1]: positive also when signed, and never 0. Should two keys hash to the same id, the later
    one gets another, which the map remembers: keep the file if ids must stay stable through that, and to come back from
    ids to keys.

    Parameters
    ----------
    path
        File to keep the map in; read at once if it exists, written by :meth:`save`. None: in memory only.
    namespace
        What the keys name, such as ``"user"``: one text gets different ids in different namespaces.

    Raises
    ------
    SnapshotError
        The file cannot be read, is damaged, or belongs to another namespace.

    Notes
    -----
    All methods may be called from several threads. One process at a time may own the file: :meth:`save` refuses to
    replace a file that somebody else has changed since it was read.
    """

    _FORMAT = "xfast.idmap/1"

    def __init__(self, path: str | Path | None = None, *, namespace: str = "") -> None:
        self.namespace = namespace
        self.path = None if path is None else Path(path)
        self._ids: dict[str | UUID, int] = {}
        self._keys: dict[int, str | UUID] = {}
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        if self.path is not None and self.path.exists():
            self._load(self.path)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: object) -> bool:
        return key in self._ids

    def __iter__(self) -> Iterator[str | UUID]:
        with self._lock:
            return iter(list(self._ids))

    def id(self, key: str | UUID) -> int:
        """Return the id of a key; a new key gets one."""
        if not isinstance(key, str | UUID):
            raise ParameterError(f"key is {key!r} of type {type(key).__name__}, must be a str or a UUID")
        known = self._ids.get(key)
        if known is not None:
            return known
        with self._lock:
            return self._assign(key)

    def ids(self, keys: Iterable[str | UUID]) -> npt.NDArray[np.uint64]:
        """Return the ids of keys, [N] uint64; new keys get one, in order."""
        return np.array([self.id(key) for key in keys], np.uint64)

    def key(self, number: int) -> str | UUID:
        """Return the key of an id.

        Raises
        ------
        ParameterError
            No key has that id.
        """
        try:
            return self._keys[int(number)]
        except KeyError:
            raise ParameterError(f"id {int(number)} belongs to no key of this map ({len(self)} keys)") from None

    def keys(self, ids: npt.ArrayLike) -> list[str | UUID]:
        """Return the keys of ids, in order."""
        return [self.key(number) for number in as_uint64(ids).ravel().tolist()]

    def _assign(self, key: str | UUID) -> int:
        known = self._ids.get(key)  # another thread may have been first
        if known is not None:
            return known
        attempt = 0
        while (number := self._hash(key, attempt)) in self._keys or number == 0:
            attempt += 1
        self._keys[number] = key
        self._ids[key] = number
        return number

    def _hash(self, key: str | UUID, attempt: int) -> int:
        kind, content = (b"u", key.bytes) if isinstance(key, UUID) else (b"s", key.encode("utf-8", "surrogatepass"))
        digest = blake2b(digest_size=8, person=b"xfast.ids")
        for part in (self.namespace.encode(), kind, content, str(attempt).encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
        return int.from_bytes(digest.digest(), "little") >> 1

    def save(self) -> None:
        """Write the map to its file: to a new file that then takes the place of the old one, so a crash leaves either.

        Raises
        ------
        ParameterError
            The map has no path.
        SnapshotError
            Somebody else has changed the file since it was read.
        """
        if self.path is None:
            raise ParameterError("path is None: this IdMap lives in memory only")
        with self._lock:
            if _stamp(self.path) != self._stamp:
                raise SnapshotError(f"{self.path}: was changed by another process since it was read")
            lines = [json.dumps({"format": self._FORMAT, "namespace": self.namespace, "count": len(self._ids)})]
            for key, number in self._ids.items():
                text = ["u", key.hex] if isinstance(key, UUID) else ["s", key]
                lines.append(json.dumps([number, *text]))
            body = ("\n".join(lines) + "\n").encode()
            part = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
            try:
                with part.open("wb") as file:
                    file.write(body + b'{"crc32": %d}\n' % zlib.crc32(body))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self._stamp = _stamp(self.path)

    def _load(self, path: Path) -> None:
        self._stamp = _stamp(path)
        try:
            body = path.read_bytes()
            *lines, last = body.splitlines(keepends=True)
            header, crc = json.loads(lines[0]), json.loads(last)["crc32"]
            if crc != zlib.crc32(b"".join(lines)) or header["format"] != self._FORMAT:
                raise ValueError("checksum or format is wrong")
            for line in lines[1:]:
                number, kind, text = json.loads(line)
                key = UUID(hex=text) if kind == "u" else text
                self._ids[key], self._keys[number] = number, key
            if not len(self._ids) == len(self._keys) == header["count"]:
                raise ValueError(
                    f"{len(self._ids)} keys and {len(self._keys)} ids where {header['count']} were written"
                )
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise SnapshotError(f"{path}: not a readable id map: {error}") from None
        if header["namespace"] != self.namespace:
            raise SnapshotError(f"{path}: holds namespace {header['namespace']!r}, asked for {self.namespace!r}")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

"""The files of an event log: segment names and headers, the identity of a log, and where it ends.

A log is a folder::

    identity                   32 hexadecimal digits, made once: positions belong to one log
    head                       u64 end offset, u64 durable offset (shared memory of writer and readers)
    00000000000000000000.log   segment: 32 bytes of header, then records (csrc/eventlog/frames.h)
    00000000000000004711.log   the name is the offset of its first record
    lock                       held by the one writer

Offsets count records from 0. Erasing removes records but never changes the offset of another.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from xfast.errors import SnapshotError

SEGMENT_HEADER = 32
RECORD_HEADER = 24
MAX_MESSAGE_BYTES = 16 << 20

_MAGIC = b"XFASTLOG"
_VERSION = 1
_HEADER = struct.Struct("<8sIIQq")  # magic, version, crc of the rest, base offset, creation time in Unix milliseconds
_HEAD = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment file."""

    path: Path
    base: int
    created_ms: int


def segment_path(folder: Path, base: int) -> Path:
    """Return the path of the segment whose first record has offset ``base``."""
    return folder / f"{base:020d}.log"


def segment_bases(folder: Path) -> list[int]:
    """Return the base offsets of the segments that exist now, ascending."""
    try:
        return sorted(int(path.stem) for path in folder.iterdir() if path.suffix == ".log")
    except FileNotFoundError:
        raise SnapshotError(f"{folder}: there is no event log here") from None


def create_segment(folder: Path, base: int, created_ms: int) -> int:
    """Create a segment durably and return its file descriptor, open for reading and writing.

    It is complete before it has its name, so there is never a segment with half a header.
    """
    temporary = folder / f"{base:020d}.new"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, segment_header(base, created_ms))
        os.fsync(fd)
        temporary.rename(segment_path(folder, base))
        sync_folder(folder)
    except BaseException:
        os.close(fd)
        raise
    return fd


def segment_header(base: int, created_ms: int) -> bytes:
    """Return the 32 bytes at the start of a segment."""
    return _HEADER.pack(_MAGIC, _VERSION, _header_crc(_VERSION, base, created_ms), base, created_ms)


def _header_crc(version: int, base: int, created_ms: int) -> int:
    return zlib.crc32(struct.pack("<IQq", version, base, created_ms))


def read_segment(path: Path) -> Segment:
    """Read and check the header of a segment.

    Raises
    ------
    SnapshotError
        The file is not a segment, is damaged, or was written by a newer release.
    """
    with path.open("rb") as file:
        data = file.read(SEGMENT_HEADER)
    if len(data) < SEGMENT_HEADER or not data.startswith(_MAGIC):
        raise SnapshotError(f"{path}: not a segment of an event log")
    _, version, crc, base, created_ms = _HEADER.unpack(data)
    if version > _VERSION:
        raise SnapshotError(f"{path}: written in version {version} of the format, this release reads up to {_VERSION}")
    if crc != _header_crc(version, base, created_ms) or base != int(path.stem):
        raise SnapshotError(f"{path}: the header of the segment is damaged")
    return Segment(path, base, created_ms)


def identity(folder: Path, *, create: bool) -> str:
    """Return the identity of the log; ``create`` makes one where there is none."""
    path = folder / "identity"
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        if not create:
            raise SnapshotError(f"{folder}: there is no event log here") from None
        text = uuid4().hex
        temporary = folder / "identity.new"
        with temporary.open("w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(folder)
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise SnapshotError(f"{path}: the identity of the log is damaged")
    return text


def sync_folder(folder: Path) -> None:
    """Make created, renamed and removed names durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Head:
    """End and durable offset of a log in a mapped file: the lag gauge of readers in any process.

    It is a hint. After a power cut it may be stale until the writer opens the log again; nothing is decided by it.
    """

    def __init__(self, folder: Path, *, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_CREAT if create else os.O_RDWR
        try:
            fd = os.open(folder / "head", flags | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            raise SnapshotError(f"{folder}: there is no event log here") from None
        try:
            if os.fstat(fd).st_size < _HEAD.size:
                os.ftruncate(fd, _HEAD.size)
            self._map = mmap.mmap(fd, _HEAD.size)
        finally:
            os.close(fd)

    def write(self, end: int, durable: int) -> None:
        """Publish both offsets."""
        _HEAD.pack_into(self._map, 0, end, durable)

    def end(self) -> int:
        """Return the offset that the next record will get."""
        end: int = _HEAD.unpack_from(self._map, 0)[0]
        return end

    def close(self) -> None:
        """Unmap the file."""
        with contextlib.suppress(ValueError):
            self._map.close()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file for reading and close it again."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)

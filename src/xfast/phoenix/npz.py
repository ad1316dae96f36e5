"""Reading and writing .npz files so that a large table stays on disk until its rows are asked for.

``numpy.load`` copies every member of an .npz into memory. An uncompressed member is a plain array at some offset of the
file, though, so it can be memory-mapped there; the same holds for an uncompressed .npz inside an uncompressed zip.
Pickled (object) members are read by an unpickler that can build NumPy arrays, strings and plain containers, and
nothing else.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from xfast.errors import ArtifactError

__all__ = ["Region", "as_float32", "float_view", "native_order", "read_ahead", "read_npz", "write_npz"]

Array = npt.NDArray[Any]
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ALIGNMENT = 64
_PADDING_FIELD = 0xD935  # id of the zip extra field that Android's zipalign pads with; readers skip it
_PICKLE_LIMIT = 1 << 30
# Linux keeps what was written in pages as large as the pieces, and touching a row then maps (and counts) a whole one.
_PIECE = 1 << 16
# What zipfile raises on damaged, cut, encrypted or exotically compressed members.
UNPACKING_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Region:
    """A file, or a stretch of one: ``size`` bytes from ``offset`` of ``handle``. ``name`` is what errors say.

    Files close with ``files``; what was mapped out of them stays.
    """

    name: str
    handle: IO[bytes]
    offset: int
    size: int
    files: ExitStack

    @classmethod
    def of_file(cls, path: Path, name: str, files: ExitStack) -> Region:
        """Open a file."""
        try:
            handle = files.enter_context(path.open("rb"))
        except OSError as error:
            raise ArtifactError(f"{name}: cannot be opened ({error.strerror}) at {path}") from error
        return cls(name, handle, 0, os.fstat(handle.fileno()).st_size, files)

    def open(self) -> io.BufferedReader:
        """Return an independent reader of the stretch."""
        return io.BufferedReader(_Window(self))

    def read(self) -> bytes:
        """All bytes."""
        with self.open() as reader:
            return reader.read()

    def zip(self) -> zipfile.ZipFile:
        """Open the stretch as a zip archive."""
        try:
            return zipfile.ZipFile(self.open())
        except (zipfile.BadZipFile, OSError, struct.error) as error:
            with self.open() as reader:
                head = reader.read(24)
            reason = "is empty" if not head else f"is no zip archive ({error})"
            if head.startswith(b"version https://git-lfs"):
                reason = "is a Git LFS pointer; fetch the file itself (git lfs pull)"
            elif head.startswith(b"\x93NUMPY"):
                reason = "is a single .npy array, must be an .npz archive"
            raise ArtifactError(f"{self.name}: {reason}") from error

    def member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Region:
        """A member as a region of its own: the same bytes if stored, unpacked into an unnamed temporary file if not."""
        if info.flag_bits & 1:
            raise ArtifactError(f"{name}: is encrypted")
        if info.compress_type == zipfile.ZIP_STORED:
            start = _data_offset(self, info, name)
            return Region(name, self.handle, start, info.file_size, self.files)
        temporary = tempfile.TemporaryFile(prefix="xfast-")  # noqa: SIM115 (closes with the others)
        unpacked = cast(IO[bytes], self.files.enter_context(temporary))
        try:
            with archive.open(info) as packed:
                shutil.copyfileobj(packed, unpacked, _PIECE)
        except UNPACKING_ERRORS as error:
            raise ArtifactError(f"{name}: cannot be unpacked ({error})") from error
        unpacked.flush()
        return Region(name, unpacked, 0, info.file_size, self.files)


class _Window(io.RawIOBase):
    """Seekable reader of a region; reads by position, so readers of one handle do not disturb each other."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._region.size}[whence]
        if base + offset < 0:
            raise OSError("negative seek position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(self._region.size - self._at, 0))
        data = os.pread(self._region.handle.fileno(), wanted, self._region.offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _data_offset(region: Region, info: zipfile.ZipInfo, name: str) -> int:
    """Absolute offset of a stored member's bytes in the region's file."""
    with region.open() as reader:
        reader.seek(info.header_offset)
        header = reader.read(_LOCAL_HEADER.size)
    if len(header) != _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise ArtifactError(f"{name}: broken zip entry")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    start: int = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    if start + info.file_size > region.size:
        raise ArtifactError(f"{name}: the file is cut short")
    return region.offset + start


def read_npz(region: Region, *, mapped: Literal["rows", "whole"] | None = None) -> dict[str, Array]:
    """Arrays of an .npz by key.

    Parameters
    ----------
    region
        Where the .npz is.
    mapped
        Memory-map uncompressed members (read-only), to read ``rows`` here and there or the ``whole`` of them; their
        checksums are then not verified, as that would read everything.

    Raises
    ------
    ArtifactError
        No zip, a member that is no array, a cut file, or a pickle that holds more than arrays and strings.
    """
    arrays: dict[str, Array] = {}
    with region.zip() as archive:
        for info in archive.infolist():
            if info.filename.endswith("/"):
                continue
            key = info.filename.removesuffix(".npy")
            label = f"{region.name}: {key!r}"
            if mapped and info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                arrays[key] = _map_array(region.member(archive, info, label), label, scattered=mapped == "rows")
            else:
                arrays[key] = _load_array(archive, info, label)
    return arrays


def _header(reader: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = npy.read_magic(reader)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(reader)
    except (ValueError, EOFError) as error:
        raise ArtifactError(f"{label} is no NumPy array ({error})") from error
    return shape, fortran, dtype


def _map_array(region: Region, label: str, *, scattered: bool) -> Array:
    with region.open() as reader:
        shape, fortran, dtype = _header(reader, label)
        start = reader.tell()
    if dtype.hasobject:
        with region.open() as reader:
            reader.seek(start)
            return _unpickle(reader, shape, fortran, label)
    count = int(np.prod(shape, dtype=np.int64))
    if start + count * dtype.itemsize > region.size:
        raise ArtifactError(f"{label} is cut short: {region.size - start} bytes of {count * dtype.itemsize}")
    if count == 0:
        return np.empty(shape, dtype)
    at = region.offset + start
    page = at - at % mmap.ALLOCATIONGRANULARITY
    view = mmap.mmap(region.handle.fileno(), at - page + count * dtype.itemsize, access=mmap.ACCESS_READ, offset=page)
    if scattered and hasattr(mmap, "MADV_RANDOM"):
        view.madvise(mmap.MADV_RANDOM)  # hashed rows: reading ahead would fetch pages that nobody asked for
    flat: Array = np.frombuffer(view, dtype, count, at - page)
    return flat.reshape(shape, order="F" if fortran else "C")


def read_ahead(array: Array, rows: npt.NDArray[np.integer[Any]]) -> None:
    """Ask the system for rows of a mapped array, all at once; touching them one by one waits for the disk each time.

    Nothing happens for an array that is in memory, or where the system knows no such advice.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    view = base.obj if isinstance(base, memoryview) else base
    if not isinstance(view, mmap.mmap) or not array.flags.c_contiguous or not hasattr(mmap, "MADV_WILLNEED"):
        return
    width = array.strides[0]
    begins = array.ctypes.data - np.frombuffer(view, np.uint8).ctypes.data + np.unique(rows).astype(np.int64) * width
    for begin, end in zip((begins & -mmap.PAGESIZE).tolist(), (begins + width).tolist(), strict=True):
        view.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def _load_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> Array:
    try:
        with archive.open(info) as reader:
            shape, fortran, dtype = _header(reader, label)
            if dtype.hasobject:
                return _unpickle(reader, shape, fortran, label)
            data = reader.read()
    except UNPACKING_ERRORS as error:
        raise ArtifactError(f"{label} cannot be unpacked ({error})") from error
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) < count * dtype.itemsize:
        raise ArtifactError(f"{label} is cut short: {len(data)} bytes of {count * dtype.itemsize}")
    flat: Array = np.frombuffer(data, dtype, count)
    return flat.reshape(shape, order="F" if fortran else "C")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding!r} is not allowed")
    return text.encode("latin1")


def _scalar(dtype: np.dtype[Any], data: Any = b"") -> Any:
    if dtype.hasobject or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise pickle.UnpicklingError("malformed scalar")
    return np.frombuffer(data, dtype)[0]


def _reconstruct(cls: type, shape: tuple[int, ...], typecode: bytes) -> Array:
    if cls is not np.ndarray or tuple(shape) != (0,) or typecode != b"b":
        raise pickle.UnpicklingError("malformed array")
    return np.ndarray((0,), np.int8)


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays, NumPy scalars, strings, numbers and containers; any other global is refused."""

    _ALLOWED: Mapping[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
        **{
            (f"numpy.{core}.multiarray", name): function
            for core in ("core", "_core")
            for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return self._ALLOWED[module, name]


def _unpickle(reader: IO[bytes], shape: tuple[int, ...], fortran: bool, label: str) -> Array:
    data = reader.read(_PICKLE_LIMIT + 1)
    if len(data) > _PICKLE_LIMIT:
        raise ArtifactError(f"{label} is a pickle of more than {_PICKLE_LIMIT} bytes")
    try:
        value = _ArrayUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise ArtifactError(f"{label} is a pickle that cannot be read safely ({error})") from error
    if not isinstance(value, np.ndarray) or value.size != int(np.prod(shape, dtype=np.int64)):
        raise ArtifactError(f"{label} is a pickle of something other than the array its header announces")
    return value.reshape(shape, order="F" if fortran else "C")


def float_view(array: Array, label: str) -> Array:
    """The array with a floating dtype, without copying; 16-bit raw or unsigned values are bfloat16 bit patterns.

    NumPy has no bfloat16, so files hold it as ``V2`` or as ``uint16``.

    Raises
    ------
    ArtifactError
        The dtype holds no floats.
    """
    if array.dtype.kind == "f" and array.dtype.itemsize <= 8:
        return native_order(array)
    if array.dtype.name == "bfloat16":
        return array
    if array.dtype in (np.dtype("V2"), np.dtype("uint16")):
        import ml_dtypes

        return array.view(ml_dtypes.bfloat16)
    raise ArtifactError(f"{label} has dtype {array.dtype}, must be float32, float16, bfloat16 or float64")


def native_order(array: Array) -> Array:
    """The array in this machine's byte order: native code reads the bytes as they are."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_float32(array: Array) -> npt.NDArray[np.float32]:
    """The array as float32 (the same object if it already is native float32)."""
    return array.astype(np.float32, copy=False)


def write_npz(path: Path, arrays: Mapping[str, npt.ArrayLike], *, compressed: bool = False) -> None:
    """Write an .npz whose uncompressed members start on 64-byte boundaries, ready to be mapped and computed on.

    bfloat16 arrays are written as raw 16-bit values (``V2``), which :func:`float_view` understands.
    """
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for key, value in arrays.items():
            array = np.asanyarray(value)
            if array.dtype.name == "bfloat16":
                array = array.view("V2")
            info = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            info.external_attr = 0o644 << 16
            assert archive.fp is not None
            # Local header: 30 bytes, the name, a zip64 field of 20 bytes, then our padding field of 4 + n bytes.
            start = archive.fp.tell() + 30 + len(info.filename.encode()) + 20 + 4
            padding = -start % _ALIGNMENT
            info.extra = struct.pack("<HH", _PADDING_FIELD, padding) + bytes(padding)
            with archive.open(info, "w", force_zip64=True) as out:
                npy.write_array(out, np.asarray(array, order="C"), allow_pickle=False)

"""Cached candidates as bytes: JSON of their columns, zstd-compressed where that codec is there, else zlib.

The release, and reference mode, write a list of JSON objects. Most of a candidate are 22 predictions, and to write 750
of them as decimal numbers takes longer than to make the page, so fixed mode writes numbers as the bytes of a column in
base64. Both forms are read in both modes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.mixer.candidates import CandidateBatch, decode_cell, encode_cell
from xfast.mixer.enums import BrandSafetyVerdict, ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Column, Field, Ragged

__all__ = ["cache_key", "decode_posts", "encode_posts"]

_ZSTD_LEVEL = 6
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Columns of numbers of which not every one means something.
_ENUMS = {"served_type": ServedType, "brand_safety_verdict": BrandSafetyVerdict}


def cache_key(query: ScoredPostsQuery) -> str:
    """The key of a viewer's cached candidates: viewer, topics, network and video switches (format ours)."""
    topics = ",".join(map(str, sorted(query.topic_ids)))
    scope = f"{topics}|{int(query.in_network_only)}|{int(query.exclude_videos)}"
    return f"xfast:posts:{query.user_id}:{hashlib.blake2b(scope.encode(), digest_size=8).hexdigest()}"


def encode_posts(batch: CandidateBatch, *, quirks: Quirks = "fixed") -> bytes:
    """Candidates as compressed JSON."""
    document: Any = batch.to_records() if quirks == "reference" else _columns(batch)
    plain = json.dumps(document, separators=(",", ":")).encode()
    try:
        import zstandard
    except ImportError:
        return zlib.compress(plain, 6)
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)


def _columns(batch: CandidateBatch) -> dict[str, Any]:
    columns = {}
    for name in batch.columns:
        ragged = batch.schema[name].ragged
        columns[name] = _encode(name, batch.ragged(name) if ragged else batch.column(name))
    return {"rows": len(batch), "columns": columns}


def decode_posts(payload: bytes) -> CandidateBatch:
    """The inverse of :func:`encode_posts`.

    Raises
    ------
    DataError
        Not such bytes, or a value that no enum knows.
    """
    try:
        if payload[:4] == _ZSTD_MAGIC:
            import zstandard

            plain = zstandard.ZstdDecompressor().decompress(payload)
        else:
            plain = zlib.decompress(payload)
        document = json.loads(plain)
        if isinstance(document, list):
            return CandidateBatch.from_records(document)
        return _from_columns(document["columns"], document["rows"])
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cached posts cannot be read: {type(error).__name__}: {error}") from error


def _from_columns(columns: dict[str, Any], rows: int) -> CandidateBatch:
    decoded = {}
    for name, stored in columns.items():
        if name not in CandidateBatch.schema:
            raise DataError(f"cached posts have a column {name!r}, candidates have none")
        decoded[name] = _decode(name, CandidateBatch.schema[name], stored, rows)
    return CandidateBatch(decoded, length=rows)


def _encode(name: str, column: Column | Ragged) -> dict[str, Any]:
    stored: dict[str, Any] = {}
    if column.values.dtype.hasobject:
        stored["cells"] = [None if cell is None else encode_cell(name, cell) for cell in column.items()]
        return stored
    stored["values"] = _text(column.values)
    if isinstance(column, Ragged):
        stored["offsets"] = _text(column.offsets)
    if column.valid is not None:
        stored["valid"] = _text(column.valid)
    return stored


def _decode(name: str, field: Field, stored: dict[str, Any], rows: int) -> Column | Ragged:
    dtype = np.dtype(field.dtype)
    if dtype.hasobject:
        cells = [None if cell is None else decode_cell(name, cell) for cell in stored["cells"]]
        values = np.empty(len(cells), object)
        values[:] = cells
        if not field.optional:
            return Column(np.where(_present(cells), values, field.fill))
        return Column(values, _present(cells))
    values = _array(stored["values"], dtype)
    valid = _array(stored["valid"], np.dtype(np.bool_)) if "valid" in stored else None
    if name in _ENUMS:
        known = [member.value for member in _ENUMS[name]]
        strange = values[~np.isin(values, known) & (True if valid is None else valid)]
        if len(strange):
            raise DataError(f"{name} is {strange[0]}, known are {known}")
    if field.ragged:
        return Ragged(values, _offsets(name, _array(stored["offsets"], np.dtype(np.int64)), len(values), rows), valid)
    return Column(values.reshape(rows, field.width) if field.width else values, valid)


def _offsets(name: str, offsets: npt.NDArray[np.int64], size: int, rows: int) -> npt.NDArray[np.int64]:
    if len(offsets) != rows + 1 or offsets[0] != 0 or offsets[-1] != size or (np.diff(offsets) < 0).any():
        raise DataError(f"cached posts: the lists of {name} do not fit {rows} rows")
    return offsets


def _present(cells: list[Any]) -> npt.NDArray[np.bool_]:
    return np.array([cell is not None for cell in cells], np.bool_)


def _text(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()).decode()


def _array(text: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype.newbyteorder("<")).astype(dtype)

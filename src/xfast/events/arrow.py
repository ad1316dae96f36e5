"""Arrow and Parquet: a batch as one flat table, the form on disk.

One column per field name over all variants, null where the variant has no such field or the field has its default. A
query engine reads it as it is: ``SELECT action, count(*) FROM events WHERE kind = 'engagement' GROUP BY action``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError, ParameterError
from xfast.events.batch import MEDIA_DTYPE, Columns, EventBatch
from xfast.events.model import SCHEMAS, Column, Field, Kind
from xfast.events.ragged import Ragged

_FORMAT = b"xfast.events/1"
_KEY = b"xfast.format"


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ParameterError("Arrow tables need pyarrow: pip install 'xfast[data]'") from None
    return pyarrow


def _fields() -> dict[str, Column]:
    merged: dict[str, Column] = {}
    for schema in SCHEMAS.values():
        for field in schema:
            merged.setdefault(field.name, field.column)
    return merged


def arrow_schema() -> Any:
    """Return the ``pyarrow.Schema``: ``event_id``, ``time_ms``, ``kind``, every field, ``data`` (unknown events)."""
    pa = _pyarrow()
    names = pa.dictionary(pa.int8(), pa.string())
    columns = [
        pa.field("event_id", pa.uint64(), nullable=False),
        pa.field("time_ms", pa.int64(), nullable=False),
        pa.field("kind", names, nullable=False),
    ]
    for name, column in _fields().items():
        columns.append(pa.field(name, _arrow_type(pa, column)))
    columns.append(pa.field("data", pa.binary()))
    return pa.schema(columns, metadata={_KEY: _FORMAT})


def _arrow_type(pa: Any, column: Column) -> Any:
    if column.dtype == "media":
        inner: Any = pa.struct([pa.field("kind", pa.uint8()), pa.field("duration_ms", pa.int32())])
    elif column.dtype == "object":
        inner = pa.string()
    elif column.dtype == "bool":
        inner = pa.bool_()
    else:
        inner = pa.from_numpy_dtype(np.dtype(column.dtype))
    return pa.list_(inner) if column.ragged else inner


def to_arrow(batch: EventBatch) -> Any:
    """Return the batch as a ``pyarrow.Table`` of :func:`arrow_schema`.

    Raises
    ------
    ParameterError
        pyarrow is not installed (extra ``data``).
    """
    pa = _pyarrow()
    schema = arrow_schema()
    count = len(batch)
    arrays: list[Any] = [pa.array(batch.event_id), pa.array(batch.time_ms), _kind_column(pa, batch.kind)]
    present = [batch.columns(kind) for kind in SCHEMAS if np.any(batch.kind == kind)]
    for entry in list(schema)[3:-1]:
        having = [(table, field) for table in present for field in SCHEMAS[table.kind] if field.name == entry.name]
        arrays.append(_spread(pa, entry, having, count))
    unknown: list[bytes | None] = [None] * count
    for row, data in zip(np.flatnonzero(batch.kind == Kind.UNKNOWN).tolist(), batch.unknown):
        unknown[row] = data
    arrays.append(pa.array(unknown, pa.binary()) if batch.unknown else pa.nulls(count, pa.binary()))
    return pa.Table.from_arrays(arrays, schema=schema)


def _kind_column(pa: Any, kinds: npt.NDArray[np.uint8]) -> Any:
    members = list(Kind)
    code = np.zeros(256, np.int8)
    for index, member in enumerate(members):
        code[member] = index
    labels = pa.array([member.label for member in members])
    return pa.DictionaryArray.from_arrays(pa.array(code[kinds]), labels)


def _spread(pa: Any, entry: Any, having: list[tuple[Columns, Field]], count: int) -> Any:
    """Scatter the columns of the variants that have a field over all events; everything else is null."""
    if not having:
        return pa.nulls(count, entry.type)
    column = having[0][1].column
    if column.ragged:
        return _spread_ragged(pa, entry, having, count)
    dtype = np.dtype(column.dtype)
    values = np.empty(count, object) if dtype.kind == "O" else np.zeros(count, dtype)
    valid = np.zeros(count, bool)
    for table, field in having:
        values[table.rows] = table[field.name]
        valid[table.rows] = True if field.required else table[field.name] != field.default
    return pa.array(values, entry.type, mask=~valid)


def _spread_ragged(pa: Any, entry: Any, having: list[tuple[Columns, Field]], count: int) -> Any:
    lengths = np.zeros(count, np.int64)
    for table, field in having:
        lengths[table.rows] = table[field.name].lengths
    # A list field belongs to one variant (a test holds the schema to that), so its values are in row order.
    (table, field) = having[0]
    order = np.argsort(table.rows, kind="stable")
    column: Ragged = table[field.name][order]
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    if column.values.dtype == MEDIA_DTYPE:
        parts = [pa.array(np.ascontiguousarray(column.values[name])) for name in ("kind", "duration_ms")]
        values = pa.StructArray.from_arrays(parts, names=["kind", "duration_ms"])
    else:
        values = pa.array(column.values, entry.type.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=entry.type, mask=pa.array(lengths == 0))


def from_arrow(table: Any) -> EventBatch:
    """Return the batch that a table of :func:`arrow_schema` holds; columns that are missing count as all null.

    Raises
    ------
    DataError
        ``event_id``, ``time_ms`` or ``kind`` is missing, or a required field is null; the message names the column and
        the row.
    """
    pa = _pyarrow()
    table = table.combine_chunks()
    for name in ("event_id", "time_ms", "kind"):
        if name not in table.column_names:
            raise DataError(f"event table: column {name!r} is missing")
    labels = table["kind"].cast(pa.string()).to_numpy(zero_copy_only=False)
    number = {kind.label: int(kind) for kind in Kind}
    try:
        kinds = np.array([number[label] for label in labels], np.uint8)
    except KeyError as error:
        raise DataError(f"event table: kind {error} is not one of {', '.join(number)}") from None
    known = {field.name: _arrow_type(pa, field.column) for schema in SCHEMAS.values() for field in schema}
    columns = {name: _chunk(pa, table[name], known[name]) for name in table.column_names if name in known}
    tables = {}
    for kind, schema in SCHEMAS.items():
        rows = np.flatnonzero(kinds == kind)
        if rows.size:
            data = {field.name: _gather(pa, columns.get(field.name), field, rows) for field in schema}
            tables[kind] = Columns(kind, rows, MappingProxyType(data))
    unknown: list[bytes] = []
    if bool(np.any(kinds == Kind.UNKNOWN)):
        where = pa.array(np.flatnonzero(kinds == Kind.UNKNOWN))
        unknown = [data or b"" for data in table["data"].take(where).to_pylist()]
    ids = table["event_id"].cast(pa.uint64()).to_numpy()
    return EventBatch(ids, table["time_ms"].cast(pa.int64()).to_numpy(), kinds, tables, unknown)


def _chunk(pa: Any, column: Any, kind: Any) -> Any:
    chunked = column.cast(kind) if column.type != kind else column
    return chunked.combine_chunks() if chunked.num_chunks != 1 else chunked.chunk(0)


def _gather(pa: Any, column: Any, field: Field, rows: npt.NDArray[np.int64]) -> Any:
    dtype = MEDIA_DTYPE if field.column.dtype == "media" else np.dtype(field.column.dtype)
    if column is None:
        if field.required:
            raise DataError(f"event table: column {field.name!r} is missing")
        return Ragged.filled(rows.size, dtype) if field.column.ragged else np.full(rows.size, field.default, dtype)
    taken = column.take(pa.array(rows))
    if field.column.ragged:
        return _gather_ragged(pa, taken, dtype)
    if taken.null_count:
        if field.required:
            row = int(rows[taken.is_null().to_numpy(zero_copy_only=False).argmax()])
            raise DataError(f"event table: {field.name!r} is null in row {row}, it is required there")
        taken = taken.fill_null(field.default)
    return taken.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _gather_ragged(pa: Any, lists: Any, dtype: np.dtype[Any]) -> Ragged:
    lengths = np.zeros(len(lists), np.int64)
    valid = lists.is_valid().to_numpy(zero_copy_only=False)
    lengths[valid] = lists.drop_null().value_lengths().to_numpy(zero_copy_only=False)
    flat = lists.flatten()
    if dtype == MEDIA_DTYPE:
        values = np.zeros(len(flat), MEDIA_DTYPE)
        for name in ("kind", "duration_ms"):
            values[name] = flat.field(name).to_numpy(zero_copy_only=False)
    else:
        values = flat.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return Ragged(np.r_[0, np.cumsum(lengths)], values)


def write_parquet(batch: EventBatch, path: str | Path) -> None:
    """Write the batch to a Parquet file (zstd), replacing it only when all is written."""
    pa = _pyarrow()
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        pa.parquet.write_table(to_arrow(batch), part, compression="zstd")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def read_parquet(path: str | Path) -> EventBatch:
    """Read a file of :func:`write_parquet`, or any Parquet file with those columns.

    Raises
    ------
    DataError
        The file is missing, is not Parquet, or its columns are not those of events.
    """
    return EventBatch.concat(scan_parquet(path))


def scan_parquet(path: str | Path, *, rows: int = 1 << 20) -> Iterator[EventBatch]:
    """Yield the events of a Parquet file in batches of at most ``rows``, so that a large file needs no large memory."""
    pa = _pyarrow()
    try:
        source = pa.parquet.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None
    with source:
        for piece in source.iter_batches(rows):
            try:
                yield from_arrow(pa.Table.from_batches([piece]))
            except DataError as error:
                error.add_note(f"in {path}")
                raise

"""People's own tables (CSV, TSV, Parquet) as network events, as a ``map.toml`` says; docs/world.md has an example."""

from __future__ import annotations

import csv
import io
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xfast.actions import vocabulary
from xfast.errors import ConfigurationError, DataError, ParameterError
from xfast.events import SCHEMAS, EventBatch, Kind, Media, MediaKind
from xfast.events.model import Field
from xfast.ids import SNOWFLAKE_EPOCH_MS, IdMap
from xfast.world.dataset import Imported, finish
from xfast.world.report import ImportReport

_UNITS = {"s": 1_000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
_WEEK_MS = 7 * 86_400_000
_LIMITS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint64": (-(2**63), 2**64 - 1)}
_TRUE, _FALSE = {"true", "1", "yes", "t", "y"}, {"false", "0", "no", "f", "n", ""}
_TABLE_KEYS = {"file", "kind", "columns", "values", "where", "delimiter", "quote"}
_COLUMN_KEYS = {"column", "unit", "ids", "names", "separator"}

_DATE = "must be a date and time such as 2026-06-01T12:00:00Z"
_SURROGATE = re.compile("[\udc80-\udcff]").search

Parser = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Column:
    """Where the value of one field comes from, and how it is read."""

    field: str
    column: str
    parse: Parser


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of the map, checked."""

    path: Path
    kind: Kind
    columns: tuple[_Column, ...]
    values: Mapping[str, Any]
    where: Mapping[str, tuple[str, ...]]
    delimiter: str
    quote: str


def import_tables(path: str | Path, *, ids: str | Path | None = None) -> tuple[Imported, list[IdMap]]:
    """Read the tables that a map names.

    Parameters
    ----------
    path
        The ``map.toml``; file names in it are relative to its folder.
    ids
        Folder of the maps that turn texts into ids, ``NAMESPACE.ids``: those there are read. None: new ones in memory.

    Returns
    -------
    Imported
        The events in time order, ties in the order of the tables and their rows.
    list of IdMap
        The maps, one per namespace; :meth:`IdMap.save` writes one into ``ids``.

    Raises
    ------
    ConfigurationError
        The map has an unknown key, field or kind, or a required field is missing; the message names it.
    DataError
        A table is missing or cannot be read, has no such column, or no row of any table is usable.
    """
    source = Path(path)
    try:
        document = tomllib.loads(source.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{source}: cannot be read: {error}") from None
    _only(document, {"table", "shift_weeks"}, str(source))
    entries, weeks = document.get("table", []), document.get("shift_weeks", 0)
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"{source}: has no [[table]]")
    if isinstance(weeks, bool) or not isinstance(weeks, int):
        raise ConfigurationError(f"{source}: shift_weeks is {weeks!r}, must be an integer")
    maps = _Maps(None if ids is None else Path(ids))
    report = ImportReport(f"tables {source}")
    if weeks:
        report.notes.append(f"times moved by {weeks} weeks")
    tables = [_table(entry, source, number, maps) for number, entry in enumerate(entries, 1)]
    parts = [_events(table, weeks * _WEEK_MS, report) for table in tables]
    return finish(parts, report), list(maps.known.values())


class _Maps:
    """The id maps by namespace, made when first asked for."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.known = folder, dict[str, IdMap]()

    def get(self, namespace: Any) -> IdMap:
        if not isinstance(namespace, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", namespace):
            raise ConfigurationError(f"ids is {namespace!r}, must be a namespace of letters, digits, _ and -")
        if namespace not in self.known:
            path = None if self.folder is None else self.folder / f"{namespace}.ids"
            self.known[namespace] = IdMap(path, namespace=namespace)
        return self.known[namespace]


def _only(entry: Mapping[str, Any], known: set[str], where: str) -> None:
    strange = sorted(set(entry) - known)
    if strange:
        raise ConfigurationError(f"{where}: unknown key {strange[0]!r}, known are {', '.join(sorted(known))}")


def _table(entry: Any, source: Path, number: int, maps: _Maps) -> _Table:
    where = f"{source}: table {number}"
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where}: must be a table")
    _only(entry, _TABLE_KEYS, where)
    name = entry.get("kind")
    kind = Kind.__members__.get(str(name).upper())
    if kind is None or kind is Kind.UNKNOWN:
        known = ", ".join(member.label for member in SCHEMAS)
        raise ConfigurationError(f"{where}: kind is {name!r}, must be one of {known}")
    if not isinstance(entry.get("file"), str):
        raise ConfigurationError(f"{where}: file is {entry.get('file')!r}, must be a file name")
    schema = {field.name: field for field in SCHEMAS[kind]}
    columns, values = entry.get("columns", {}), dict(entry.get("values", {}))
    for field in (*columns, *values):
        if field not in schema and not (field in ("time", "event_id") and field in columns):
            raise ConfigurationError(
                f"{where}: a {kind.label} event has no field {field!r}; it has time, event_id, {', '.join(schema)}"
            )
    for field in schema.values():
        if field.required and field.name not in columns and field.name not in values:
            raise ConfigurationError(f"{where}: {field.name!r} is missing, a {kind.label} event needs it")
    if "time" not in columns:
        raise ConfigurationError(f"{where}: columns has no 'time'")
    read = tuple(_column(field, spec, schema.get(field), maps, where) for field, spec in columns.items())
    for field, value in values.items():
        parse = _parser(field, {}, schema.get(field), maps, where)
        try:
            values[field] = parse(value)
        except ValueError as error:
            raise ConfigurationError(f"{where}: values.{field} is {value!r}, {error}") from None
    wanted = {
        column: tuple(str(item) for item in (keep if isinstance(keep, list) else [keep]))
        for column, keep in entry.get("where", {}).items()
    }
    path = source.parent / entry["file"]
    delimiter = entry.get("delimiter", "\t" if path.suffix in (".tsv", ".tab") else ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ConfigurationError(f"{where}: delimiter is {delimiter!r}, must be one character")
    quote = entry.get("quote", '"')
    if not isinstance(quote, str) or len(quote) > 1:
        raise ConfigurationError(f"{where}: quote is {quote!r}, must be one character, or empty for none")
    return _Table(path, kind, read, values, wanted, delimiter, quote)


def _column(field: str, spec: Any, schema: Field | None, maps: _Maps, where: str) -> _Column:
    options = {"column": spec} if isinstance(spec, str) else spec
    if not isinstance(options, dict) or not isinstance(options.get("column"), str):
        raise ConfigurationError(f"{where}: columns.{field} is {spec!r}, must be a column name or {{ column = … }}")
    _only(options, _COLUMN_KEYS, f"{where}: columns.{field}")
    return _Column(field, options["column"], _parser(field, options, schema, maps, where))


def _parser(field: str, options: Mapping[str, Any], schema: Field | None, maps: _Maps, where: str) -> Parser:
    """Return what reads one value of a field; it raises ``ValueError`` saying what the value must be."""
    names = options.get("names")
    if names is not None:
        return _named(names, _parser(field, {k: v for k, v in options.items() if k != "names"}, schema, maps, where))
    if field == "time" or field == "created_at_ms":
        return _time(options.get("unit", "ms"), f"{where}: columns.{field}")
    if field == "action":
        return _action
    if schema is None:  # event_id
        return _id(options, maps)
    column = schema.column
    if column.ragged:
        item = _media if column.dtype == "media" else _id(options, maps) if column.dtype == "uint64" else str
        return _several(item, options.get("separator", "|"))
    if column.enum is not None:
        return _member(column.enum)
    if column.dtype == "uint64":
        return _id(options, maps)
    if column.dtype in _LIMITS:
        return _integer(*_LIMITS[column.dtype])
    plain: dict[str, Parser] = {"float32": _number, "bool": _flag, "object": _text}
    return plain[column.dtype]


def _named(names: Any, parse: Parser) -> Parser:
    if not isinstance(names, dict):
        raise ConfigurationError(f"names is {names!r}, must be a table")

    def read(value: Any) -> Any:
        try:
            return parse(names[str(value)])
        except KeyError:
            raise ValueError(f"must be one of {', '.join(names)}") from None

    return read


def _time(unit: Any, where: str) -> Parser:
    if unit != "iso" and unit not in _UNITS:
        raise ConfigurationError(f"{where}: unit is {unit!r}, must be iso, {', '.join(_UNITS)}")

    def read(value: Any) -> int:
        if isinstance(value, str) and unit == "iso":
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise ValueError(_DATE) from None
        if isinstance(value, datetime):
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1000)
        if unit == "iso":
            raise ValueError(_DATE)
        # Integers stay integers: nanoseconds do not fit a float.
        if isinstance(value, int) or (isinstance(value, str) and value.strip().lstrip("-").isdecimal()):
            number = int(value)
            return number * 1000 if unit == "s" else number // {"ms": 1, "us": 1_000, "ns": 1_000_000}[unit]
        return round(_number(value) * _UNITS[unit])

    return read


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number")
    return number


def _id(options: Mapping[str, Any], maps: _Maps) -> Parser:
    namespace = options.get("ids")
    if namespace is None:
        return _integer(*_LIMITS["uint64"])
    ids = maps.get(namespace)

    def read(value: Any) -> int:
        text = str(value)
        if not text:
            raise ValueError("must not be empty")
        return ids.id(text)

    return read


def _integer(low: int, high: int) -> Parser:
    def read(value: Any) -> int:
        if isinstance(value, float | bool) and not float(value).is_integer():
            raise ValueError("must be a whole number")
        try:
            number = int(value)
        except (ValueError, TypeError, OverflowError):
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be in [{low}, {high}]")
        return number

    return read


def _action(value: Any) -> int:
    if isinstance(value, str) and not value.isdecimal():
        try:
            return vocabulary("proto").column(value)
        except ParameterError as error:
            raise ValueError(str(error)) from None
    return int(_integer(0, 63)(value))


def _member(enum: Any) -> Parser:
    def read(value: Any) -> int:
        text = str(value).strip().upper()
        if text in enum.__members__:
            return int(enum[text])
        if text.isdecimal() and int(text) in iter(enum):
            return int(text)
        raise ValueError(f"must be one of {', '.join(name.lower() for name in enum.__members__)}")

    return read


def _media(value: Any) -> Media:
    kind, _, duration = str(value).partition(":")
    number = int(_integer(0, 2**31 - 1)(duration)) if duration else 0
    return Media(MediaKind(_member(MediaKind)(kind)), number)


def _several(item: Parser, separator: Any) -> Parser:
    def read(value: Any) -> tuple[Any, ...]:
        parts = value if isinstance(value, list | tuple) else [part for part in str(value).split(separator) if part]
        return tuple(item(part) for part in parts)

    return read


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("must be true or false")


def _text(value: Any) -> str:
    return str(value)


def _events(table: _Table, shift_ms: int, report: ImportReport) -> EventBatch:
    header, rows = _read(table, report)
    places = {name: index for index, name in enumerate(header)}
    for name in (*(column.column for column in table.columns), *table.where):
        if name not in places:
            raise DataError(f"{table.path}: has no column {name!r}, it has {', '.join(header)}")
    keep = [(places[name], set(values)) for name, values in table.where.items()]
    schema = {field.name: field for field in SCHEMAS[table.kind]}
    picks = [(column, places[column.column]) for column in table.columns]
    found: dict[str, list[Any]] = {column.field: [] for column in table.columns}
    for line, row in rows:
        if any(str(row[place]) not in values for place, values in keep):
            continue
        parsed = []
        for column, place in picks:
            value = row[place]
            try:
                known = schema.get(column.field)
                if value is None or (value == "" and known is not None and not known.required):
                    if known is None or known.required:
                        raise ValueError("must not be empty")
                    parsed.append(known.default)
                    continue
                item = column.parse(value)
                if column.field in ("time", "created_at_ms"):
                    item += shift_ms
                    if item < SNOWFLAKE_EPOCH_MS:
                        raise ValueError("must not be before 4 November 2010 (shift_weeks in the map moves all times)")
                parsed.append(item)
            except (ValueError, OverflowError) as error:
                report.add(table.path.name, line, f"{column.column} {error}", repr(value)[:60])
                break
        else:
            for (column, _), item in zip(picks, parsed):
                found[column.field].append(item)
    times = np.array(found.pop("time"), np.int64)
    numbers = found.pop("event_id", None)
    constants = {name: [value] * times.size for name, value in table.values.items()}
    return EventBatch.of(table.kind, times, numbers or None, **found, **constants)


def _read(table: _Table, report: ImportReport) -> tuple[list[str], Iterator[tuple[int, Sequence[Any]]]]:
    """Return the column names and the rows with their line (CSV) or row number (Parquet), from 1."""
    try:
        if table.path.suffix == ".parquet":
            return _read_parquet(table.path, report)
        # Bytes that are no UTF-8 become lone surrogates, so that only their rows are lost.
        text = table.path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{table.path}: cannot be read: {error}") from None
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if table.quote else csv.QUOTE_NONE
    # Not splitlines(): it also splits at form feeds and the like, which texts may hold.
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=table.delimiter, quotechar=table.quote or None, quoting=quoting
    )
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{table.path}: line 1 is no header: {error}") from None
    return header, _csv_rows(reader, header, table.path.name, report)


def _csv_rows(reader: Any, header: list[str], file: str, report: ImportReport) -> Iterator[tuple[int, Sequence[Any]]]:
    count = 0
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            count += 1
            report.add(file, line, str(error))
            continue
        count += 1
        if len(row) != len(header):
            swallowed = f"a quote runs to line {reader.line_num}" if reader.line_num > line else ""
            report.add(file, line, f"{len(row)} fields instead of {len(header)}", swallowed)
        elif any(not value.isascii() and _SURROGATE(value) for value in row):
            report.add(file, line, "not UTF-8")
        else:
            yield line, row
    report.rows[file] = count


def _read_parquet(path: Path, report: ImportReport) -> tuple[list[str], Iterator[tuple[int, Sequence[Any]]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ParameterError("Parquet tables need pyarrow: pip install 'xfast[data]'") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from None
    report.rows[path.name] = table.num_rows
    columns = [table[name].to_pylist() for name in table.column_names]
    return table.column_names, enumerate(zip(*columns), 1)

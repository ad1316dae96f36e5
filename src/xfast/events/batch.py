"""EventBatch: many events as columns, in order.

Three arrays run over all events (``event_id``, ``time_ms``, ``kind``); the fields of each variant are columns over the
events of that variant only, beside ``rows``, their places in the batch. A consumer takes the variants it wants and
never touches a Python object per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events.model import BODIES, SCHEMAS, Field, Kind, Media, MediaKind, NetworkEvent, Unknown
from xfast.events.ragged import Ragged
from xfast.ids import as_uint64, snowflake

MEDIA_DTYPE = np.dtype([("kind", np.uint8), ("duration_ms", np.int32)])
"""One media item in a column."""

ColumnData = npt.NDArray[Any] | Ragged


@dataclass(frozen=True, slots=True, eq=False)
class Columns(Mapping[str, ColumnData]):
    """The events of one variant: ``rows`` [n] int64, their places in the batch, and one column of length n per field.

    A column is an array (ids uint64, texts object), or a :class:`Ragged` for lists (topics, media, languages). Optional
    references are 0 where there is none.
    """

    kind: Kind
    rows: npt.NDArray[np.int64]
    data: Mapping[str, ColumnData]

    def __getitem__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise ParameterError(
                f"a {self.kind.label} event has no field {name!r}, it has {', '.join(self.data)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        """The number of fields; ``rows.size`` is the number of events."""
        return len(self.data)


class EventBatch:
    """Events as columns, in order.

    Build one with :meth:`from_events` (Python events), :meth:`of` (columns of one variant) and :meth:`concat`.

    Attributes
    ----------
    event_id
        [N] uint64, 0 where the producer gave none.
    time_ms
        [N] int64, Unix milliseconds.
    kind
        [N] uint8, numbers of :class:`Kind`.
    """

    __slots__ = ("_tables", "event_id", "kind", "time_ms", "unknown")

    def __init__(
        self,
        event_id: npt.NDArray[np.uint64],
        time_ms: npt.NDArray[np.int64],
        kind: npt.NDArray[np.uint8],
        tables: Mapping[Kind, Columns],
        unknown: Sequence[bytes] = (),
    ) -> None:
        self.event_id, self.time_ms, self.kind = event_id, time_ms, kind
        self._tables = MappingProxyType(dict(tables))
        self.unknown: tuple[bytes, ...] = tuple(unknown)
        """The events of variants that this release does not know, as they came, in order."""

    # Construction -----------------------------------------------------------------------------------------------------

    @classmethod
    def of(
        cls, kind: str | Kind, /, time_ms: npt.ArrayLike, event_id: npt.ArrayLike | None = None, **columns: Any
    ) -> EventBatch:
        """Return the events of one variant from columns.

        Parameters
        ----------
        kind
            Such as ``"post"`` or ``Kind.ENGAGEMENT``.
        time_ms
            [N] event times.
        event_id
            [N]; 0 for all if left out (:meth:`numbered` mints them).
        **columns
            The fields of the variant: an array or sequence of length N, a scalar for all, a :class:`Ragged` or a
            sequence of sequences for lists. Optional fields may be left out.

        Raises
        ------
        ParameterError
            An unknown or missing field, a wrong length, or values that do not fit the column.
        """
        which = _kind(kind)
        times = _typed(np.atleast_1d(np.asarray(time_ms)), np.dtype(np.int64), f"{which.label} time_ms")
        count = times.size
        if times.ndim != 1:
            raise ParameterError(f"time_ms has shape {times.shape}, must have one axis")
        ids = np.zeros(count, np.uint64) if event_id is None else as_uint64(event_id, name="event_id")
        if ids.shape != (count,):
            raise ParameterError(f"event_id has shape {ids.shape}, must be ({count},) as time_ms")
        schema = SCHEMAS[which]
        strange = set(columns) - {field.name for field in schema}
        if strange:
            raise ParameterError(f"a {which.label} event has no field {sorted(strange)[0]!r}")
        data = {field.name: _column(field, columns.get(field.name), count, which) for field in schema}
        table = Columns(which, np.arange(count), MappingProxyType(data))
        return cls(ids, times, np.full(count, which, np.uint8), {which: table} if count else {})

    @classmethod
    def from_events(cls, events: Iterable[NetworkEvent]) -> EventBatch:
        """Return the columns of Python events."""
        everything = list(events)
        kinds = np.array([Kind[event.kind.upper()] for event in everything], np.uint8)
        ids = as_uint64(np.array([event.event_id for event in everything], object), name="event_id")
        times = np.array([event.time_ms for event in everything], np.int64)
        tables = {}
        for kind in _present(kinds):
            rows = np.flatnonzero(kinds == kind)
            bodies = [everything[row].body for row in rows]
            data = {
                field.name: _column(field, [getattr(body, field.name) for body in bodies], len(bodies), kind)
                for field in SCHEMAS[kind]
            }
            tables[kind] = Columns(kind, rows, MappingProxyType(data))
        unknown = [event.body.data for event in everything if isinstance(event.body, Unknown)]
        return cls(ids, times, kinds, tables, unknown)

    @classmethod
    def from_bytes(cls, messages: Iterable[bytes]) -> EventBatch:
        """Decode protobuf messages; unknown variants are kept and counted (:meth:`counts`).

        Raises
        ------
        DataError
            A message is not a ``NetworkEvent``; the note names its index.
        """
        from xfast.events.wire import decode_columns

        found = decode_columns(messages)
        tables = {}
        for kind, values in found.values.items():
            rows = np.array(found.rows[kind], np.int64)
            lists = zip(SCHEMAS[kind], zip(*values))
            data = {field.name: _column(field, _fitting(field, column), rows.size, kind) for field, column in lists}
            tables[kind] = Columns(kind, rows, MappingProxyType(data))
        ids = np.array(found.event_id, np.uint64)
        return cls(ids, np.array(found.time_ms, np.int64), np.array(found.kind, np.uint8), tables, found.unknown)

    @classmethod
    def concat(cls, batches: Iterable[EventBatch]) -> EventBatch:
        """Return the events of several batches, one after the other."""
        parts = list(batches)
        starts = np.cumsum([0, *(len(part) for part in parts)])
        tables = {}
        for kind in BODIES:
            pieces = [(start, part._tables[kind]) for start, part in zip(starts, parts) if kind in part._tables]
            if pieces:
                rows = np.concatenate([piece.rows + start for start, piece in pieces])
                data = {
                    field.name: _concatenate([piece.data[field.name] for _, piece in pieces]) for field in SCHEMAS[kind]
                }
                tables[kind] = Columns(kind, rows, MappingProxyType(data))
        empty = cls.empty()
        parts = parts or [empty]
        return cls(
            np.concatenate([part.event_id for part in parts]),
            np.concatenate([part.time_ms for part in parts]),
            np.concatenate([part.kind for part in parts]),
            tables,
            [data for part in parts for data in part.unknown],
        )

    @classmethod
    def empty(cls) -> EventBatch:
        """Return a batch of no events."""
        return cls(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.uint8), {})

    # Reading ----------------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self.kind.size)

    def columns(self, kind: str | Kind) -> Columns:
        """Return the events of one variant; no rows if there are none.

        Raises
        ------
        ParameterError
            There is no such variant.
        """
        which = _kind(kind)
        table = self._tables.get(which)
        if table is None:
            data = {field.name: _column(field, (), 0, which) for field in SCHEMAS[which]}
            table = Columns(which, np.zeros(0, np.int64), MappingProxyType(data))
        return table

    def counts(self) -> dict[str, int]:
        """Return the number of events per variant that occurs, ``unknown`` among them, in field-number order."""
        numbers, counts = np.unique(self.kind, return_counts=True)
        return {Kind(number).label: int(count) for number, count in zip(numbers.tolist(), counts.tolist())}

    def __getitem__(self, row: int) -> NetworkEvent:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of a batch of {len(self)} events")
        row %= len(self)
        return next(iter(self.take(np.array([row]))))

    def __iter__(self) -> Iterator[NetworkEvent]:
        bodies: list[Any] = [None] * len(self)
        for kind, table in self._tables.items():
            cls = BODIES[kind]
            names = [field.name for field in SCHEMAS[kind]]
            values = [_python(field, table.data[field.name]) for field in SCHEMAS[kind]]
            for row, *items in zip(table.rows.tolist(), *values):
                bodies[row] = cls(**dict(zip(names, items)))
        for row, data in zip(np.flatnonzero(self.kind == Kind.UNKNOWN).tolist(), self.unknown):
            bodies[row] = Unknown(data)
        for body, time, number in zip(bodies, self.time_ms.tolist(), self.event_id.tolist()):
            yield NetworkEvent(body, time, number)

    def to_bytes(self) -> list[bytes]:
        """Encode every event as protobuf, in order."""
        from xfast.events.wire import encode_columns

        result: list[bytes] = [b""] * len(self)
        for kind, table in self._tables.items():
            columns = [_wire(field, table.data[field.name]) for field in SCHEMAS[kind]]
            names = [field.name for field in SCHEMAS[kind]]
            times, ids = self.time_ms[table.rows].tolist(), self.event_id[table.rows].tolist()
            for row, data in zip(table.rows.tolist(), encode_columns(kind, ids, times, names, zip(*columns))):
                result[row] = data
        for row, data in zip(np.flatnonzero(self.kind == Kind.UNKNOWN).tolist(), self.unknown):
            result[row] = data
        return result

    # Reordering -------------------------------------------------------------------------------------------------------

    def take(self, rows: npt.ArrayLike) -> EventBatch:
        """Return the events at ``rows``, in that order; a boolean mask keeps where it is true."""
        wanted = np.asarray(rows)
        if wanted.dtype == np.bool_:
            if wanted.shape != (len(self),):
                raise ParameterError(f"mask has shape {wanted.shape}, must be ({len(self)},)")
            wanted = np.flatnonzero(wanted)
        elif wanted.size == 0:
            wanted = wanted.astype(np.int64)
        kinds = self.kind[wanted]
        place = np.zeros(len(self), np.int64)  # of an event within its variant
        for table in self._tables.values():
            place[table.rows] = np.arange(table.rows.size)
        unknown_rows = np.flatnonzero(self.kind == Kind.UNKNOWN)
        place[unknown_rows] = np.arange(unknown_rows.size)
        tables = {}
        for kind in _present(kinds):
            here = np.flatnonzero(kinds == kind)
            within = place[wanted[here]]
            data = {name: column[within] for name, column in self._tables[kind].data.items()}
            tables[kind] = Columns(kind, here, MappingProxyType(data))
        unknown = [self.unknown[index] for index in place[wanted[kinds == Kind.UNKNOWN]].tolist()]
        return EventBatch(self.event_id[wanted], self.time_ms[wanted], kinds, tables, unknown)

    def replace(self, kind: str | Kind, /, **columns: Any) -> EventBatch:
        """Return the same events with other values in some columns of one variant (as for :meth:`of`)."""
        which = _kind(kind)
        table = self.columns(which)
        known = {field.name: field for field in SCHEMAS[which]}
        strange = set(columns) - set(known)
        if strange:
            raise ParameterError(f"a {which.label} event has no field {sorted(strange)[0]!r}")
        made = {name: _column(known[name], values, table.rows.size, which) for name, values in columns.items()}
        tables = {**self._tables, which: Columns(which, table.rows, MappingProxyType({**table.data, **made}))}
        return EventBatch(self.event_id, self.time_ms, self.kind, tables, self.unknown)

    def sorted(self) -> EventBatch:
        """Return the events in time order; events of one millisecond keep their order."""
        order = np.argsort(self.time_ms, kind="stable")
        return self if bool(np.all(order[1:] > order[:-1])) else self.take(order)

    def numbered(self) -> EventBatch:
        """Return the events with ids minted where ``event_id`` is 0.

        Ids are snowflakes of the event time with a counter within the millisecond. The same events in the same order
        get the same ids, so that a repeated import is recognised.

        Raises
        ------
        ParameterError
            A time lies before the snowflake epoch, or more than 4,194,304 events share a millisecond.
        """
        missing = np.flatnonzero(self.event_id == 0)
        if not missing.size:
            return self
        ids = self.event_id.copy()
        ids[missing] = snowflake(self.time_ms[missing], rank_within(self.time_ms[missing]))
        return EventBatch(ids, self.time_ms, self.kind, self._tables, self.unknown)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.counts().items())
        return f"<EventBatch of {len(self)} events: {counts or 'empty'}>"


def rank_within(groups: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return for each element how many equal ones come before it, [N]."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if ordered.size else np.zeros(0, np.int64)
    lengths = np.diff(np.r_[starts, ordered.size])
    ranks = np.empty(groups.size, np.int64)
    ranks[order] = np.arange(groups.size) - np.repeat(starts, lengths)
    return ranks


def _kind(kind: str | Kind) -> Kind:
    which = kind if isinstance(kind, Kind) else Kind.__members__.get(str(kind).upper())
    if which is None or which is Kind.UNKNOWN:
        raise ParameterError(f"kind is {kind!r}, must be one of {', '.join(known.label for known in BODIES)}")
    return which


def _present(kinds: npt.NDArray[np.uint8]) -> list[Kind]:
    return [Kind(number) for number in np.unique(kinds).tolist() if number != Kind.UNKNOWN]


def _column(field: Field, values: Any, count: int, kind: Kind) -> ColumnData:
    name = f"{kind.label} {field.name}"
    column = field.column
    if values is None:
        if field.required:
            raise ParameterError(f"{name} is missing: it is required")
        if column.ragged:
            return Ragged.filled(count, _dtype(column.dtype))
        values = field.default
    if column.ragged:
        result = values if isinstance(values, Ragged) else _ragged(values, column.dtype, name)
        result = Ragged(result.offsets, _typed(result.values, _dtype(column.dtype), name))
    else:
        if not isinstance(values, np.ndarray) and column.dtype == "object":
            values = _objects(values if isinstance(values, list | tuple) else [values])
        if column.dtype == "uint64":
            array: npt.NDArray[Any] = as_uint64(values, name=name)
        else:
            array = _typed(np.asarray(values), np.dtype(column.dtype), name)
        if array.ndim == 0 or (array.shape == (1,) and count != 1 and not isinstance(values, list)):
            array = np.repeat(array.reshape(1), count)
        if array.shape != (count,):
            raise ParameterError(f"{name} has shape {array.shape}, must be ({count},)")
        return array
    if len(result) != count:
        raise ParameterError(f"{name} has {len(result)} lists, must have {count}")
    return result


def _dtype(name: str) -> np.dtype[Any]:
    return MEDIA_DTYPE if name == "media" else np.dtype(name)


def _objects(values: Sequence[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _ragged(lists: Iterable[Sequence[Any]], dtype: str, name: str) -> Ragged:
    lists = list(lists)
    flat = [item for items in lists for item in items]
    if dtype == "media":
        records = [(int(item.kind), item.duration_ms) for item in flat if isinstance(item, Media)]
        if len(records) != len(flat):
            raise ParameterError(f"{name} must hold Media values")
        values: Any = np.array(records, MEDIA_DTYPE)
    elif dtype == "object":
        values = _objects(flat)
    else:
        values = np.array(flat, object if flat else np.int64)
    return Ragged(np.cumsum([0, *map(len, lists)]), values)


def _typed(array: npt.NDArray[Any], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    if array.dtype == dtype and dtype.kind != "O":
        return array
    if dtype == np.uint64:
        return as_uint64(array, name=name)
    if dtype.kind == "O":
        if array.dtype.kind in "OUT" and all(isinstance(item, str) for item in array.ravel()):
            return array.astype(object)
        raise ParameterError(f"{name} must hold texts")
    if dtype == np.bool_ and array.dtype != np.bool_ and array.size:
        raise ParameterError(f"{name} has dtype {array.dtype}, must be bool")
    if dtype == MEDIA_DTYPE:
        raise ParameterError(f"{name} has dtype {array.dtype}, must be {dtype}")
    if dtype.kind in "iu" and array.size:
        if array.dtype.kind not in "iub" and not (array.dtype == object and all(isinstance(x, int) for x in array)):
            raise ParameterError(f"{name} has dtype {array.dtype}, must be an integer dtype")
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            raise ParameterError(f"{name} reaches from {low} to {high}, must fit {dtype}")
    return array.astype(dtype)


def _concatenate(columns: Sequence[Any]) -> ColumnData:
    if isinstance(columns[0], Ragged):
        return Ragged.concat(columns)
    return np.concatenate(columns)


def _python(field: Field, column: Any) -> list[Any]:
    if isinstance(column, Ragged):
        if field.column.dtype == "media":
            kinds = [Media(_media_kind(kind), duration) for kind, duration in column.values.tolist()]
            bounds = column.offsets.tolist()
            return [tuple(kinds[start:stop]) for start, stop in pairwise(bounds)]
        return [tuple(items) for items in column.tolist()]
    values: list[Any] = column.tolist()
    if field.column.enum is not None:
        enum = field.column.enum
        members = {member.value: member for member in enum}
        return [members.get(value, members[0]) for value in values]
    return values


def _fitting(field: Field, values: tuple[Any, ...]) -> list[Any]:
    """Decoded values as a list; a named number that a later release added and that fits no byte reads as unknown."""
    if field.column.enum is not None:
        return [value if 0 <= value < 256 else 0 for value in values]
    return list(values)


def _wire(field: Field, column: Any) -> list[Any]:
    """The values of a column as protobuf takes them."""
    if isinstance(column, Ragged) and field.column.dtype == "media":
        items = [{"kind": kind, "duration_ms": duration} for kind, duration in column.values.tolist()]
        return [items[start:stop] for start, stop in pairwise(column.offsets.tolist())]
    if isinstance(column, np.ndarray) and column.dtype.kind == "f":
        column = column + 0.0  # -0.0 is written like 0.0, as a single event's codec does
    return list(column.tolist())


_MEDIA_KINDS = {member.value: member for member in MediaKind}


def _media_kind(number: int) -> MediaKind:
    return _MEDIA_KINDS.get(number, MediaKind.UNKNOWN)

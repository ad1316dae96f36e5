"""Columnar batches: named NumPy columns with validity, and views that gather a row only when someone reads it.

A batch never changes. ``take`` and ``with_columns`` return new ones that share memory with the old, so that every
component of a stage can look at the same batch while others are still at work, and "a copy of all candidates before
filtering" costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError

__all__ = ["Column", "ColumnarBatch", "Field", "Mask", "Ragged"]

Mask = npt.NDArray[np.bool_]
_Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Field:
    """How a column is stored.

    Attributes
    ----------
    dtype
        Element type; ``object`` for texts and small records.
    fill
        What an unset cell holds. It must never be read as a value where the column is optional.
    optional
        Whether cells may be unset (a validity mask is kept).
    width
        0 for one value per row, n for a fixed ``[N, n]`` matrix.
    ragged
        One list of values per row.
    """

    dtype: npt.DTypeLike
    fill: Any = 0
    optional: bool = True
    width: int = 0
    ragged: bool = False

    def __post_init__(self) -> None:
        # Compared with every column that is written; a scalar type would be turned into a dtype each time.
        object.__setattr__(self, "dtype", np.dtype(self.dtype))


@dataclass(frozen=True, slots=True)
class Column:
    """Values ``[N]`` or ``[N, width]`` and the mask ``[N]`` of set cells; ``valid is None`` means that all are set."""

    values: npt.NDArray[Any]
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: _Indices) -> Column:
        """Rows ``indices`` in that order."""
        # ndarray.take costs two thirds of indexing, and this runs for every column that is read after a filter.
        return Column(self.values.take(indices, 0), None if self.valid is None else self.valid.take(indices))

    def mask(self) -> Mask:
        """The validity mask as an array, also where every cell is set."""
        return np.ones(len(self.values), np.bool_) if self.valid is None else self.valid

    def filled(self, fill: Any) -> npt.NDArray[Any]:
        """Values with ``fill`` in unset cells."""
        return self.values if self.valid is None else np.where(self.valid, self.values, fill)

    def item(self, row: int) -> Any:
        """The cell as a Python value, ``None`` when unset."""
        if self.valid is not None and not self.valid[row]:
            return None
        value = self.values[row]
        return value.item() if isinstance(value, np.generic) else value

    def items(self) -> list[Any]:
        """Every cell as :meth:`item` gives it."""
        if self.values.ndim > 1:
            return [self.item(row) for row in range(len(self))]
        cells: list[Any] = self.values.tolist()
        if self.values.dtype.hasobject:
            cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
        if self.valid is not None:
            return [cell if there else None for cell, there in zip(cells, self.valid.tolist(), strict=True)]
        return cells


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list per row: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``; an unset row differs from an empty list."""

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    valid: Mask | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[Any] | npt.NDArray[Any] | None], dtype: npt.DTypeLike) -> Ragged:
        """Build from Python lists; ``None`` is an unset row."""
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([0 if row is None else len(row) for row in rows], out=offsets[1:])
        values = np.empty(int(offsets[-1]), dtype)
        for start, row in zip(offsets, rows, strict=False):
            if row is not None and len(row):
                values[start : start + len(row)] = row
        if all(row is not None for row in rows):
            return cls(values, offsets)
        return cls(values, offsets, np.array([row is not None for row in rows], np.bool_))

    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of values per row."""
        return self.offsets[1:] - self.offsets[:-1]

    def mask(self) -> Mask:
        """The validity mask as an array."""
        return np.ones(len(self), np.bool_) if self.valid is None else self.valid

    def row(self, row: int) -> npt.NDArray[Any]:
        """The values of one row (empty when unset)."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def item(self, row: int) -> list[Any] | None:
        """One row as a Python list, ``None`` when unset."""
        if self.valid is not None and not self.valid[row]:
            return None
        items: list[Any] = self.row(row).tolist()
        return items

    def items(self) -> list[list[Any] | None]:
        """Every row as :meth:`item` gives it."""
        values, ends = self.values.tolist(), self.offsets.tolist()
        rows = [values[begin:end] for begin, end in itertools.pairwise(ends)]
        if self.valid is None:
            return list(rows)
        return [row if there else None for row, there in zip(rows, self.valid.tolist(), strict=True)]

    def owners(self) -> npt.NDArray[np.int64]:
        """For every value, the row it belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths())

    def take(self, indices: _Indices) -> Ragged:
        """Rows ``indices`` in that order."""
        valid = None if self.valid is None else self.valid[indices]
        if not len(self.values):
            return Ragged(self.values, np.zeros(len(indices) + 1, np.int64), valid)
        starts = self.offsets[:-1][indices]
        lengths = self.offsets[1:][indices] - starts
        offsets = np.zeros(len(indices) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        positions = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], lengths)
        return Ragged(self.values[positions], offsets, valid)


def _unset(field: Field, length: int) -> Column | Ragged:
    if field.ragged:
        valid = np.zeros(length, np.bool_) if field.optional else None
        return Ragged(np.empty(0, field.dtype), np.zeros(length + 1, np.int64), valid)
    shape = (length, field.width) if field.width else (length,)
    return Column(np.full(shape, field.fill, field.dtype), np.zeros(length, np.bool_) if field.optional else None)


def _concat_columns(field: Field, parts: Sequence[Column | Ragged]) -> Column | Ragged:
    masks = None
    if field.optional and any(part.valid is not None for part in parts):
        masks = np.concatenate([part.mask() for part in parts])
    if not field.ragged:
        return Column(np.concatenate([part.values for part in parts]), masks)
    ragged = [part for part in parts if isinstance(part, Ragged)]
    ends = np.cumsum([0, *(len(part.values) for part in ragged)])
    offsets = [part.offsets[:-1] + end for part, end in zip(ragged, ends, strict=False)]
    return Ragged(np.concatenate([part.values for part in ragged]), np.concatenate([*offsets, ends[-1:]]), masks)


class ColumnarBatch:
    """Rows of named columns after a fixed schema; immutable, with lazy row selection.

    Subclasses set :attr:`schema` (name -> :class:`Field`) and may name an integer column in :attr:`key` by which a
    trace finds a row. A column that nobody wrote reads as unset (or as the fill value where it is not optional).

    Parameters
    ----------
    columns
        Name -> :class:`Column`, :class:`Ragged`, or anything NumPy turns into values (all set).
    length
        Number of rows; needed only when ``columns`` is empty.

    Raises
    ------
    DataError
        Unknown name, or columns of different lengths.
    """

    schema: ClassVar[Mapping[str, Field]] = {}
    key: ClassVar[str | None] = None
    __slots__ = ("_base", "_cache", "_columns", "_length", "_parts", "_rows")

    def __init__(self, columns: Mapping[str, Any] | None = None, *, length: int | None = None) -> None:
        checked: dict[str, Column | Ragged] = {}
        for name, value in (columns or {}).items():
            checked[name] = self.cast(name, value)
            if length is None:
                length = len(checked[name])
            elif len(checked[name]) != length:
                raise DataError(f"column {name!r} has {len(checked[name])} rows, must have {length} like the others")
        self._columns = checked
        self._length = length or 0
        self._base: Self | None = None
        self._rows: _Indices | None = None
        self._parts: tuple[Self, ...] = ()
        self._cache: dict[str, Column | Ragged] = {}

    @classmethod
    def cast(cls, name: str, value: Any) -> Column | Ragged:
        """Bring a value to the column's declared form, without copying where it already has it."""
        field = cls.schema.get(name)
        if field is None:
            raise DataError(f"{cls.__name__} has no column {name!r}; it has {', '.join(sorted(cls.schema))}")
        if field.ragged:
            ragged = value if isinstance(value, Ragged) else Ragged.from_lists(value, field.dtype)
            if ragged.values.dtype == field.dtype:
                return ragged
            return Ragged(ragged.values.astype(field.dtype), ragged.offsets, ragged.valid)
        column = value if isinstance(value, Column) else Column(np.asarray(value, field.dtype))
        if column.values.dtype != field.dtype:
            column = Column(column.values.astype(field.dtype), column.valid)
        if column.values.ndim != (2 if field.width else 1):
            form = f"[N, {field.width}]" if field.width else "[N]"
            raise DataError(f"column {name!r} has shape {column.values.shape}, must be {form}")
        return column

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """Build from one mapping per row; an absent key or ``None`` is unset."""
        records = list(rows)
        columns: dict[str, Column | Ragged] = {}
        for name in dict.fromkeys(name for record in records for name in record):
            field = cls.schema.get(name)
            if field is None:
                cls.cast(name, ())
                continue
            cells = [record.get(name) for record in records]
            if field.ragged:
                columns[name] = Ragged.from_lists(
                    [[] if c is None and not field.optional else c for c in cells], field.dtype
                )
                continue
            shape = (len(records), field.width) if field.width else (len(records),)
            values = np.full(shape, field.fill, field.dtype)
            for row, cell in enumerate(cells):
                if cell is not None:
                    values[row] = cell
            valid = np.array([cell is not None for cell in cells], np.bool_) if field.optional else None
            columns[name] = Column(values, valid)
        return cls(columns, length=len(records))

    @classmethod
    def concat(cls, batches: Sequence[Self]) -> Self:
        """All rows of ``batches`` in order, a column joined when it is first read.

        A column that one of them lacks is unset there.
        """
        parts = tuple(batch for batch in batches if len(batch))
        if len(parts) == 1:
            return parts[0]
        whole = cls._make({}, sum(len(part) for part in parts))
        whole._parts = parts
        return whole

    @classmethod
    def _make(cls, columns: dict[str, Column | Ragged], length: int) -> Self:
        batch = cls.__new__(cls)
        batch._columns = columns
        batch._length = length
        batch._base = None
        batch._rows = None
        batch._parts = ()
        batch._cache = {}
        return batch

    def __len__(self) -> int:
        return self._length

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that somebody wrote."""
        below = self._parts if self._base is None else (self._base,)
        return tuple(dict.fromkeys((*self._columns, *(name for batch in below for name in batch.columns))))

    def has(self, name: str) -> bool:
        """Whether somebody wrote the column."""
        if name in self._columns:
            return True
        if self._base is not None:
            return self._base.has(name)
        return any(part.has(name) for part in self._parts)

    def _own(self, name: str) -> Column | Ragged | None:
        column = self._columns.get(name)
        return self._cache.get(name) if column is None else column

    def _read(self, name: str) -> Column | Ragged:
        column = self._own(name)
        if column is not None:
            return column
        # Down to the batch that holds the column, so that a view of a view gathers its own rows only.
        holder, rows = self, None
        while column is None and holder._base is not None and holder._rows is not None:
            rows = holder._rows if rows is None else holder._rows.take(rows)
            holder = holder._base
            column = holder._own(name)
        if column is None:
            column = holder._join(name)
        if column is None:
            field = self.schema.get(name)
            column = _unset(field, self._length) if field is not None else self.cast(name, ())
        elif rows is not None:
            column = column.take(rows)
        self._cache[name] = column
        return column

    def _join(self, name: str) -> Column | Ragged | None:
        """A column of all parts; ``None`` when none of them has it."""
        if not any(part.has(name) for part in self._parts):
            return None
        column = _concat_columns(self.schema[name], [part._read(name) for part in self._parts])
        self._cache[name] = column
        return column

    def column(self, name: str) -> Column:
        """A plain column; unset cells where nobody wrote it."""
        column = self._read(name)
        if not isinstance(column, Column):
            raise DataError(f"column {name!r} is ragged; read it with .ragged({name!r})")
        return column

    def ragged(self, name: str) -> Ragged:
        """A column of lists."""
        column = self._read(name)
        if not isinstance(column, Ragged):
            raise DataError(f"column {name!r} is not ragged; read it with .column({name!r})")
        return column

    def values(self, name: str) -> npt.NDArray[Any]:
        """The values of a plain column; where the column is optional, look at :meth:`valid` too."""
        return self.column(name).values

    def valid(self, name: str) -> Mask:
        """Which cells of a column are set."""
        return self._read(name).mask()

    def take(self, indices: npt.NDArray[np.int64] | Sequence[int]) -> Self:
        """Rows ``indices`` in that order, as a view: a column is gathered when it is first read."""
        rows = np.asarray(indices, np.int64)
        view = self._make({}, len(rows))
        if self._base is not None and self._rows is not None and not self._columns:
            view._base, view._rows = self._base, self._rows.take(rows)
        else:
            view._base, view._rows = self, rows
        return view

    def __getitem__(self, rows: slice) -> Self:
        return self.take(np.arange(self._length, dtype=np.int64)[rows])

    def with_columns(self, columns: Mapping[str, Any], *, ok: Mask | None = None) -> Self:
        """A batch with some columns replaced; rows where ``ok`` is false keep what they had.

        Raises
        ------
        DataError
            A column of another length than the batch.
        """
        fresh: dict[str, Column | Ragged] = {}
        everywhere = ok is None or np.count_nonzero(ok) == len(ok)
        for name, value in columns.items():
            column = self.cast(name, value)
            if len(column) != self._length:
                raise DataError(f"column {name!r} has {len(column)} rows, the batch has {self._length}")
            fresh[name] = column if ok is None or everywhere else self._merge(name, column, ok)
        batch = self._make({**self._columns, **fresh}, self._length)
        batch._base, batch._rows, batch._parts = self._base, self._rows, self._parts
        # What was gathered or joined for these rows holds for both: a column that one of them writes is its own.
        batch._cache = self._cache
        return batch

    def _merge(self, name: str, fresh: Column | Ragged, ok: Mask) -> Column | Ragged:
        # Choosing rows from [old; new] by index treats plain, matrix and ragged columns alike.
        both = _concat_columns(self.schema[name], [self._read(name), fresh])
        rows = np.arange(self._length, dtype=np.int64)
        return both.take(np.where(ok, rows + self._length, rows))

    def row(self, row: int) -> dict[str, Any]:
        """One row as a mapping without its unset cells, for output and debugging."""
        cells = {name: self._read(name).item(row) for name in self.columns}
        return {name: cell for name, cell in cells.items() if cell is not None}

    def to_rows(self) -> list[dict[str, Any]]:
        """Every row as :meth:`row` gives it."""
        rows: list[dict[str, Any]] = [{} for _ in range(self._length)]
        for name in self.columns:
            for row, cell in zip(rows, self._read(name).items(), strict=True):
                if cell is not None:
                    row[name] = cell
        return rows

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._length} rows; {', '.join(self.columns)})"

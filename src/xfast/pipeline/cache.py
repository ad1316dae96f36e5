"""Hydrators that remember: look up all candidates, fetch the misses in one call, keep what came back."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from xfast.errors import DataError, ParameterError
from xfast.pipeline.columns import Column, ColumnarBatch, Mask, Ragged
from xfast.pipeline.components import Hydration, Hydrator
from xfast.pipeline.eager import answer, eager

__all__ = ["CacheStore", "CachedHydrator", "MemoryCache", "NoCache"]

Q = TypeVar("Q")
B = TypeVar("B", bound=ColumnarBatch)


class CacheStore(Protocol):
    """Where a cached hydrator keeps values; both methods may be ``async``."""

    def get_many(self, keys: Sequence[Hashable]) -> list[Any] | Awaitable[list[Any]]:
        """The value per key, ``None`` for a miss."""
        ...

    def put_many(self, keys: Sequence[Hashable], values: Sequence[Any], ttls_ms: Sequence[float] | None) -> Any:
        """Keep values, each for its own time to live."""
        ...


class MemoryCache:
    """A bounded, thread-safe least-recently-used map with a time to live.

    Parameters
    ----------
    capacity
        Largest number of entries.
    ttl_ms
        Default time to live; ``None``: until pushed out.
    timer
        Seconds, monotonic.
    """

    def __init__(
        self, capacity: int = 100_000, *, ttl_ms: float | None = None, timer: Callable[[], float] = time.monotonic
    ) -> None:
        if capacity < 1:
            raise ParameterError(f"capacity is {capacity}, must be at least 1")
        self.capacity = capacity
        self.ttl_ms = ttl_ms
        self._timer = timer
        self._lock = Lock()
        self._entries: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get_many(self, keys: Sequence[Hashable]) -> list[Any]:
        """The value per key, ``None`` for a miss or an expired entry."""
        now = self._timer()
        found: list[Any] = []
        with self._lock:
            for key in keys:
                entry = self._entries.get(key)
                if entry is None or entry[1] <= now:
                    found.append(None)
                else:
                    self._entries.move_to_end(key)
                    found.append(entry[0])
        return found

    def put_many(self, keys: Sequence[Hashable], values: Sequence[Any], ttls_ms: Sequence[float] | None = None) -> None:
        """Keep values; ``ttls_ms`` overrides the default time to live per entry."""
        now = self._timer()
        with self._lock:
            for index, (key, value) in enumerate(zip(keys, values, strict=True)):
                ttl = ttls_ms[index] if ttls_ms is not None else self.ttl_ms
                self._entries[key] = (value, float("inf") if ttl is None else now + ttl / 1_000)
                self._entries.move_to_end(key)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)

    def forget(self, keys: Sequence[Hashable]) -> None:
        """Drop entries, for example of a deleted post."""
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)


class NoCache:
    """Remembers nothing: for clients that answer from this process's memory anyway."""

    def get_many(self, keys: Sequence[Hashable]) -> list[Any]:
        """Misses only."""
        return [None] * len(keys)

    def put_many(self, keys: Sequence[Hashable], values: Sequence[Any], ttls_ms: Sequence[float] | None = None) -> None:
        """Do nothing."""


class CachedHydrator(Hydrator[Q, B], Generic[Q, B]):
    """A hydrator whose answers outlive the request.

    Subclasses implement :meth:`cache_keys` and :meth:`hydrate_missing`. The rules are those of HOME_MIXER §2: all
    misses go to the client in one call, in input order; a result of the wrong length turns *every* row into an error,
    hits included; when it raises, hits stay good; only rows that succeeded are kept. Hits and misses are counted as
    ``<name>.cache``.
    """

    #: Columns of one cached value, in the order of the cached tuple.
    columns: tuple[str, ...] = ()

    def __init__(self, cache: CacheStore | None = None) -> None:
        self.cache: CacheStore = MemoryCache() if cache is None else cache

    def cache_keys(self, batch: B) -> Sequence[Hashable]:
        """One key per row."""
        raise NotImplementedError

    def hydrate_missing(self, query: Q, missing: B) -> Hydration | Awaitable[Hydration]:
        """Fetch the rows that the cache did not have."""
        raise NotImplementedError

    def ttls_ms(self, query: Q, missing: B) -> Sequence[float] | None:
        """Time to live per fetched row; ``None``: the cache's own."""
        return None

    def to_cache(self, result: Hydration, row: int) -> Any:
        """The cached form of one fetched row; never ``None``."""
        return tuple(_cell(result.columns[name], row) for name in self.columns)

    @eager
    async def hydrate(self, query: Q, batch: B) -> Hydration:
        """Look up, fetch the misses, merge."""
        if isinstance(self.cache, NoCache):
            return await answer(self.hydrate_missing(query, batch))
        keys = self.cache_keys(batch)
        cells: list[Any] = list(await answer(self.cache.get_many(keys)))
        misses = np.array([row for row, value in enumerate(cells) if value is None], np.int64)
        if self.metrics is not None:
            self.metrics.count(f"{self.name}.cache", len(cells) - len(misses), requests="cache_hit")
            self.metrics.count(f"{self.name}.cache", len(misses), requests="cache_miss")
        ok: Mask = np.ones(len(batch), np.bool_)
        errors: dict[int, str] = {}
        if len(misses):
            missing = batch.take(misses)
            try:
                result = await answer(self.hydrate_missing(query, missing))
            except Exception as error:
                if len(misses) == len(cells):
                    raise
                # What the cache knew stays known.
                ok[misses] = False
                messages = dict.fromkeys(misses.tolist(), f"{type(error).__name__}: {error}")
                return Hydration(self._columns_of(batch, cells), ok, messages, error)
            sizes = {len(values) for values in result.columns.values()}
            if sizes - {len(misses)}:
                raise DataError(f"{self.name}: the client returned {sorted(sizes)} rows for {len(misses)} candidates")
            good = np.ones(len(misses), np.bool_) if result.ok is None else result.ok
            fresh = [self.to_cache(result, row) for row in range(len(misses))]
            kept = np.flatnonzero(good).tolist()
            ttls = self.ttls_ms(query, missing)
            await answer(
                self.cache.put_many(
                    [keys[misses[row]] for row in kept],
                    [fresh[row] for row in kept],
                    None if ttls is None else [ttls[row] for row in kept],
                )
            )
            for row, value in zip(misses.tolist(), fresh, strict=True):
                cells[row] = value
            ok[misses] = good
            errors = {int(misses[row]): message for row, message in result.errors.items()}
        return Hydration(self._columns_of(batch, cells), ok, errors)

    def _columns_of(self, batch: B, cells: list[Any]) -> dict[str, Any]:
        rows = [{} if cell is None else dict(zip(self.columns, cell, strict=True)) for cell in cells]
        made = type(batch).from_rows(rows)
        return {name: made._read(name) for name in self.columns}


def _cell(values: Any, row: int) -> Any:
    if isinstance(values, Column | Ragged):
        return values.item(row)
    value = values[row]
    return value.item() if isinstance(value, np.generic) else value

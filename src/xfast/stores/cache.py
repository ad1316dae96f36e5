"""A bounded in-process cache of what a store read, with metrics.

Entries leave when they are the least recently used, when they are older than ``max_age_ms`` (other processes write to
the same database), or when this process applies an event that touches them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xfast.errors import ParameterError

__all__ = ["CacheStats", "ReadCache"]


@dataclass(frozen=True)
class CacheStats:
    """Counters since the store was opened, and the present size."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0
    entries: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits per look-up, 0.0 before the first."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0


Load = Callable[[list[Any]], Mapping[Any, Any]]
Fetch = Callable[[Sequence[Hashable], Load, Any], list[Any]]

#: A request asks about its posts, their originals, and the authors of both.
_TABLES = 8


@dataclass(frozen=True, slots=True)
class _Table:
    """A table, the state of the cache that it was made in, its oldest value's time, and how many values it has."""

    value: Any
    generation: int
    read_at: float
    size: int


class ReadCache:
    """Least-recently-used entries under (part, id) keys; safe for concurrent use.

    Parameters
    ----------
    max_entries
        0 keeps nothing.
    max_age_ms
        How long a change by another process may stay unseen.
    clock
        Seconds, monotonic.
    """

    def __init__(self, max_entries: int, max_age_ms: float, clock: Callable[[], float] = time.monotonic) -> None:
        if max_entries < 0:
            raise ParameterError(f"max_entries is {max_entries}, must be at least 0")
        if max_age_ms < 0:
            raise ParameterError(f"max_age_ms is {max_age_ms}, must be at least 0")
        self._max_entries, self._max_age, self._clock = max_entries, max_age_ms / 1000, clock
        self._entries: OrderedDict[tuple[str, Hashable], tuple[float, Any]] = OrderedDict()
        self._tables: OrderedDict[tuple[str, bytes], _Table] = OrderedDict()
        self._lock = threading.Lock()
        self._generation = 0
        self._counts = dict.fromkeys(("hits", "misses", "evictions", "expirations", "invalidations"), 0)

    def fetch(self, part: str, keys: Sequence[Hashable], load: Load, default: Any) -> list[Any]:
        """Return the value of every key; ``load`` gets the distinct missing ones in one call.

        What ``load`` leaves out is ``default`` and is remembered as such.
        """
        return self._fetch(part, keys, load, default)[0]

    def table(self, part: str, name: bytes, read: Callable[[Fetch], Any]) -> Any:
        """What ``read`` makes of the values that it fetches, kept for the next calls of that name.

        One request asks for the same posts a dozen times, and to put a thousand values into columns costs more than to
        look them up. Only the newest few tables are kept, each as long as nothing at all is invalidated and no value in
        it is too old.
        """
        now = self._clock()
        with self._lock:
            generation, found = self._generation, self._tables.get((part, name))
            if found is not None and found.generation == generation and found.read_at >= now - self._max_age:
                self._counts["hits"] += found.size
                return found.value
        size, oldest = 0, now

        def fetch(keys: Sequence[Hashable], load: Load, default: Any) -> list[Any]:
            nonlocal size, oldest
            values, read_at = self._fetch(part, keys, load, default)
            size, oldest = size + len(keys), min(oldest, read_at)
            return values

        value = read(fetch)
        with self._lock:
            if self._max_entries and generation == self._generation:
                self._tables[part, name] = _Table(value, generation, oldest, size)
                self._tables.move_to_end((part, name))
                while len(self._tables) > _TABLES:
                    self._tables.popitem(last=False)
        return value

    def _fetch(self, part: str, keys: Sequence[Hashable], load: Load, default: Any) -> tuple[list[Any], float]:
        """The values, and when the oldest of them was read."""
        now = self._clock()
        if not self._max_entries:
            found = load(list(dict.fromkeys(keys)))
            return [found.get(key, default) for key in keys], now
        oldest, read_at = now - self._max_age, now
        known: dict[Hashable, Any] = {}
        missing: list[Hashable] = []
        with self._lock:
            generation = self._generation
            for key in dict.fromkeys(keys):
                entry = self._entries.get((part, key))
                if entry is not None and entry[0] >= oldest:
                    self._entries.move_to_end((part, key))
                    known[key] = entry[1]
                    read_at = min(read_at, entry[0])
                else:
                    self._counts["expirations"] += entry is not None
                    missing.append(key)
            self._counts["hits"] += len(known)
            self._counts["misses"] += len(missing)
        if missing:
            asked_at = self._clock()
            found = load(missing)
            with self._lock:
                # An event applied since the look-up may have changed what was read: use it, but do not keep it.
                keep = generation == self._generation
                for key in missing:
                    known[key] = value = found.get(key, default)
                    if keep:
                        self._entries[part, key] = (asked_at, value)
                        self._entries.move_to_end((part, key))
                while len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
                    self._counts["evictions"] += 1
        return [known[key] for key in keys], read_at

    def invalidate(self, part: str, keys: Iterable[Hashable]) -> None:
        """Forget keys of one part."""
        with self._lock:
            self._generation += 1
            for key in keys:
                self._counts["invalidations"] += self._entries.pop((part, key), None) is not None

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._generation += 1
            self._counts["invalidations"] += len(self._entries)
            self._entries.clear()
            self._tables.clear()

    def stats(self) -> CacheStats:
        """Return the counters."""
        with self._lock:
            return CacheStats(**self._counts, entries=len(self._entries))

    def renew_lock(self) -> None:
        """Replace the lock in the child of a fork: another thread of the parent may have held it."""
        self._lock = threading.Lock()

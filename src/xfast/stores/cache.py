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
        self._lock = threading.Lock()
        self._generation = 0
        self._counts = dict.fromkeys(("hits", "misses", "evictions", "expirations", "invalidations"), 0)

    def fetch(
        self, part: str, keys: Sequence[Hashable], load: Callable[[list[Any]], Mapping[Any, Any]], default: Any
    ) -> list[Any]:
        """Return the value of every key; ``load`` gets the distinct missing ones in one call.

        What ``load`` leaves out is ``default`` and is remembered as such.
        """
        if not self._max_entries:
            found = load(list(dict.fromkeys(keys)))
            return [found.get(key, default) for key in keys]
        oldest = self._clock() - self._max_age
        known: dict[Hashable, Any] = {}
        missing: list[Hashable] = []
        with self._lock:
            generation = self._generation
            for key in dict.fromkeys(keys):
                entry = self._entries.get((part, key))
                if entry is not None and entry[0] >= oldest:
                    self._entries.move_to_end((part, key))
                    known[key] = entry[1]
                else:
                    self._counts["expirations"] += entry is not None
                    missing.append(key)
            self._counts["hits"] += len(known)
            self._counts["misses"] += len(missing)
        if missing:
            read_at = self._clock()
            found = load(missing)
            with self._lock:
                # An event applied since the look-up may have changed what was read: use it, but do not keep it.
                keep = generation == self._generation
                for key in missing:
                    known[key] = value = found.get(key, default)
                    if keep:
                        self._entries[part, key] = (read_at, value)
                        self._entries.move_to_end((part, key))
                while len(self._entries) > self._max_entries:
                    self._entries.popitem(last=False)
                    self._counts["evictions"] += 1
        return [known[key] for key in keys]

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

    def stats(self) -> CacheStats:
        """Return the counters."""
        with self._lock:
            return CacheStats(**self._counts, entries=len(self._entries))

    def renew_lock(self) -> None:
        """Replace the lock in the child of a fork: another thread of the parent may have held it."""
        self._lock = threading.Lock()

"""A byte-bounded cache of encoded viewers in front of :meth:`Ranker.encode <xfast.phoenix.ranker.Ranker.encode>`."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xfast.errors import ParameterError
from xfast.ids import as_uint64
from xfast.phoenix.context_codec import STORAGES, Storage, dump_context, load_context
from xfast.phoenix.context_key import InputDigest

if TYPE_CHECKING:
    from xfast.phoenix.features import Engagements, Keep
    from xfast.phoenix.ranker import Context, Ranker

__all__ = ["CacheStats", "ContextCache"]

#: What an entry costs besides its keys and values: key, context object, places in the dictionary.
ENTRY_OVERHEAD_BYTES = 1024


@dataclass(frozen=True)
class CacheStats:
    """Counters since the cache was made, and what it holds now."""

    hits: int
    """Answered from memory, waiters included."""
    misses: int
    """Computed: ``appends`` plus full encodes."""
    appends: int
    """Misses that only ran the new tokens."""
    waits: int
    """Hits that waited for another thread's computation."""
    evictions: int
    """Entries dropped for room."""
    rejections: int
    """Contexts larger than the whole cache, which were not kept."""
    entries: int
    bytes: int
    max_bytes: int


@dataclass(frozen=True)
class _Entry:
    context: Context | bytes
    user_id: int
    nbytes: int


class _Flight:
    """A computation that other threads wait for."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.context: Context | None = None  # stays None where the computation failed


# Locks may be held by threads that a child process does not have.
_CACHES: weakref.WeakSet[ContextCache] = weakref.WeakSet()


def _reset_locks_in_child() -> None:
    for cache in list(_CACHES):
        cache._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_locks_in_child)


class ContextCache:
    """Least recently used contexts of one ranker, up to a number of bytes.

    A context is found by a digest of every input that it depends on and of the model
    (:mod:`xfast.phoenix.context_key`), so a changed history, user or model is a miss, never a wrong answer. Several
    threads may use a cache; those that ask for the same viewer at once wait for one computation. Works after fork().

    Where a viewer comes back with up to ``max_append`` more engagements at the end, only these run through the model
    (:meth:`Ranker.append <xfast.phoenix.ranker.Ranker.append>`), with the same bits as a full encode; the entry without
    them is dropped.

    Parameters
    ----------
    ranker
        Whose contexts to keep.
    max_bytes
        Bound on keys, values and :data:`ENTRY_OVERHEAD_BYTES` per entry.
    storage : {"exact", "bfloat16", "int8"}
        How entries are kept (:func:`~xfast.phoenix.context_codec.dump_context`). The lossy ones take a half or a
        quarter of the memory, decode on every hit and never append; a miss returns the decoded context, too, so that
        hit and miss agree to the bit.
    max_append
        How many new engagements an append may add; 0 turns appending off.

    Raises
    ------
    ParameterError
        A value out of range.
    NotImplementedError
        A lossy storage with an engine other than ``native``.
    """

    def __init__(
        self, ranker: Ranker, *, max_bytes: int = 256 << 20, storage: Storage = "exact", max_append: int = 8
    ) -> None:
        if max_bytes < 0:
            raise ParameterError(f"max_bytes is {max_bytes}, must be 0 or more")
        if max_append < 0:
            raise ParameterError(f"max_append is {max_append}, must be 0 or more")
        if storage not in STORAGES:
            raise ParameterError(f"storage is {storage!r}, must be one of {', '.join(STORAGES)}")
        if storage != "exact" and ranker.engine != "native":
            raise NotImplementedError(f"storage={storage!r}: engine {ranker.engine!r} cannot, it takes 'native'")
        self._ranker = ranker
        self._max_bytes = max_bytes
        self._storage: Storage = storage
        self._max_append = max_append if storage == "exact" and ranker.can_append else 0
        self._version = ranker.model_version
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._flights: dict[bytes, _Flight] = {}
        self._bytes = 0
        self._generation = 0  # grows when something is forgotten, so that computations under way are not kept
        self._hits = self._misses = self._appends = self._waits = self._evictions = self._rejections = 0
        _CACHES.add(self)

    def key(self, engagements: Engagements, *, keep: Keep = "oldest") -> bytes:
        """Return the key of a viewer, 64 bytes: model version and input digest. Good for a store shared by machines."""
        return self._version + InputDigest(self._ranker.config, engagements, keep).whole

    def encode(self, engagements: Engagements, *, keep: Keep = "oldest") -> Context:
        """:meth:`Ranker.encode <xfast.phoenix.ranker.Ranker.encode>`, from memory where possible; the same bits."""
        digest = InputDigest(self._ranker.config, engagements, keep)
        key = digest.whole
        while True:
            with self._lock:
                generation = self._generation
                entry = self._entries.get(key)
                if entry is not None:
                    self._entries.move_to_end(key)
                    self._hits += 1
                    break
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
                    self._misses += 1
            if mine:
                return self._compute(key, digest, engagements, keep, flight, generation)
            flight.done.wait()
            if flight.context is not None:
                with self._lock:
                    self._hits += 1
                    self._waits += 1
                return flight.context
            # The other thread failed; its error may have been its own (an interrupt), so try here.
        return self._opened(entry)

    def _opened(self, entry: _Entry) -> Context:
        if isinstance(entry.context, bytes):
            return load_context(self._ranker, entry.context)
        return entry.context

    def _compute(
        self, key: bytes, digest: InputDigest, engagements: Engagements, keep: Keep, flight: _Flight, generation: int
    ) -> Context:
        try:
            base = self._base(digest)
            if base is None:
                context = self._ranker.encode_digested(engagements, digest, keep=keep)
            else:
                context = self._ranker.append_digested(base, engagements, digest, keep=keep)
            kept: Context | bytes = context
            size = context.nbytes
            if self._storage != "exact" and context._everything is None:
                kept = dump_context(self._ranker, context, storage=self._storage)
                size = len(kept)
                context = load_context(self._ranker, kept)
            flight.context = context
            with self._lock:
                if base is not None:
                    self._appends += 1
                    self._drop(base.inputs)
                if generation == self._generation:
                    self._insert(key, _Entry(kept, engagements.user_id, size + ENTRY_OVERHEAD_BYTES))
            return context
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.done.set()

    def _base(self, digest: InputDigest) -> Context | None:
        """The longest context here that lacks only a few of the viewer's last engagements."""
        if self._max_append == 0 or len(digest) == 0:
            return None
        prefixes = digest.prefixes(self._max_append)[1:]
        with self._lock:
            for dropped, prefix in enumerate(prefixes, start=1):
                entry = self._entries.get(prefix)
                if entry is None or isinstance(entry.context, bytes):
                    continue
                if entry.context.history_tokens == len(digest) - dropped:
                    return entry.context
        return None

    def _insert(self, key: bytes, entry: _Entry) -> None:
        if entry.nbytes > self._max_bytes:
            self._rejections += 1
            return
        self._drop(key)
        self._entries[key] = entry
        self._bytes += entry.nbytes
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= oldest.nbytes
            self._evictions += 1

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.nbytes

    def forget(self, user_id: int) -> int:
        """Drop all contexts of a user (of any history), also those being computed; returns how many were kept."""
        user = int(as_uint64([user_id], name="user_id")[0])
        with self._lock:
            self._generation += 1
            keys = [key for key, entry in self._entries.items() if entry.user_id == user]
            for key in keys:
                self._drop(key)
        return len(keys)

    def clear(self) -> None:
        """Drop everything; the counters go on."""
        with self._lock:
            self._generation += 1
            self._entries.clear()
            self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def stats(self) -> CacheStats:
        """Counters and sizes, taken at one moment."""
        with self._lock:
            return CacheStats(
                hits=self._hits, misses=self._misses, appends=self._appends, waits=self._waits,
                evictions=self._evictions, rejections=self._rejections, entries=len(self._entries),
                bytes=self._bytes, max_bytes=self._max_bytes,
            )  # fmt: skip

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flights = {}
        self._bytes = sum(entry.nbytes for entry in self._entries.values())

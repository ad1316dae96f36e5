"""Stores: viewers, histories, posts, what was served and seen — SQLite by default, PostgreSQL by URL.

One interface, :class:`Store`; :func:`open_store` gives the shipped implementation, ``xfast.stores.testing`` the tests
that any other one must pass. Fed by :mod:`xfast.events`, read in batches only.
"""

from xfast.stores.apply import FilterOptions
from xfast.stores.cache import CacheStats, ReadCache
from xfast.stores.history import Aggregation, History, HistoryOptions
from xfast.stores.model import (
    Applied,
    Counts,
    EraseReceipt,
    Labels,
    Posts,
    Relation,
    ServedEntry,
    ServedResponse,
    Users,
)
from xfast.stores.protocol import Store
from xfast.stores.store import SqlStore, open_store

__all__ = [
    "Aggregation",
    "Applied",
    "CacheStats",
    "Counts",
    "EraseReceipt",
    "FilterOptions",
    "History",
    "HistoryOptions",
    "Labels",
    "Posts",
    "ReadCache",
    "Relation",
    "ServedEntry",
    "ServedResponse",
    "SqlStore",
    "Store",
    "Users",
    "open_store",
]

"""Thunder: the in-network post store, its ingestion and its service."""

from xfast.thunder.clock import Clock, ManualClock, SystemClock
from xfast.thunder.columns import POST_COLUMNS, PostBatch
from xfast.thunder.store import AccountState, PostStore, Quirks

__all__ = [
    "POST_COLUMNS",
    "AccountState",
    "Clock",
    "ManualClock",
    "PostBatch",
    "PostStore",
    "Quirks",
    "SystemClock",
]

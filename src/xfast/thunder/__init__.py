"""Thunder: the in-network post store, its ingestion and its service."""

from xfast.thunder.clock import Clock, ManualClock, SystemClock
from xfast.thunder.columns import POST_COLUMNS, PostBatch
from xfast.thunder.lookup import AtCapacityError, FollowingSourceError, InNetworkLookup
from xfast.thunder.snapshot import Restored, SnapshotDirectory
from xfast.thunder.store import AccountState, FeedCounts, PostStore, Quirks

__all__ = [
    "POST_COLUMNS",
    "AccountState",
    "AtCapacityError",
    "Clock",
    "FeedCounts",
    "FollowingSourceError",
    "InNetworkLookup",
    "ManualClock",
    "PostBatch",
    "PostStore",
    "Quirks",
    "Restored",
    "SnapshotDirectory",
    "SystemClock",
]

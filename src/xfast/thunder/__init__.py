"""Thunder: the in-network post store, its ingestion and its service."""

from xfast.thunder.clock import Clock, ManualClock, SystemClock
from xfast.thunder.columns import POST_COLUMNS, PostBatch
from xfast.thunder.consumer import Consumer, ConsumerOptions
from xfast.thunder.event_log import EventLog
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.log_reader import LogBatch, LogReader
from xfast.thunder.lookup import AtCapacityError, FollowingSourceError, InNetworkLookup
from xfast.thunder.snapshot import Restored, SnapshotDirectory
from xfast.thunder.sources import EventSource, LogSource, MemorySource
from xfast.thunder.store import AccountState, FeedCounts, PostStore, Quirks

__all__ = [
    "POST_COLUMNS",
    "AccountState",
    "AtCapacityError",
    "Clock",
    "Consumer",
    "ConsumerOptions",
    "EventLog",
    "EventSource",
    "FeedCounts",
    "FollowingSourceError",
    "InNetworkLookup",
    "LogBatch",
    "LogReader",
    "LogSource",
    "ManualClock",
    "MemorySource",
    "PostBatch",
    "PostStore",
    "Quirks",
    "Restored",
    "SnapshotDirectory",
    "StoreTarget",
    "SystemClock",
]

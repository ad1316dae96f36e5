"""A process that the crash tests kill: it ingests, saves snapshots all the time, and says what it has acknowledged.

crash_worker.py log FOLDER COUNT        writes COUNT events to the embedded log while it ingests them
crash_worker.py kafka FOLDER BOOTSTRAP TOPIC
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from tests.thunder_ingest.model import NOW, OPTIONS, events
from xfast.thunder import ManualClock
from xfast.thunder.consumer import Consumer, ConsumerOptions
from xfast.thunder.dead_letters import DeadLetterFile
from xfast.thunder.event_log import EventLog
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.kafka import KafkaSource
from xfast.thunder.snapshot import SnapshotDirectory
from xfast.thunder.sources import EventSource, LogSource


class SnapshotOften(StoreTarget):
    def save_due(self) -> bool:
        return True


def consume(source: EventSource, folder: Path) -> Consumer:
    """A consumer that goes on from the newest snapshot of the folder."""
    snapshots = SnapshotDirectory(folder / "snapshots")
    clock = ManualClock(NOW)
    restored = snapshots.load(clock=clock, **OPTIONS)
    assert not restored.refused, restored.refused
    target = SnapshotOften(restored.store, snapshots, restored.position, clock=clock)
    options = ConsumerOptions(batch_size=200, flush_seconds=0.005, lag_threshold=0)
    return Consumer(source, target, DeadLetterFile(folder / "dead_letters.jsonl"), options)


def say(text: str) -> None:
    print(text, flush=True)


def run_log(folder: Path, count: int) -> None:
    log = EventLog(folder / "log", fsync="interval", segment_bytes=1 << 16)
    consumer = consume(LogSource(folder / "log"), folder)
    consumer.start()
    while log.end < count:
        end = log.append(events(7, first=log.end + 1))
        say(f"ack {end}")
        time.sleep(0.001)


def run_kafka(folder: Path, bootstrap: str, topic: str) -> None:
    consumer = consume(KafkaSource(bootstrap, topic), folder)
    consumer.start()
    consumer.wait_ready(60)
    say("ready")


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    if kind == "log":
        run_log(Path(folder), int(rest[0]))
    else:
        run_kafka(Path(folder), *rest)
    threading.Event().wait()

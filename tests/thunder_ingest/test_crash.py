"""kill -9 at random moments: after each restart the store equals the model of everything acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.thunder_ingest.conftest import Broker
from tests.thunder_ingest.crash_worker import consume
from tests.thunder_ingest.model import check, events
from xfast.thunder.ingest import StoreTarget
from xfast.thunder.kafka import KafkaSource
from xfast.thunder.log_reader import LogReader, log_end
from xfast.thunder.sources import EventSource, LogSource


@contextmanager
def worker(*words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.thunder_ingest.crash_worker", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def recovered(source: EventSource, folder: Path, messages: list[bytes]) -> int:
    """Recover in this process, compare with the model, and return how many messages had to be replayed."""
    consumer = consume(source, folder)
    consumer.start()
    assert consumer.wait_ready(60)
    consumer.stop()
    assert isinstance(consumer.target, StoreTarget)
    check(consumer.target.store, messages)
    assert consumer.stats.dead_letters == 0
    return consumer.stats.messages


def crash_on_the_embedded_log(folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    count = 1_000_000  # more than will be written
    messages: list[bytes] = []
    acknowledged = 0
    replayed = []
    for _ in range(rounds):
        with worker("log", folder, count) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ack"), "the worker did not come up"
            timer = threading.Timer(rng.uniform(0.0, 0.6), process.send_signal, [signal.SIGKILL])
            timer.start()
            for line in process.stdout:
                if line.endswith("\n"):
                    acknowledged = int(line.split()[1])
            timer.join()
        end = log_end(folder / "log")
        assert end >= acknowledged
        messages += events(end - len(messages), first=len(messages) + 1)
        with LogReader(folder / "log") as reader:
            written = [message for batch in reader for message in batch.messages()]
        assert written == messages
        replayed.append(recovered(LogSource(folder / "log"), folder, messages))
    assert acknowledged > 0
    assert sum(replayed) < rounds * acknowledged  # the snapshots do carry most of it


def crash_on_kafka(kafka: Broker, folder: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    topic = kafka.topic()
    messages = events(rounds * 3000)
    sent = 0
    for _ in range(rounds):
        with worker("kafka", folder, kafka.bootstrap, topic) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            end = time.monotonic() + rng.uniform(0.05, 0.6)
            while time.monotonic() < end and sent < len(messages):
                kafka.send(topic, messages[sent : sent + 100])
                sent += 100
            process.send_signal(signal.SIGKILL)
            process.wait()
        recovered(KafkaSource(kafka.bootstrap, topic), folder, messages[:sent])
    assert sent > 0


def test_killed_while_writing_and_ingesting_the_embedded_log(tmp_path: Path) -> None:
    crash_on_the_embedded_log(tmp_path, rounds=3, seed=1)


def test_killed_while_ingesting_from_kafka(kafka: Broker, tmp_path: Path) -> None:
    crash_on_kafka(kafka, tmp_path, rounds=3, seed=2)


@pytest.mark.soak
def test_killed_fifty_times_on_the_embedded_log(tmp_path: Path) -> None:
    crash_on_the_embedded_log(tmp_path, rounds=50, seed=3)


@pytest.mark.soak
def test_killed_fifty_times_on_kafka(kafka: Broker, tmp_path: Path) -> None:
    crash_on_kafka(kafka, tmp_path, rounds=50, seed=4)

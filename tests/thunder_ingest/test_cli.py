"""`xfast serve thunder` as operators see it: it becomes ready, answers, drains on SIGTERM and comes back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.thunder_ingest.conftest import Broker
from tests.thunder_ingest.model import create_event
from xfast.cli import main
from xfast.events import Account, AccountState, Delete, NetworkEvent, Post
from xfast.thunder.client import ThunderClient
from xfast.thunder.event_log import EventLog


class Service:
    def __init__(self, *words: object) -> None:
        command = [Path(sys.executable).with_name("xfast"), "serve", "thunder", *map(str, words)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[dict[str, object]] = []

    def wait_for(self, text: str) -> dict[str, object]:
        """Read log lines until one contains the text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if text in str(self.lines[-1]["message"]):
                return self.lines[-1]
        raise AssertionError(f"the service ended without {text!r}: {self.lines}")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        self.lines += [json.loads(line) for line in self.process.stderr]
        return self.process.wait(30)


@contextmanager
def service(*words: object) -> Iterator[Service]:
    running = Service(*words)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stderr is not None
        running.process.stderr.close()


def event(body: object) -> bytes:
    return NetworkEvent(body, time_ms=int(time.time() - 5) * 1000, event_id=1).to_bytes()  # type: ignore[arg-type]


async def posts(port: object, *following: int) -> list[int]:
    async with ThunderClient(f"127.0.0.1:{port}") as client:
        answer = await client.in_network(9, list(following), timeout=10)
    return sorted(answer["post_id"].tolist())


async def test_serving_the_embedded_log_across_a_restart(tmp_path: Path) -> None:
    words = ("--log", tmp_path / "log", "--snapshots", tmp_path / "snapshots", "--lag-threshold", 0)
    words += ("--address", "127.0.0.1:0", "--metrics-port", 0)
    with EventLog(tmp_path / "log") as log:
        log.append([event(Post(1, 1)), event(Post(2, 1)), event(Post(3, 2)), event(Delete(2)), b"\xff"])
        with service(*words) as first:
            listening = first.wait_for("listening")
            first.wait_for("caught up")
            assert await posts(listening["port"], 1, 2) == [1, 3]
            url = f"http://127.0.0.1:{listening['metrics_port']}"
            deadline = time.monotonic() + 10
            while True:  # readiness is published a moment after the backlog is in
                try:
                    assert urllib.request.urlopen(f"{url}/readyz", timeout=5).status == 200
                    break
                except urllib.error.HTTPError as error:
                    error.close()
                    assert time.monotonic() < deadline
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                assert b"xfast_ingest_lag" in answer.read()
            assert first.stop() == 0
        assert [line["message"] for line in first.lines][-1] == "stopped"
        assert len(list((tmp_path / "snapshots").glob("*.snapshot"))) == 1
        assert "ends inside a field" in (tmp_path / "snapshots" / "dead_letters.jsonl").read_text()
        log.append([event(Post(4, 1)), event(Account(2, AccountState.SUSPENDED))])
        with service(*words) as second:
            listening = second.wait_for("listening")
            caught_up = second.wait_for("caught up")
            assert str(caught_up["message"]).endswith("2 messages")
            assert await posts(listening["port"], 1, 2) == [1, 4]
            # What the log gets while it serves is honoured by the answers that follow.
            log.append([event(Account(1, AccountState.SUSPENDED))])
            deadline = time.monotonic() + 10
            while await posts(listening["port"], 1, 2) != []:
                assert time.monotonic() < deadline
            assert second.stop() == 0


async def test_feeder_and_server_over_kafka(kafka: Broker, tmp_path: Path) -> None:
    wide, compact = kafka.topic(), kafka.topic()
    kafka.send(wide, [event(Post(1, 1)), event(Post(2, 2, nullcast=True)), event(Delete(3)), event(Post(4, 2))], 0)
    kafka.send(compact, [create_event(5, 1, int(time.time()) - 9)], 0)
    letters = ("--dead-letters", tmp_path / "letters.jsonl")
    feed = ("--feeder", "--kafka", kafka.bootstrap, "--topic", wide, "--group", wide, "--to", compact)
    with service(*feed, *letters, "--lag-threshold", 0) as feeder:
        feeder.wait_for("caught up")
        assert feeder.stop() == 0
    with service(*feed, *letters, "--lag-threshold", 0) as feeder:  # goes on from what the group committed
        assert str(feeder.wait_for("caught up")["message"]).endswith("0 messages")
        assert feeder.stop() == 0
    words = ("--kafka", kafka.bootstrap, "--topic", compact, "--address", "127.0.0.1:0", "--lag-threshold", 0)
    with service(*words, *letters) as server:
        listening = server.wait_for("listening")
        server.wait_for("caught up")
        assert await posts(listening["port"], 1, 2) == [1, 4, 5]
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a source"),
        (["--kafka", "h:1"], "name a source"),
        (["--log", "/nowhere/at/all"], "there is no event log here"),
        (["--log", "x", "--kafka", "h:1"], "exclude each other"),
        (["--kafka", "h:1", "--topic", "t"], "name a place for dead letters"),
        (["--kafka", "h:1", "--topic", "t", "--block", "1"], "--block is '1', must be I/N"),
        (["--kafka", "h:1", "--topic", "t", "--kafka-option", "x"], "--kafka-option is 'x'"),
        (["--feeder", "--log", "x"], "--feeder needs --kafka"),
        (["--feeder", "--log", "x", "--kafka", "h:1", "--to", "t"], "needs --positions"),
        (["--feeder", "--topic", "x", "--kafka", "h:1", "--to", "t"], "needs --group"),
        (["--address", "here"], "must be host:port"),
        (["--batch-size", "0"], "batch_size is 0"),
    ],
)
def test_bad_commands_say_what_is_wrong(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xfast.cli.serve_thunder.configure", lambda *_: None)  # the log of this process is pytest's
    assert main(["serve", "thunder", "--log-format", "text", *words]) == 2
    assert message in capsys.readouterr().err

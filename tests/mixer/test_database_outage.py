"""PostgreSQL is killed (kill -9) in mid-request: the page is served, the failures are named, and it recovers."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.mixer.test_embedded import VIEWER, Network
from xfast.events import Block, Follow
from xfast.mixer.items import ScoredPost

pytestmark = pytest.mark.services


class PrivateServer:
    """A PostgreSQL of this test alone, with the settings of `make services`."""

    def __init__(self, services: ModuleType) -> None:
        folder = services.programs()
        assert folder is not None
        self._user, self._programs = services.account(), folder
        # What was committed must survive the kill; fsync matters only to a machine that loses power.
        self._settings = {**services.SETTINGS, "synchronous_commit": "on"}
        self._home = Path(tempfile.mkdtemp(prefix="xfast-outage-"))
        if self._user:
            ids = [int(word.split("=")[1]) for word in self._user[1:3]]
            os.chown(self._home, *ids)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._data = self._home / "data"
        self._run("initdb", "-D", self._data, "-U", "xfast", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "xfast", "xfast")
        self.url = f"postgresql://xfast@127.0.0.1:{self.port}/xfast"

    def _run(self, program: str, *words: Any) -> None:
        subprocess.run([*self._user, self._programs / program, *words], check=True, cwd=self._home, capture_output=True)

    def start(self) -> None:
        settings = [word for key, value in self._settings.items() for word in ("-c", f"{key}={value}")]
        command = [*self._user, self._programs / "postgres", "-D", self._data, "-p", str(self.port), *settings]
        ready = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + 30
        while time.monotonic() < end:
            # A server that was killed leaves children for a moment, and a new one refuses to start beside them.
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    command, cwd=self._home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError("the private PostgreSQL does not start")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)


@pytest.fixture
def server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrivateServer]:
    """Only where `make services` provides PostgreSQL: its programs are then here."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "services"))
    import postgres

    private = PrivateServer(postgres)
    yield private
    private.close()
    for name in ("postgres", "machine"):
        sys.modules.pop(name, None)


def test_a_killed_database_costs_parts_of_a_page_and_comes_back(server: PrivateServer) -> None:
    network = Network(server.url, cache_entries=0, timeout_ms=1_000)
    try:
        network.apply(Follow(VIEWER, 100), Follow(VIEWER, 101), Block(VIEWER, 102))
        for index in range(8):
            network.post(100 + index % 2, 60_000 * (index + 1), text=f"news {index}", language="en")
        # A page may be shown again: this is about the database, not about what was served.
        params = {"EnableServedFilterAllRequests": False}
        before = network.shown(params=params)
        assert len(before) == 8

        # The retrieval model is asked after the query hydrators and before the candidate hydrators.
        recommend = network.discovery.recommend

        def kill_and_recommend(*args: Any, **kwargs: Any) -> Any:
            server.kill()
            return recommend(*args, **kwargs)

        network.discovery.recommend = kill_and_recommend  # type: ignore[method-assign]
        hit = network.request(explain=True, params=params)
        (inner,) = hit.query.explain
        assert hit.selected.of_type(ScoredPost), "posts that Thunder has are served"
        failed = {run.name: str(run.error) for run in inner.failures}
        assert {"CoreDataHydrator", "GizmoduckHydrator"} <= set(failed)
        assert not any(name.endswith("QueryHydrator") for name in failed), "they ran before"
        assert all("StoreError" in error for error in failed.values()), failed
        assert {run.name for run in inner.trace.failures()} == set(failed)
        counters = network.pipelines[-1].metrics.counters()
        assert any(name == "CoreDataHydrator.run" and ("result", "error") in labels for name, labels in counters)

        network.discovery.recommend = recommend  # type: ignore[method-assign]
        began = time.monotonic()
        down = network.request(explain=True, params=params)
        assert time.monotonic() - began < 5
        names = {run.name for run in down.query.explain[0].failures}
        assert "FollowedUserIdsQueryHydrator" in names

        server.start()
        assert network.shown(params=params) == before
    finally:
        for pipeline in network.pipelines:
            pipeline.close()
        network.store.close()

"""A Redis without persistence: a rival of the benchmarks, started only when it is asked for by name."""

from __future__ import annotations

import shutil

from machine import HOME, Process, answers, known_ports, ports

FOLDER = HOME / "redis"


class Redis:
    name = "redis"

    def __init__(self) -> None:
        self.process = Process(FOLDER, "redis-server")

    def packages(self) -> dict[str, str | None]:
        return {"redis-server": shutil.which("redis-server")}

    def start(self) -> dict[str, str]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        if self.process.pid() is None:
            port = ports(FOLDER, ["redis"])[0]["redis"]
            options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
            self.process.start(["redis-server", *options], cwd=FOLDER)
            self.process.wait(lambda: answers(port), seconds=30)
        return {"XFAST_REDIS_URL": f"redis://127.0.0.1:{known_ports(FOLDER)['redis']}/0"}

    def stop(self, *, force: bool = False) -> bool:
        return self.process.stop(force=force)

"""What every service needs from the machine: packages, free ports, detached processes that can be found again."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".services"


class ServiceError(Exception):
    """A service cannot be installed or started; the message says what to do."""


def say(text: str) -> None:
    print(f"services: {text}", flush=True)


def run(command: Sequence[str | Path], *, attempts: int = 1, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; a failure repeats it (mirrors hiccup), then raises with the output."""
    for attempt in range(1, attempts + 1):
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
        )
        if done.returncode == 0:
            return done.stdout
        if attempt < attempts:
            time.sleep(2 * attempt)
    raise ServiceError(f"`{' '.join(map(str, command))}` failed ({done.returncode}):\n{done.stdout[-3000:]}")


def need(packages: Mapping[str, str | None]) -> None:
    """Install the Debian packages whose program is absent (package -> path of the program, None when absent)."""
    missing = [package for package, program in packages.items() if program is None]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    recipe = f"apt-get install --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise ServiceError(f"missing programs; on Debian: {recipe}")
    say(f"installing {' '.join(missing)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run([*sudo, "apt-get", "update", "-q"], attempts=3, env=quiet)
        run([*sudo, "apt-get", "install", "-qy", "--no-install-recommends", *missing], attempts=3, env=quiet)
    except (ServiceError, FileNotFoundError) as error:
        raise ServiceError(f"could not install; run as root: {recipe}\n{error}") from None


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def known_ports(folder: Path) -> dict[str, int]:
    """The ports that the service of this folder was last started on; empty before the first start."""
    file = folder / "ports.json"
    return json.loads(file.read_text()) if file.exists() else {}


def ports(folder: Path, names: Sequence[str]) -> tuple[dict[str, int], bool]:
    """The ports of a service: those of the last start while they are free, else new ones. Also whether they are new."""
    known = known_ports(folder)
    deadline = time.monotonic() + 5  # the threads of a killed process may hold its sockets a moment longer
    while set(known) == set(names) and time.monotonic() < deadline:
        if all(map(port_is_free, known.values())):
            return known, False
        time.sleep(0.05)
    # Below the range of outgoing connections, so that a restarted service finds its own ports free.
    free = (port for port in random.sample(range(20_000, 32_000), 500) if port_is_free(port))
    chosen = dict(zip(names, free))
    (folder / "ports.json").write_text(json.dumps(chosen))
    return chosen, True


class Process:
    """A detached process with a pid file. ``mark`` occurs in its command line, so a reused pid is not taken for it."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.pid_file = folder / "pid"
        self.log = folder / "log.txt"
        self.mark = mark
        self.child: subprocess.Popen[bytes] | None = None

    def pid(self) -> int | None:
        """The process id, None if it does not run."""
        if self.child is not None:
            # Our own child needs no mark, which it does not show before it has begun to run the program.
            return self.child.pid if self.child.poll() is None else None
        try:
            pid = int(self.pid_file.read_text())
            status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):
            return None
        return pid if status != "Z" and self.mark in words else None

    def start(self, command: Sequence[str | Path], *, cwd: Path) -> None:
        """Start it in a session of its own: nothing it holds keeps the caller's pipes or terminal open."""
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(str(self.child.pid))

    def wait(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Wait until it is ready; an exit or the deadline raises with the end of the log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.pid() is None or time.monotonic() > deadline:
                state = "exited" if self.pid() is None else f"is not ready after {seconds:.0f} s"
                tail = self.log.read_text(errors="replace")[-3000:]
                self.stop(force=True)
                raise ServiceError(f"{self.mark} {state}; end of {self.log}:\n{tail}")
            time.sleep(0.1)

    def stop(self, *, force: bool = False, sign: signal.Signals = signal.SIGTERM, seconds: float = 20) -> bool:
        """Ask it to end, then kill it. True if it was running."""
        pid = self.pid()
        if pid is None:
            self.child = None
            self.pid_file.unlink(missing_ok=True)
            return False
        os.kill(pid, signal.SIGKILL if force else sign)
        deadline = time.monotonic() + seconds
        while self.pid() is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.child = None
        self.pid_file.unlink(missing_ok=True)
        return True

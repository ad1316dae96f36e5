"""A PostgreSQL cluster of this checkout, run by an ordinary user (the server refuses to run as root)."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from machine import HOME, Process, ServiceError, known_ports, ports, run

FOLDER = HOME / "postgres"

# Test data: speed before durability. No unix socket: its path may be longer than the 107 bytes a socket allows.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "60",
}


def programs() -> Path | None:
    """The folder of initdb and postgres; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def account() -> list[str]:
    """The words that run a command as a user that is not root."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    raise ServiceError("PostgreSQL does not run as root, and neither user 'postgres' nor 'nobody' exists")


class Postgres:
    """A server with one database, ``xfast``, whose owner ``xfast`` logs in from loopback without a password."""

    name = "postgres"

    def __init__(self) -> None:
        self.process = Process(FOLDER, "xfast.services=postgres")

    def packages(self) -> dict[str, str | None]:
        return {"postgresql": str(programs() or "") or None}

    def start(self) -> dict[str, str]:
        FOLDER.mkdir(parents=True, exist_ok=True)
        if self.process.pid() is None:
            self._start()
        return {"XFAST_POSTGRES_URL": f"postgresql://xfast@127.0.0.1:{known_ports(FOLDER)['postgres']}/xfast"}

    def _start(self) -> None:
        folder = programs()
        if folder is None:
            raise ServiceError("the package postgresql is installed but initdb is not in /usr/lib/postgresql/*/bin")
        chosen, _ = ports(FOLDER, ["postgres"])
        port = chosen["postgres"]
        data = self._data()
        user = account()
        first = not (data / "PG_VERSION").exists()
        if first:
            run([*user, folder / "initdb", "-D", data, "-U", "xfast", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"])
        settings = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        mark = ["-c", "cluster_name=xfast.services=postgres"]
        self.process.start([*user, folder / "postgres", "-D", data, "-p", str(port), *settings, *mark], cwd=data)
        ready = [folder / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        self.process.wait(lambda: subprocess.run(ready, check=False).returncode == 0, seconds=60)
        if first:
            run([folder / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "xfast", "xfast"])

    def _data(self) -> Path:
        """The data folder, owned by the server's user; elsewhere when that user cannot reach into the checkout."""
        data = FOLDER / "data"
        if os.geteuid() != 0:
            data.mkdir(mode=0o700, exist_ok=True)
            return data
        user = account()
        if subprocess.run([*user, "test", "-x", FOLDER], check=False).returncode != 0:
            name = "xfast-postgres-" + hashlib.sha256(str(FOLDER).encode()).hexdigest()[:12]
            data = Path(tempfile.gettempdir()) / name
        data.mkdir(mode=0o700, exist_ok=True)
        uid, gid = (int(word.split("=")[1]) for word in user[1:3])
        os.chown(data, uid, gid)
        return data

    def stop(self, *, force: bool = False) -> bool:
        return self.process.stop(force=force, sign=signal.SIGINT)  # SIGTERM would wait for the clients

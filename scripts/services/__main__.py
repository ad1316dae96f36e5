"""Install and start what the tests talk to: ``python scripts/services start|stop|restart|env [NAME …]``.

Everything lives in ``.services`` of the checkout and listens on loopback only. ``start`` may be repeated; it writes
``.services/env`` (``NAME=value`` lines), which the tests read. ``restart --kill kafka`` is a crash: SIGKILL and start.
"""

from __future__ import annotations

import argparse
import fcntl
import sys
import time

from browser import Browser
from kafka import Kafka
from machine import HOME, ServiceError, need, say
from postgres import Postgres
from redis import Redis

SERVICES = {"kafka": Kafka, "postgres": Postgres, "browser": Browser, "redis": Redis}
DEFAULT = ["kafka", "postgres", "browser"]


def read_env() -> dict[str, str]:
    file = HOME / "env"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(line.split("=", 1) for line in lines)


def write_env(values: dict[str, str]) -> None:
    temporary = HOME / "env.new"
    temporary.write_text("".join(f"{key}={value}\n" for key, value in sorted(values.items())))
    temporary.replace(HOME / "env")


def start(names: list[str]) -> None:
    values = read_env()
    services = {name: SERVICES[name]() for name in names}
    # One apt run for all: the package lists are fetched once and the packages unpacked together.
    need({package: program for service in services.values() for package, program in service.packages().items()})
    for name, service in services.items():
        began = time.monotonic()
        new = service.start()
        values |= new
        write_env(values)
        say(f"{name} ready in {time.monotonic() - began:.1f} s  {' '.join(f'{k}={v}' for k, v in new.items())}")


def stop(names: list[str], *, force: bool) -> None:
    for name in names:
        if SERVICES[name]().stop(force=force):
            say(f"{name} stopped")


def main() -> int:
    parser = argparse.ArgumentParser(prog="services", description=__doc__)
    parser.add_argument("verb", choices=["start", "stop", "restart", "env"])
    choice = f"of {', '.join(SERVICES)}; default {', '.join(DEFAULT)}"
    parser.add_argument("names", nargs="*", metavar="NAME", help=choice)
    parser.add_argument("--kill", action="store_true", help="stop by SIGKILL")
    args = parser.parse_intermixed_args()
    unknown = sorted(set(args.names) - set(SERVICES))
    if unknown:
        parser.error(f"unknown service {unknown[0]!r}; it is one of {', '.join(SERVICES)}")
    HOME.mkdir(exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if args.verb == "start":
                start(args.names or DEFAULT)
            elif args.verb == "stop":
                stop(args.names or list(SERVICES), force=args.kill)
                if not args.names:
                    write_env({})
            elif args.verb == "restart":
                stop(args.names or DEFAULT, force=args.kill)
                start(args.names or DEFAULT)
            else:
                print("".join(f"export {key}={value}\n" for key, value in read_env().items()), end="")
        except ServiceError as error:
            print(f"services: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

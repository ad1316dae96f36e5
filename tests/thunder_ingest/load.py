"""Load on the service: ``python -m tests.thunder_ingest.load --seconds 300`` prints one JSON object of figures.

A server process follows an embedded log that a writer here fills all the time, with a retention so short that the store
stops growing early; clients ask without pause. Memory and errors are the point, the latencies are those of one machine
that runs the clients, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from xfast.events import NetworkEvent, Post
from xfast.thunder.client import ThunderClient, ThunderUnavailableError
from xfast.thunder.event_log import EventLog

AUTHORS = 5_000


def write(log: EventLog, rate: int, stop: threading.Event) -> None:
    """Append posts at ``rate`` per second; once a second, let the retention of the log run."""
    rng = np.random.default_rng(1)
    number = 0
    while not stop.wait(0.1):
        now = int(time.time() * 1000)
        authors = rng.zipf(1.3, rate // 10) % AUTHORS
        batch = [NetworkEvent(Post(number + i + 1, int(a)), now - 2000).to_bytes() for i, a in enumerate(authors)]
        number += len(batch)
        log.append(batch)
        if number % (rate * 2) < rate // 10:
            log.retain()


async def ask(port: int, end: float, seed: int, latencies: list[float], codes: Counter[str]) -> None:
    rng = np.random.default_rng(seed)
    async with ThunderClient(f"127.0.0.1:{port}") as client:
        while time.monotonic() < end:
            following = rng.integers(0, AUTHORS, 200)
            began = time.perf_counter()
            try:
                await client.in_network(int(rng.integers(1, 1 << 40)), following, timeout=10.0)
                codes["OK"] += 1
                latencies.append(time.perf_counter() - began)
            except ThunderUnavailableError as error:
                codes[error.code] += 1
                await asyncio.sleep(0.005)  # as a client that was turned away should


def resident(pid: int) -> int:
    """Resident memory in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def drive(port: int, pid: int, seconds: float, clients: int) -> dict[str, object]:
    latencies: list[float] = []
    codes: Counter[str] = Counter()
    memory: list[int] = []
    end = time.monotonic() + seconds
    tasks = [asyncio.create_task(ask(port, end, n, latencies, codes)) for n in range(clients)]
    while time.monotonic() < end:
        await asyncio.sleep(min(1.0, seconds / 60))
        memory.append(resident(pid))
    await asyncio.gather(*tasks)
    third = len(memory) // 3
    quantiles = np.quantile(latencies, (0.5, 0.99, 0.999)) * 1000
    return {
        "clients": clients,
        "seconds": seconds,
        "codes": dict(codes),
        "answers_per_second": round(codes["OK"] / seconds),
        "milliseconds_p50_p99_p999": [round(float(q), 2) for q in quantiles],
        "memory_mb_second_third": round(float(np.median(memory[third : 2 * third])) / 1e6, 1),
        "memory_mb_last_third": round(float(np.median(memory[2 * third :])) / 1e6, 1),
        "memory_mb_max": round(max(memory) / 1e6, 1),
    }


def run(seconds: float, clients: int, rate: int, max_concurrent: int) -> dict[str, object]:
    """Start everything, load it for so long, and return the figures."""
    retention = max(2, int(seconds / 10))
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(Path(folder, "log"), segment_bytes=1 << 20, retention_bytes=16 << 20)
        log.append([NetworkEvent(Post(1 << 40, 1), int(time.time() * 1000)).to_bytes()])
        words = ["--log", f"{folder}/log", "--snapshots", f"{folder}/snapshots", "--address", "127.0.0.1:0"]
        words += ["--retention", retention, "--trim-seconds", 1, "--snapshot-seconds", 5]
        words += ["--max-concurrent", max_concurrent, "--log-level", "INFO"]
        command = [Path(sys.executable).with_name("xfast"), "serve", "thunder", *map(str, words)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        stop = threading.Event()
        writer = threading.Thread(target=write, args=(log, rate, stop))
        try:
            assert process.stderr is not None
            port = next(json.loads(line)["port"] for line in process.stderr if "listening" in line)
            # The server's log must be read, or it blocks on a full pipe.
            drain = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
            drain.start()
            writer.start()
            figures = asyncio.run(drive(port, process.pid, seconds, clients))
            process.terminate()
            figures["exit_code"] = process.wait(30)
            drain.join(10)
        finally:
            process.kill()
            process.wait()
            stop.set()
            if writer.ident is not None:
                writer.join()
            if process.stderr is not None:
                process.stderr.close()
            log.close()
    return {**figures, "events_per_second": rate, "retention_seconds": retention}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rate", type=int, default=2_000, help="events per second")
    parser.add_argument("--max-concurrent", type=int, default=48)
    args = parser.parse_args()
    print(json.dumps(run(args.seconds, args.clients, args.rate, args.max_concurrent), indent=1))


if __name__ == "__main__":
    main()

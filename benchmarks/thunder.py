"""The in-network lookup: newest 500 posts of 100, 500 and 2,000 followees out of a million, beside what one would use.

``python -m benchmarks.thunder`` prints the whole comparison as Markdown (docs/thunder.md has a run of it); asv runs the
suites below. A million posts by 50,000 authors (Zipf) over 6 hours, 60 % originals, 25 % replies, 15 % reposts; 200
excluded ids; caps 20/10/20, scan 100. The rivals hold the same posts:

- a dict of deques in Python follows every rule;
- Redis 7 keeps a sorted set per author and kind, one pipeline per lookup; it does not apply the rule for replies;
- SQLite ``:memory:`` has a covering index on author, kind and time, one prepared query per followee; nor does it.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.thunder import ManualClock, PostStore

NOW = 1_700_000_000
HOUR = 3_600
LIMITS = {
    "max_original_per_author": 20,
    "max_secondary_per_author": 10,
    "max_video_per_author": 20,
    "max_scan_per_author": 100,
    "max_results": 500,
}
FOLLOWEES = (100, 500, 2_000)

Ids = npt.NDArray[np.int64]
Request = tuple[int, Ids, Ids]


@dataclass
class Workload:
    """Posts in columns, oldest first, and requests (viewer, followees, excluded) by number of followees."""

    posts: dict[str, npt.NDArray[Any]]
    requests: dict[int, list[Request]]
    retention: int


def workload(posts: int = 1_000_000, authors: int = 50_000, hours: int = 6, requests: int = 300) -> Workload:
    """The same for the same arguments."""
    rng = np.random.default_rng(7)
    weights = 1.0 / np.arange(1, authors + 1)
    people = rng.permutation(authors).astype(np.int64) + 1_000_000
    author = people[rng.choice(authors, posts, p=weights / weights.sum())]
    created = np.sort(NOW - 1 - rng.integers(0, hours * HOUR - 1, posts))
    post_id = np.int64(1 << 60) + np.cumsum(rng.integers(1, 4_000, posts))
    kind = rng.choice(3, posts, p=[0.60, 0.25, 0.15])
    kind[: min(posts, 1_000)] = 0
    index = np.arange(posts)
    # Parents and sources are mostly recent.
    parent = index - np.minimum(index, (rng.pareto(1.0, posts) * 2_000 + 1).astype(np.int64))
    reply, repost = kind == 1, kind == 2
    root = np.where(reply, parent, index)
    for _ in range(40):  # up the chain of replies
        root = np.where(reply[root], parent[root], root)
    columns = {
        "post_id": post_id,
        "author_id": author,
        "created_at": created,
        "in_reply_to_post_id": np.where(reply, post_id[parent], 0),
        "in_reply_to_user_id": np.where(reply, author[parent], 0),
        "is_retweet": repost,
        "is_reply": reply,
        "source_post_id": np.where(repost, post_id[parent], 0),
        "source_user_id": np.where(repost, author[parent], 0),
        "has_video": (rng.random(posts) < 0.15) & (kind == 0),
        "conversation_id": post_id[root],
    }
    popular = np.sqrt(weights)
    popular /= popular.sum()
    asked = {
        count: [
            (
                int(people[rng.integers(authors)]),
                people[rng.choice(authors, count, replace=False, p=popular)],
                post_id[rng.integers(0, posts, 200)],
            )
            for _ in range(requests)
        ]
        for count in FOLLOWEES
    }
    return Workload(columns, asked, hours * HOUR)


def batches(work: Workload, size: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
    count = len(work.posts["post_id"])
    for start in range(0, count, size):
        yield {name: column[start : start + size] for name, column in work.posts.items()}


def filled(work: Workload, size: int = 10_000) -> PostStore:
    store = PostStore(retention_seconds=work.retention, clock=ManualClock(NOW), **LIMITS)
    for batch in batches(work, size):
        store.insert(batch)
    return store


class Writer:
    """50,000 posts a second in batches of 500, two in a hundred deleted again, a trim every 2 s."""

    def __init__(self, store: PostStore, work: Workload, per_second: int = 50_000) -> None:
        self.store, self.per_second, self.written = store, per_second, 0
        self.authors = work.posts["author_id"]
        self.next_id = int(work.posts["post_id"][-1]) + 1
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        rng = np.random.default_rng(1)
        size, began, trimmed = 500, time.perf_counter(), time.perf_counter()
        clock = self.store.clock
        assert isinstance(clock, ManualClock)
        while not self.stop.is_set():
            elapsed = time.perf_counter() - began
            if self.written >= elapsed * self.per_second:
                time.sleep(0.002)
                continue
            clock.time = NOW + elapsed
            ids = np.arange(self.next_id, self.next_id + size)
            self.next_id += size
            self.store.insert(
                {
                    "post_id": ids,
                    "author_id": self.authors[rng.integers(0, len(self.authors), size)],
                    "created_at": np.full(size, int(clock.time) - 1),
                    "conversation_id": ids,
                }
            )
            self.store.delete(ids[:: size // 10])
            self.written += size
            if time.perf_counter() - trimmed > 2:
                self.store.trim()
                trimmed = time.perf_counter()

    def __enter__(self) -> Writer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


# -- rivals


class Deques:
    """A dict of deques with all the rules, as one writes it in Python."""

    def __init__(self, work: Workload) -> None:
        self.records: dict[int, tuple[Any, ...]] = {}
        self.lists: tuple[dict[int, deque[int]], dict[int, deque[int]]] = (defaultdict(deque), defaultdict(deque))
        for row in zip(*(work.posts[name].tolist() for name in work.posts), strict=True):
            self.records[row[0]] = row
            self.lists[row[5] or row[6]][row[1]].append(row[0])

    def lookup(self, viewer: int, following: Ids, exclude: Ids) -> list[tuple[Any, ...]]:
        users = following.tolist()
        followed, excluded, records = set(users), set(exclude.tolist()), self.records
        found: list[tuple[Any, ...]] = []
        for secondary, cap in ((False, 20), (True, 10)):
            lists = self.lists[secondary]
            for user in users:
                taken = scanned = 0
                for post_id in reversed(lists.get(user, ())):
                    if post_id in excluded:
                        continue
                    if scanned == 100 or taken == cap:
                        break
                    scanned += 1
                    post = records[post_id]
                    if post[5] and post[8] == viewer:
                        continue
                    if secondary and post[3]:
                        parent = records.get(post[3])
                        if parent is None:
                            continue
                        if (parent[5] or parent[6]) and not (
                            post[10] and parent[3] == post[10] and post[4] in followed
                        ):
                            continue
                    found.append(post)
                    taken += 1
        found.sort(key=lambda post: post[2], reverse=True)
        return found[:500]


class Sqlite:
    """One table, one covering index, one prepared query per followee and kind."""

    QUERY = "SELECT created, id FROM posts WHERE author = ? AND secondary = ? ORDER BY created DESC LIMIT ?"

    def __init__(self, work: Workload) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE posts (id INTEGER, author INTEGER, created INTEGER, secondary INTEGER)")
        secondary = (work.posts["is_retweet"] | work.posts["is_reply"]).astype(int)
        rows = zip(*(work.posts[name].tolist() for name in ("post_id", "author_id", "created_at")), secondary.tolist())
        self.connection.executemany("INSERT INTO posts VALUES (?, ?, ?, ?)", rows)
        self.connection.execute("CREATE INDEX by_author ON posts (author, secondary, created DESC, id)")
        (pages,), (size,) = (
            self.connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        self.bytes = pages * size

    def lookup(self, viewer: int, following: Ids, exclude: Ids) -> list[tuple[int, int]]:
        excluded, execute = set(exclude.tolist()), self.connection.execute
        found: list[tuple[int, int]] = []
        users = following.tolist()
        for secondary, cap in ((0, 20), (1, 10)):
            for user in users:
                rows = [row for row in execute(self.QUERY, (user, secondary, cap + 5)) if row[1] not in excluded]
                found += rows[:cap]
        found.sort(reverse=True)
        return found[:500]


class Redis:
    """A sorted set per author and kind, one pipeline per lookup, over loopback."""

    def __init__(self, work: Workload, url: str) -> None:
        import redis

        self.client = redis.Redis.from_url(url)
        self.client.flushall()
        before = self.memory()
        secondary = (work.posts["is_retweet"] | work.posts["is_reply"]).tolist()
        kinds = np.where(secondary, "s", "o").tolist()
        ids, authors, times = (work.posts[name].tolist() for name in ("post_id", "author_id", "created_at"))
        for start in range(0, len(ids), 5_000):
            pipe = self.client.pipeline(transaction=False)
            for i in range(start, min(start + 5_000, len(ids))):
                pipe.zadd(f"{kinds[i]}{authors[i]}", {ids[i]: times[i]})
            pipe.execute()
        self.bytes = self.memory() - before

    def memory(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def lookup(self, viewer: int, following: Ids, exclude: Ids) -> list[tuple[float, bytes]]:
        excluded = {b"%d" % post_id for post_id in exclude.tolist()}
        users = following.tolist()
        pipe = self.client.pipeline(transaction=False)
        for user in users:
            pipe.zrevrange(f"o{user}", 0, 24, withscores=True)
        for user in users:
            pipe.zrevrange(f"s{user}", 0, 14, withscores=True)
        found: list[tuple[float, bytes]] = []
        for number, rows in enumerate(pipe.execute()):
            cap = 20 if number < len(users) else 10
            found += [(time_, post_id) for post_id, time_ in rows if post_id not in excluded][:cap]
        found.sort(reverse=True)
        return found[:500]


class RedisServer:
    """A private server on a free port, or the one of ``make services`` (XFAST_REDIS_URL)."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = tempfile.TemporaryDirectory()
        self.url = os.environ.get("XFAST_REDIS_URL", "")
        if not self.url:
            socket = Path(self.folder.name) / "socket"
            options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
            self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, cwd=self.folder.name)
            self.url = f"unix://{socket}"
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        self.folder.cleanup()


# -- measuring


@dataclass
class Timing:
    cpu: float  # median over batches of lookups of this thread's CPU time, µs per lookup
    median: float  # wall
    p99: float  # wall, over requests, each by the median of its rounds
    raw_p99: float  # wall, every single lookup


def measure(lookup: Callable[..., object], requests: list[Request], rounds: int, batch: int = 25) -> Timing:
    """CPU time by batches (the clock of a thread is too coarse for one lookup), wall time one by one."""
    for request in requests[:10]:
        lookup(*request)
    walls = np.empty((rounds, len(requests)))
    cpu: list[float] = []
    for round_ in range(rounds):
        for start in range(0, len(requests), batch):
            part = requests[start : start + batch]
            began = time.thread_time_ns()
            for offset, request in enumerate(part):
                wall = time.perf_counter_ns()
                lookup(*request)
                walls[round_, start + offset] = time.perf_counter_ns() - wall
            cpu.append((time.thread_time_ns() - began) / len(part))
    each = np.median(walls, axis=0) / 1e3
    return Timing(
        float(np.median(cpu)) / 1e3,
        float(np.median(each)),
        float(np.percentile(each, 99)),
        float(np.percentile(walls, 99)) / 1e3,
    )


def rss() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def report(posts: int, requests: int, hours: int, rounds: int, rivals: list[str]) -> None:
    """Print the comparison."""
    work = workload(posts, hours=hours, requests=requests)
    print(f"{posts:,} posts, {hours} h, {requests} requests x {rounds} rounds, one thread\n")

    before, began, cpu = rss(), time.perf_counter(), time.process_time()
    store = filled(work)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    resident, counted = rss() - before, store.memory()["total"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        saved = time.perf_counter()
        size = store.save(path)
        saved = time.perf_counter() - saved
        loads = []
        for _ in range(3):
            loaded = time.perf_counter()
            PostStore.load(path, retention_seconds=work.retention)
            loads.append(time.perf_counter() - loaded)
    print("| xfast store | |\n|---|---|")
    print(
        f"| ingest from columns, batches of 10,000 | {posts / cpu / 1e6:.2f} M posts/s of CPU time, "
        f"{posts / wall / 1e6:.2f} by the wall clock |"
    )
    print(f"| bytes per post, counted / resident | {counted / posts:.1f} / {resident / posts:.1f} |")
    print(f"| snapshot | {size / posts:.1f} B/post, saved in {saved:.2f} s, loaded in {min(loads):.2f} s |\n")

    timings = {"xfast": {count: measure(store.in_network, work.requests[count], rounds) for count in FOLLOWEES}}
    with Writer(store, work) as writer:
        timings["xfast, 50,000 events/s"] = {
            count: measure(store.in_network, work.requests[count], rounds) for count in FOLLOWEES
        }
        if writer.written == 0:
            raise RuntimeError("the writer wrote nothing")
    # What the writer added changes the work (500 results may now share one second); this row has it, but no writer.
    timings["xfast, writer stopped"] = {
        count: measure(store.in_network, work.requests[count], rounds) for count in FOLLOWEES
    }
    sizes = {"xfast": counted / posts}
    store.trim(now=NOW + 10 * work.retention)
    print(f"after a trim of everything the store counts {store.memory()['total']:,} bytes\n")
    del store

    for name in rivals:
        server = None
        before = rss()
        if name == "redis":
            if "XFAST_REDIS_URL" not in os.environ and shutil.which("redis-server") is None:
                print("redis-server is not installed: left out\n", file=sys.stderr)
                continue
            server = RedisServer()
            rival: Any = Redis(work, server.url)
        else:
            rival = {"deques": Deques, "sqlite": Sqlite}[name](work)
        sizes[name] = getattr(rival, "bytes", rss() - before) / posts
        timings[name] = {count: measure(rival.lookup, work.requests[count][:20], 1, batch=5) for count in FOLLOWEES}
        del rival
        if server is not None:
            server.stop()

    print(
        "| µs per lookup: CPU median / wall median / wall p99 (p99 of single lookups) | "
        + " | ".join(map(str, FOLLOWEES))
        + " | B/post |"
    )
    print("|---|" + "---|" * (len(FOLLOWEES) + 1))
    for name, row in timings.items():
        cells = [f"{t.cpu:,.0f} / {t.median:,.0f} / {t.p99:,.0f} ({t.raw_p99:,.0f})" for t in row.values()]
        print(
            f"| {name} | " + " | ".join(cells) + f" | {sizes[name]:.0f} |"
            if name in sizes
            else f"| {name} | " + " | ".join(cells) + " | |"
        )
    print("\n| times slower than xfast, wall median | " + " | ".join(map(str, FOLLOWEES)) + " |")
    print("|---|" + "---|" * len(FOLLOWEES))
    for name in rivals:
        if name in timings:
            ratios = [timings[name][count].median / timings["xfast"][count].median for count in FOLLOWEES]
            print(f"| {name} | " + " | ".join(f"{ratio:,.0f}" for ratio in ratios) + " |")


# -- asv


class Lookup:
    """asv: newest 500 with and without a writer at 50,000 events/s."""

    params = (FOLLOWEES, (False, True))
    param_names = ("followees", "writer")
    timeout = 600

    def setup_cache(self) -> Workload:
        return workload(requests=60)

    def setup(self, work: Workload, followees: int, writer: bool) -> None:
        self.store = filled(work)
        self.requests = work.requests[followees]
        self.writer = Writer(self.store, work)
        if writer:
            self.writer.thread.start()

    def teardown(self, work: Workload, followees: int, writer: bool) -> None:
        self.writer.stop.set()
        if writer:
            self.writer.thread.join()

    def time_60_lookups(self, work: Workload, followees: int, writer: bool) -> None:
        for request in self.requests:
            self.store.in_network(*request)

    def track_p99_over_median(self, work: Workload, followees: int, writer: bool) -> float:
        timing = measure(self.store.in_network, self.requests, 5)
        return timing.p99 / timing.median


class Storage:
    """asv: what ingestion, memory and a restart cost for a million posts."""

    timeout = 600

    def setup_cache(self) -> Workload:
        return workload(requests=1)

    def setup(self, work: Workload) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "snapshot"
        self.store = filled(work)
        self.store.save(self.path)

    def teardown(self, work: Workload) -> None:
        self.folder.cleanup()

    def time_ingest(self, work: Workload) -> None:
        filled(work)

    def time_save(self, work: Workload) -> None:
        self.store.save(self.path)

    def time_load(self, work: Workload) -> None:
        PostStore.load(self.path, retention_seconds=work.retention)

    def peakmem_ingest(self, work: Workload) -> None:
        filled(work)

    def track_bytes_per_post(self, work: Workload) -> float:
        return self.store.memory()["total"] / len(work.posts["post_id"])

    track_bytes_per_post.unit = "bytes"  # type: ignore[attr-defined]


class Rivals:
    """asv: the same lookups on a tenth of the posts by what one would use otherwise."""

    params = (("xfast", "deques", "sqlite"), FOLLOWEES)
    param_names = ("store", "followees")
    timeout = 600

    def setup_cache(self) -> Workload:
        return workload(posts=100_000, requests=5)

    def setup(self, work: Workload, name: str, followees: int) -> None:
        self.lookup = (
            filled(work).in_network if name == "xfast" else {"deques": Deques, "sqlite": Sqlite}[name](work).lookup
        )
        self.requests = work.requests[followees]

    def time_5_lookups(self, work: Workload, name: str, followees: int) -> None:
        for request in self.requests:
            self.lookup(*request)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--hours", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rivals", default="deques,sqlite,redis", help="comma-separated, or 'none'")
    args = parser.parse_args()
    rivals = [] if args.rivals == "none" else args.rivals.split(",")
    report(args.posts, args.requests, args.hours, args.rounds, rivals)


if __name__ == "__main__":
    main()

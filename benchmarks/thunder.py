"""The in-network lookup: newest 500 posts of 100, 500 and 2,000 followees out of a million, beside what one would use.

``python -m benchmarks.thunder`` prints the whole comparison as Markdown (docs/thunder.md has a run of it); asv runs the
suites below. A million posts by 50,000 authors (Zipf) over 6 hours, 60 % originals, 25 % replies, 15 % reposts; 200
excluded ids; caps 20/10/20, scan 100. The rivals that hold the same posts, in the same run, are those of
benchmarks/thunder_rivals.py.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.thunder_rivals import RIVALS, Ids, Redis, Rival
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
# Cache lines that a lookup cannot do without: two per followee (index, author), and of every post looked at its place
# in a timeline, its state and what the answer needs of it (docs/thunder.md).
FLOOR_LINES = (1_600, 3_400, 9_000)

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


def messages(work: Workload, count: int = 1_000_000) -> list[bytes]:
    """The first posts as Kafka carries them: one ``InNetworkEvent`` each."""
    from xfast.events import message_class

    event_class = message_class("xfast.thunder.InNetworkEvent")
    result = []
    for row in zip(*(column[:count].tolist() for column in work.posts.values()), strict=True):
        fields = {name: value for name, value in zip(work.posts, row, strict=True) if value}
        result.append(event_class(tweet_create_event=fields).SerializeToString())
    return result


def line_nanoseconds() -> float:
    """What a cache line costs here that is not in a cache, where many are under way at once: the floor's unit."""
    rng = np.random.default_rng(3)
    memory = np.ones(1 << 26, np.int64)  # 512 MB
    where = rng.integers(0, len(memory), 1 << 20)
    into = np.empty(len(where), np.int64)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter_ns()
        np.take(memory, where, out=into, mode="clip")
        best = min(best, (time.perf_counter_ns() - began) / len(where))
    return best


@dataclass
class Storing:
    """What storing the posts took: rates of CPU time (wall time for a store in another process), bytes, seconds."""

    columns_per_second: float
    bytes_per_second: float
    per_post: float
    restart: float


def store_of(work: Workload, folder: Path) -> tuple[PostStore, Storing]:
    events = messages(work)
    store = PostStore(retention_seconds=work.retention, clock=ManualClock(NOW), **LIMITS)
    began = time.process_time()
    for start in range(0, len(events), 20_000):
        store.feed(events[start : start + 20_000])
    from_bytes = len(events) / (time.process_time() - began)
    del store, events
    began = time.process_time()
    store = filled(work)
    from_columns = len(work.posts["post_id"]) / (time.process_time() - began)
    store.save(folder / "snapshot")
    loads = []
    for _ in range(3):
        loaded = time.perf_counter()
        PostStore.load(folder / "snapshot", retention_seconds=work.retention)
        loads.append(time.perf_counter() - loaded)
    per_post = store.memory()["total"] / len(work.posts["post_id"])
    return store, Storing(from_columns, from_bytes, per_post, min(loads))


def rival_of(name: str, work: Workload, folder: Path) -> tuple[Rival, Storing]:
    rival = RIVALS[name]()
    before, began, cpu = rss(), time.perf_counter(), time.process_time()
    rival.fill(work.posts)
    seconds = time.perf_counter() - began if name == "Redis 7" else time.process_time() - cpu
    size = rival.bytes()
    count = len(work.posts["post_id"])
    per_post = (rss() - before if size is None else size) / count
    return rival, Storing(count / seconds, float("nan"), per_post, rival.restart(folder))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    print(f"| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def report(posts: int, requests: int, hours: int, rounds: int, names: list[str]) -> None:
    """Print the comparison."""
    work = workload(posts, hours=hours, requests=requests)
    print(f"{posts:,} posts, {hours} h, {requests} requests x {rounds} rounds, one thread\n")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        store, ours = store_of(work, folder)
        rivals, storing = {}, {"xfast": ours}
        for name in names:
            rivals[name], storing[name] = rival_of(name, work, folder)

    timings: dict[str, list[Timing]] = {
        "xfast": [measure(store.in_network, work.requests[n], rounds) for n in FOLLOWEES]
    }
    for name, rival in rivals.items():
        timings[name] = [measure(rival.lookup, work.requests[n][:20], 1, batch=5) for n in FOLLOWEES]
    again = [measure(store.in_network, work.requests[n], rounds) for n in FOLLOWEES]
    with Writer(store, work) as writer:
        timings["xfast, 50,000 events/s"] = [measure(store.in_network, work.requests[n], rounds) for n in FOLLOWEES]
    if writer.written == 0:
        raise RuntimeError("the writer wrote nothing")
    # What the writer added changes the work (500 results may now share one second); this row has it, but no writer.
    timings["xfast, writer stopped"] = [measure(store.in_network, work.requests[n], rounds) for n in FOLLOWEES]
    for rival in rivals.values():
        rival.close()
    store.trim(now=NOW + 10 * work.retention)
    left = store.memory()["total"]

    line = line_nanoseconds()
    floors = [count * line / 1000 for count in FLOOR_LINES]
    table(
        "µs per lookup: CPU median / wall median / wall p99 (p99 of single lookups)",
        list(map(str, FOLLOWEES)),
        [
            [name, *(f"{t.cpu:,.0f} / {t.median:,.0f} / {t.p99:,.0f} ({t.raw_p99:,.0f})" for t in row)]
            for name, row in {**timings, "xfast, second run": again}.items()
        ],
    )
    mine = timings["xfast"]
    table(
        "times xfast, wall median",
        list(map(str, FOLLOWEES)),
        [
            *(
                [name, *(f"{t.median / m.median:,.0f}" for t, m in zip(timings[name], mine, strict=True))]
                for name in rivals
            ),
            ["floor", *(f"1 / {m.median / floor:.1f}" for m, floor in zip(mine, floors, strict=True))],
        ],
    )
    table(
        "p99 over median, by request (single lookups)",
        list(map(str, FOLLOWEES)),
        [
            [name, *(f"{t.p99 / t.median:.2f} ({t.raw_p99 / t.median:.2f})" for t in row)]
            for name, row in timings.items()
            if name.startswith("xfast")
        ],
    )
    table(
        "storing",
        ["from columns, M posts/s", "from bytes, M events/s", "B per post", "restart, s"],
        [
            [
                name,
                f"{s.columns_per_second / 1e6:.2f} ({s.columns_per_second / ours.columns_per_second:.2f} ×)",
                "" if np.isnan(s.bytes_per_second) else f"{s.bytes_per_second / 1e6:.2f}",
                f"{s.per_post:.1f} ({s.per_post / ours.per_post:.1f} ×)",
                f"{s.restart:.2f} ({s.restart / ours.restart:.0f} ×)",
            ]
            for name, s in storing.items()
        ],
    )
    print(f"a cache line: {line:.1f} ns; floor {' / '.join(f'{floor:.0f}' for floor in floors)} µs")
    print(f"after a trim of everything the store counts {left:,} bytes")


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

    params = (("xfast", "dict of deques", "SQLite"), FOLLOWEES)
    param_names = ("store", "followees")
    timeout = 600

    def setup_cache(self) -> Workload:
        return workload(posts=100_000, requests=5)

    def setup(self, work: Workload, name: str, followees: int) -> None:
        self.lookup: Callable[..., object]
        if name == "xfast":
            self.lookup = filled(work).in_network
        else:
            rival = RIVALS[name]()
            rival.fill(work.posts)
            self.lookup = rival.lookup
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
    parser.add_argument("--rivals", default="all", help="'all', 'none', or names: " + ", ".join(RIVALS))
    args = parser.parse_args()
    names = {"all": list(RIVALS), "none": []}.get(args.rivals, args.rivals.split(","))
    if "Redis 7" in names and not Redis.available():
        parser.error("there is no redis-server: make services SERVICES=redis, or choose other --rivals")
    report(args.posts, args.requests, args.hours, args.rounds, names)


if __name__ == "__main__":
    main()

"""What one would use instead of the post store: a dict of deques, SQLite ``:memory:``, Redis 7.

Each holds the posts of a workload (benchmarks/thunder.py), answers the same lookups, and comes back after a restart:
the deques from a pickle, SQLite from a database file, Redis from its own dump.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Columns = dict[str, npt.NDArray[Any]]


class Rival(Protocol):
    """A store that is measured beside ours."""

    def fill(self, posts: Columns) -> None:
        """Take the posts."""

    def bytes(self) -> int | None:
        """The memory it takes by its own count; None if only the process knows."""

    def lookup(self, viewer: int, following: Ids, exclude: Ids) -> list[Any]:
        """The newest 500 posts of the followees."""

    def restart(self, folder: Path) -> float:
        """Seconds from a file on disk to a store that answers; writing the file does not count."""

    def close(self) -> None:
        """Let everything go."""


class Deques:
    """A dict of deques with all the rules, as one writes it in Python."""

    def __init__(self) -> None:
        self.records: dict[int, tuple[Any, ...]] = {}
        self.lists: tuple[dict[int, deque[int]], dict[int, deque[int]]] = (defaultdict(deque), defaultdict(deque))

    def fill(self, posts: Columns) -> None:
        for row in zip(*(posts[name].tolist() for name in posts), strict=True):
            self.records[row[0]] = row
            self.lists[row[5] or row[6]][row[1]].append(row[0])

    def bytes(self) -> int | None:
        return None

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

    def restart(self, folder: Path) -> float:
        (folder / "pickle").write_bytes(pickle.dumps((self.records, self.lists)))
        began = time.perf_counter()
        self.records, self.lists = pickle.loads((folder / "pickle").read_bytes())
        return time.perf_counter() - began

    def close(self) -> None:
        self.records.clear()
        self.lists = ({}, {})


class Sqlite:
    """One table, one covering index, one prepared query per followee and kind; without the rule for replies."""

    QUERY = "SELECT created, id FROM posts WHERE author = ? AND secondary = ? ORDER BY created DESC LIMIT ?"

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE posts (id INTEGER, author INTEGER, created INTEGER, secondary INTEGER)")

    def fill(self, posts: Columns) -> None:
        secondary = (posts["is_retweet"] | posts["is_reply"]).astype(int).tolist()
        rows = zip(*(posts[name].tolist() for name in ("post_id", "author_id", "created_at")), secondary, strict=True)
        self.connection.executemany("INSERT INTO posts VALUES (?, ?, ?, ?)", rows)
        self.connection.execute("CREATE INDEX by_author ON posts (author, secondary, created DESC, id)")
        self.connection.commit()

    def bytes(self) -> int | None:
        pages, size = (self.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages) * int(size)

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

    def restart(self, folder: Path) -> float:
        with sqlite3.connect(folder / "database") as file:
            self.connection.backup(file)
        began = time.perf_counter()
        again = sqlite3.connect(":memory:")
        file.backup(again)
        seconds = time.perf_counter() - began
        again.close()
        file.close()
        return seconds

    def close(self) -> None:
        self.connection.close()


class Redis:
    """A sorted set per author and kind, one pipeline per lookup, over a socket; without the rule for replies.

    A private ``redis-server``, or the one of ``make services`` (XFAST_REDIS_URL) where the program is not on the path.
    """

    def __init__(self) -> None:
        import redis

        self.process: subprocess.Popen[bytes] | None = None
        self.folder = tempfile.TemporaryDirectory()
        url = os.environ.get("XFAST_REDIS_URL", "")
        if program := shutil.which("redis-server"):
            socket = Path(self.folder.name) / "socket"
            options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
            options += ["--enable-debug-command", "yes"]
            self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, cwd=self.folder.name)
            url = f"unix://{socket}"
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.05)
        self.client: Any = redis.Redis.from_url(url)
        self.client.flushall()
        self.empty = self.used()

    @staticmethod
    def available() -> bool:
        return shutil.which("redis-server") is not None or "XFAST_REDIS_URL" in os.environ

    def used(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def fill(self, posts: Columns) -> None:
        kinds = np.where(posts["is_retweet"] | posts["is_reply"], "s", "o").tolist()
        ids, authors, times = (posts[name].tolist() for name in ("post_id", "author_id", "created_at"))
        for start in range(0, len(ids), 5_000):
            pipe = self.client.pipeline(transaction=False)
            for i in range(start, min(start + 5_000, len(ids))):
                pipe.zadd(f"{kinds[i]}{authors[i]}", {ids[i]: times[i]})
            pipe.execute()

    def bytes(self) -> int | None:
        return self.used() - self.empty

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

    def restart(self, folder: Path) -> float:
        if self.process is None:
            return float("nan")  # the shared server may not be told to reload
        self.client.save()
        began = time.perf_counter()
        self.client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        return time.perf_counter() - began

    def close(self) -> None:
        self.client.close()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        self.folder.cleanup()


RIVALS: dict[str, type[Deques] | type[Sqlite] | type[Redis]] = {
    "dict of deques": Deques,
    "Redis 7": Redis,
    "SQLite": Sqlite,
}

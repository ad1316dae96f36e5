"""Stores: the reads of one request, and feeding; SQLite in a file, PostgreSQL where XFAST_POSTGRES_URL is set.

The rival reads post by post, which is what the batched interface is there to avoid.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from urllib.parse import quote

import numpy as np

from xfast.events import EventBatch
from xfast.stores import HistoryOptions, Relation, open_store

CANDIDATES, FOLLOWS, HISTORY, POSTS = 1500, 1000, 4000, 20_000


def _url(kind: str) -> tuple[str, object]:
    if kind == "sqlite":
        folder = tempfile.TemporaryDirectory()
        return f"sqlite:///{Path(folder.name) / 'store.db'}", folder
    server = os.environ.get("XFAST_POSTGRES_URL")
    if not server:
        raise NotImplementedError("XFAST_POSTGRES_URL is not set")
    import psycopg

    schema = f"bench_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    return f"{server}?options={quote(f'-c search_path={schema}')}", (server, schema)


def _posts(count: int) -> EventBatch:
    ids = np.arange(1, count + 1)
    text = np.full(count, "x" * 180, object)
    return EventBatch.of("post", ids, post_id=ids, author_id=ids % 5000 + 1, text=text, language="en")


class _Backend:
    params: tuple[list[str], ...] = (["sqlite", "postgres"],)
    param_names: tuple[str, ...] = ("backend",)
    timeout = 120.0
    cache_entries = 0

    def setup(self, kind: str) -> None:
        self.url, self.owned = _url(kind)
        self.store = open_store(self.url, cache_entries=self.cache_entries, cache_age_ms=3_600_000)
        rng = np.random.default_rng(0)
        follows = rng.choice(5000, FOLLOWS, replace=False) + 1
        self.store.apply(_posts(POSTS))
        self.store.apply(EventBatch.of("follow", np.full(FOLLOWS, 1), user_id=1, target_user_id=follows))
        times = np.arange(HISTORY) * 1000
        seen = rng.integers(1, POSTS, HISTORY)
        self.store.apply(
            EventBatch.of("engagement", times, user_id=1, post_id=seen, action=1, author_id=seen % 5000 + 1)
        )
        self.candidates = rng.choice(POSTS, CANDIDATES, replace=False) + 1
        self.store.posts(self.candidates)

    def teardown(self, kind: str) -> None:
        if hasattr(self, "store"):
            self.store.close()
        if isinstance(getattr(self, "owned", None), tuple):
            import psycopg

            with psycopg.connect(self.owned[0], autocommit=True) as connection:
                connection.execute(f"DROP SCHEMA {self.owned[1]} CASCADE")


class Reads(_Backend):
    """Without the in-process cache."""

    def time_posts_1500(self, kind: str) -> None:
        self.store.posts(self.candidates)

    def time_labels_1500(self, kind: str) -> None:
        self.store.labels(self.candidates)

    def time_follows_1000(self, kind: str) -> None:
        self.store.related([1], Relation.FOLLOW)

    def time_authors_that_block(self, kind: str) -> None:
        self.store.has_relation(self.candidates, Relation.BLOCK, 1)

    def time_history_1024(self, kind: str) -> None:
        self.store.histories([1], HistoryOptions(), now_ms=10**9)

    def time_rival_posts_one_by_one(self, kind: str) -> None:
        for post in self.candidates[:150]:
            self.store.posts([post])


class CachedReads(_Backend):
    """With it, warm."""

    cache_entries = 200_000

    def time_posts_1500(self, kind: str) -> None:
        self.store.posts(self.candidates)

    def time_follows_1000(self, kind: str) -> None:
        self.store.related([1], Relation.FOLLOW)

    def time_history_1024(self, kind: str) -> None:
        self.store.histories([1], HistoryOptions(), now_ms=10**9)

    def track_hit_rate(self, kind: str) -> float:
        for _ in range(9):
            self.store.posts(self.candidates)
        return self.store.cache_stats().hit_rate


class Feeding(_Backend):
    """Batches of 5,000 events."""

    number = 1
    warmup_time = 0.0

    def setup(self, kind: str) -> None:
        super().setup(kind)
        self.step = POSTS

    def time_apply_5000_posts(self, kind: str) -> None:
        ids = np.arange(self.step, self.step + 5000) + 1
        self.step += 5000
        self.store.apply(EventBatch.of("post", ids, post_id=ids, author_id=7, text=np.full(5000, "x" * 180, object)))

    def time_apply_5000_engagements(self, kind: str) -> None:
        ids = np.arange(self.step, self.step + 5000) + 1
        self.step += 5000
        self.store.apply(EventBatch.of("engagement", 10**7 + ids, user_id=ids % 100, post_id=ids % POSTS, action=1))


class Size:
    """A SQLite file of posts with 180 bytes of text, indices included."""

    def track_bytes_per_post(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            store = open_store(f"sqlite:///{folder}/posts.db")
            store.apply(_posts(POSTS))
            store.close()
            return (Path(folder) / "posts.db").stat().st_size / POSTS

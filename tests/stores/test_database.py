"""What the contract cannot see: round trips, lost servers, forks, migrations, the cache."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from xfast.errors import ParameterError, StoreError
from xfast.events import Account, AccountState, Delete, Follow, Impression, NetworkEvent, Post
from xfast.stores import FilterOptions, HistoryOptions, ReadCache, Relation, SqlStore, Store, open_store
from xfast.stores.database import Session
from xfast.stores.schema import MIGRATIONS


def follow(source: int, target: int, time_ms: int = 1) -> list[NetworkEvent]:
    return [NetworkEvent(Follow(source, target), time_ms)]


# Round trips ----------------------------------------------------------------------------------------------------------


def test_every_read_is_one_statement(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ids are asked for."""
    with closing(open_store(sqlite_url, cache_entries=0)) as store:
        store.apply([NetworkEvent(Post(post, post + 1, text="x"), 1) for post in range(1, 100)])
        store.apply([event for user in range(50) for event in follow(user, user + 1)])
        store.signatures(range(60))
        statements: list[str] = []
        fetch = Session.select

        def counted(self: Session, sql: str, columns: Any, parameters: Any = ()) -> Any:
            if columns[0][2]:
                statements.append(sql)
            return fetch(self, sql, columns, parameters)

        monkeypatch.setattr(Session, "select", counted)
        ids = np.arange(3000)
        calls = {
            "users": lambda: store.users(ids),
            "posts": lambda: store.posts(ids),
            "labels": lambda: store.labels(ids),
            "counts": lambda: store.counts(ids),
            "keywords": lambda: store.muted_keywords(ids),
            "related": lambda: store.related(ids, Relation.FOLLOW),
            "has_relation": lambda: store.has_relation(ids, Relation.BLOCK, 5),
            "posts_by": lambda: store.posts_by(ids),
            "signatures": lambda: store.signatures(np.arange(50)),
            "histories": lambda: store.histories(ids, HistoryOptions(), now_ms=10),
        }
        for name, call in calls.items():
            statements.clear()
            call()
            assert len(statements) == 1, name


# A server that goes away ----------------------------------------------------------------------------------------------


class Proxy:
    """A TCP relay to PostgreSQL that can be cut and mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.sockets: list[socket.socket] = []
        self.threads: list[threading.Thread] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._spawn(self._accept, self.listener)

    def _spawn(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        thread.start()
        self.threads.append(thread)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                self._spawn(self._pump, client, server)
                self._spawn(self._pump, server, client)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def cut(self) -> None:
        for each in [self.listener, *self.sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self.threads:
            thread.join(5)
        self.sockets, self.threads = [], []

    def mend(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self._spawn(self._accept, self.listener)


@pytest.fixture
def proxied(postgres_schema: str) -> Iterator[tuple[Proxy, Store]]:
    parts = urlsplit(postgres_schema)
    assert parts.hostname and parts.port
    proxy = Proxy((parts.hostname, parts.port))
    url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()
    store = open_store(url, cache_entries=0, timeout_ms=2_000)
    yield proxy, store
    store.close()
    proxy.cut()


@pytest.mark.services
def test_a_server_that_dies_in_mid_request(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.apply(follow(1, 2))
    assert isinstance(store, SqlStore)
    errors: list[BaseException] = []

    def slow() -> None:
        try:
            store._db.read(lambda session: session.fetch("SELECT pg_sleep(1.5)"))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=slow)
    thread.start()
    time.sleep(0.3)
    proxy.cut()
    thread.join(10)
    assert [type(error) for error in errors] == [StoreError]
    with pytest.raises(StoreError, match=r"PostgreSQL store 127\.0\.0\.1:\d+/\w+ cannot be reached"):
        store.related([1], Relation.FOLLOW)
    with pytest.raises(StoreError, match="cannot be reached"):
        store.apply(follow(1, 3))
    proxy.mend()
    assert store.related([1], Relation.FOLLOW)[0].tolist() == [2]
    store.apply(follow(1, 3))
    assert store.related([1], Relation.FOLLOW)[0].tolist() == [2, 3]


@pytest.mark.services
def test_a_connection_that_was_cut_between_requests_is_not_noticed(proxied: tuple[Proxy, Store]) -> None:
    proxy, store = proxied
    store.apply(follow(1, 2))
    proxy.cut()
    proxy.mend()
    assert store.related([1], Relation.FOLLOW)[0].tolist() == [2]
    proxy.cut()
    proxy.mend()
    assert store.apply(follow(1, 3)).changed == {"follow": 1}


@pytest.mark.services
def test_statements_have_a_deadline(postgres_schema: str) -> None:
    with closing(open_store(postgres_schema, timeout_ms=200)) as store:
        assert isinstance(store, SqlStore)
        with pytest.raises(StoreError, match="statement timeout"):
            store._db.read(lambda session: session.fetch("SELECT pg_sleep(5)"))
        store.ping()


@pytest.mark.services
def test_two_writers_on_one_server(postgres_schema: str) -> None:
    """Counters are right although two processes' worth of stores add to them at once."""
    stores = [open_store(postgres_schema) for _ in range(2)]
    threads = [
        threading.Thread(
            target=lambda store, first: [store.apply(follow(each, 1, each)) for each in range(first, 40, 2)],
            args=(store, first),
        )
        for first, store in enumerate(stores, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(stores[0]), closing(stores[1]), closing(open_store(postgres_schema)) as fresh:
        assert fresh.users([1]).followers.tolist() == [38]


def test_a_locked_file_is_an_error(sqlite_url: str) -> None:
    with closing(open_store(sqlite_url, timeout_ms=50)) as store:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"SQLite store .*store\.db: database is locked"):
                store.apply(follow(1, 2))
            # Readers do not wait for the writer.
            assert store.related([1], Relation.FOLLOW)[0].tolist() == []
            other.execute("ROLLBACK")
        assert store.apply(follow(1, 2)).changed == {"follow": 1}


# Opening --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["sqlite_url", pytest.param("postgres_schema", marks=pytest.mark.services)])
def test_migrations_run_once_and_never_backwards(fixture: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(fixture)
    with closing(open_store(url)) as store:
        store.apply(follow(1, 2))
    with closing(open_store(url)) as store:
        assert store.related([1], Relation.FOLLOW)[0].tolist() == [2]
        assert isinstance(store, SqlStore)
        versions = store._db.read(lambda session: session.fetch("SELECT version FROM schema_versions"))
        assert versions == [(number,) for number in range(1, len(MIGRATIONS) + 1)]
        store._db.write(lambda session: session.execute("INSERT INTO schema_versions (version) VALUES (999)"))
    with pytest.raises(StoreError, match=f"has schema version 999, this release knows up to {len(MIGRATIONS)}"):
        open_store(url)


@pytest.mark.parametrize("fixture", ["sqlite_url", pytest.param("postgres_schema", marks=pytest.mark.services)])
@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_store_is_upgraded_with_what_it_holds(
    fixture: str, version: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue(fixture)
    with monkeypatch.context() as older:
        older.setattr("xfast.stores.database.MIGRATIONS", MIGRATIONS[:version])
        with closing(open_store(url)) as store:
            store.apply([*follow(1, 2), *follow(3, 2), NetworkEvent(Post(7, 1, text="x"), 1)])
    with closing(open_store(url)) as store:
        assert isinstance(store, SqlStore)
        assert store.related([2], Relation.FOLLOW, inverse=True)[0].tolist() == [1, 3]
        assert store.posts([7]).text.tolist() == ["x"]
        assert store._db.read(lambda session: session.fetch("SELECT MAX(version) FROM schema_versions")) == [
            (len(MIGRATIONS),)
        ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"url": "mysql://x"}, ParameterError, "url is 'mysql://x', must be sqlite:///PATH"),
        ({"url": "store.db"}, ParameterError, "url is 'store.db'"),
        ({"url": "sqlite:///nowhere/at/all.db"}, StoreError, r"SQLite store nowhere/at/all\.db cannot be reached"),
        ({"url": "postgresql://127.0.0.1:1/x"}, StoreError, "PostgreSQL store 127.0.0.1:1/x cannot be reached"),
        ({"url": "sqlite://", "timeout_ms": 0}, ParameterError, "timeout_ms is 0"),
        ({"url": "sqlite://", "cache_entries": -1}, ParameterError, "max_entries is -1"),
        ({"url": "sqlite://", "cache_age_ms": -1}, ParameterError, "max_age_ms is -1"),
    ],
)
def test_what_cannot_be_opened(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_store(**arguments)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'x.db'}")


def test_the_package_opens_no_driver_on_import() -> None:
    code = "import sys, xfast.stores; print({'psycopg', 'jax', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# Processes and threads ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_has_connections_of_its_own(url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply(follow(1, 2))
        child = os.fork()
        if child == 0:
            # The child must leave without pytest's clean-up; its verdict is the exit code.
            code = 1
            with suppress(BaseException):
                before = store.related([1], Relation.FOLLOW)[0].tolist()
                store.apply(follow(1, 3, 2))
                after = store.related([1], Relation.FOLLOW)[0].tolist()
                store.close()
                code = 0 if (before, after) == ([2], [2, 3]) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        store.ping()
        store.apply(follow(1, 4, 3))
        expected = [2, 4] if url == "sqlite://" else [2, 3, 4]
        assert store.related([1], Relation.FOLLOW)[0].tolist() == expected


def test_no_connection_is_left_open(sqlite_url: str) -> None:
    """Threads that ended gave their connections back, and close() closes them: no ResourceWarning."""
    code = f"""
import gc, threading, warnings
warnings.simplefilter("error")
from xfast.stores import open_store
from xfast.events import Follow, NetworkEvent
store = open_store({sqlite_url!r})
threads = [threading.Thread(target=lambda: store.users(range(10))) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
store.apply([NetworkEvent(Follow(1, 2), 1)])
assert 1 <= len(store._db._idle) <= 8
store.close()
del store
gc.collect()
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


# The cache ------------------------------------------------------------------------------------------------------------


def test_what_is_applied_is_seen_at_once_and_others_within_the_age(sqlite_url: str) -> None:
    now = [0.0]
    ours, theirs = open_store(sqlite_url), open_store(sqlite_url)
    assert isinstance(ours, SqlStore)
    ours._cache = ReadCache(100, 1000, lambda: now[0])
    with closing(ours), closing(theirs):
        ours.users([1])
        ours.apply([NetworkEvent(Account(1, AccountState.SUSPENDED), 1)])
        assert ours.users([1]).state.tolist() == [AccountState.SUSPENDED]
        theirs.apply([NetworkEvent(Account(1, AccountState.ACTIVE), 2)])
        now[0] = 0.9
        assert ours.users([1]).state.tolist() == [AccountState.SUSPENDED]
        now[0] = 1.1
        assert ours.users([1]).state.tolist() == [AccountState.ACTIVE]
        stats = ours.cache_stats()
        assert (stats.hits, stats.misses, stats.expirations, stats.invalidations) == (1, 3, 1, 1)
        assert stats.hit_rate == 0.25 and stats.entries == 1


def test_the_cache_is_bounded_and_forgets_the_least_used() -> None:
    cache = ReadCache(3, 1000)
    loads: list[list[int]] = []

    def load(keys: list[int]) -> dict[int, int]:
        loads.append(keys)
        return {key: key * 10 for key in keys if key != 4}

    assert cache.fetch("a", [1, 2, 1, 3], load, None) == [10, 20, 10, 30]
    assert cache.fetch("a", [1, 4], load, None) == [10, None]
    assert cache.fetch("a", [1, 4, 3], load, None) == [10, None, 30]
    assert cache.fetch("a", [2], load, None) == [20]
    assert loads == [[1, 2, 3], [4], [2]]
    assert cache.stats().entries == 3 and cache.stats().evictions == 2


def test_a_change_during_a_read_is_not_cached_away() -> None:
    cache = ReadCache(10, 1000)

    def load(keys: list[int]) -> dict[int, str]:
        cache.invalidate("a", [1])  # an event is applied between the read and its return
        return {1: "old"}

    assert cache.fetch("a", [1], load, None) == ["old"]
    assert cache.fetch("a", [1], lambda keys: {1: "new"}, None) == ["new"]


def test_the_same_question_gets_the_same_table_until_something_changes() -> None:
    now = 0.0
    cache = ReadCache(10, 1000, clock=lambda: now)
    made: list[list[str]] = []

    def ask(name: bytes, keys: list[int], word: str) -> list[str]:
        def read(fetch: Any) -> list[str]:
            made.append(fetch(keys, lambda missing: {key: f"{word} {key}" for key in missing}, ""))
            return made[-1]

        answer: list[str] = cache.table("a", name, read)
        return answer

    assert ask(b"1", [1], "old") == ["old 1"]
    now = 0.6
    assert ask(b"12", [1, 2], "later") == ["old 1", "later 2"]
    assert ask(b"12", [1, 2], "unread") is made[-1] and len(made) == 2
    assert (cache.stats().hits, cache.stats().misses) == (3, 2)
    now = 1.1
    assert ask(b"12", [1, 2], "new") == ["new 1", "later 2"], "a table is as old as its oldest value"
    cache.invalidate("b", [7])
    ask(b"12", [1, 2], "unread")
    assert len(made) == 4, "any change could be one of its own"
    for number in range(20):
        ask(bytes([number]), [1], "x")
    ask(b"12", [1, 2], "unread")
    assert len(made) == 25, "few are kept"


def test_a_change_while_a_table_is_made_is_not_kept_away() -> None:
    cache = ReadCache(10, 1000)

    def read(fetch: Any) -> list[str]:
        found: list[str] = fetch([1], lambda missing: {1: "old"}, "")
        cache.invalidate("a", [1])
        return found

    assert cache.table("a", b"1", read) == ["old"]
    assert cache.table("a", b"1", lambda fetch: fetch([1], lambda missing: {1: "new"}, "")) == ["new"]


def test_tables_are_shared_and_read_only() -> None:
    with closing(open_store("sqlite://")) as store:
        store.apply([NetworkEvent(Post(7, 1, text="x"), 1)])
        first = store.posts([7, 8])
        assert store.posts([7, 8]) is first and store.posts([8, 7]) is not first
        with pytest.raises(ValueError, match="read-only"):
            first.author_id[0] = 5
        store.apply([NetworkEvent(Delete(7, 1), 2)])
        assert store.posts([7, 8]).deleted.tolist() == [True, False]


def test_impression_filters_roll_over_and_are_bounded() -> None:
    options = FilterOptions(size_cap=10, false_positive_rate=0.001, max_filters=3)
    with closing(open_store("sqlite://", filters=options)) as store:
        for start in range(0, 60, 4):
            store.apply([NetworkEvent(Impression(1, post), post) for post in range(start, start + 4)])
        filters = store.impression_filters(1)
        assert len(filters) == 3 and all(each.size_cap == 10 for each in filters)
        for number, each in enumerate(filters):
            assert each.contains(np.arange(30 + 10 * number, 40 + 10 * number)).all()
        assert not filters[0].contains(np.arange(29)).any()

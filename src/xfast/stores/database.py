"""SQLite and PostgreSQL behind one small interface: sessions, batched parameters, upserts, errors.

SQL is written once, with ``?`` for parameters. A batch of ids enters as one parameter and becomes a table
(:meth:`Session.values`), so that reading a thousand posts is one statement.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from xfast.errors import ParameterError, StoreError
from xfast.stores.schema import MIGRATIONS

__all__ = ["Database", "Session", "open_database"]

T = TypeVar("T")
Type = Literal["id", "int", "real", "text", "blob"]
Column = tuple[str, Type, Sequence[Any]]

# Connections that a child of a fork must not touch and must not close either: they belong to the parent.
_FOREIGN: list[Any] = []


class Session(ABC):
    """One connection in the hands of one caller."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @abstractmethod
    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement and return how many rows it touched."""

    @abstractmethod
    def values(self, columns: Sequence[Column], alias: str = "r") -> tuple[str, list[Any]]:
        """Return the SQL of a table made of equally long columns, and its parameters."""

    @abstractmethod
    def upsert(self, table: str, keys: Sequence[str], columns: Sequence[Column]) -> None:
        """Insert rows; where a row with these keys exists, replace its other columns. Keys do not repeat."""

    @abstractmethod
    def lift_deadline(self) -> None:
        """Let the statements of this transaction take their time."""

    def insert_new(self, table: str, columns: Sequence[Column], returning: str) -> list[tuple[Any, ...]]:
        """Insert the rows whose key is not there yet and return those."""
        if not columns[0][2]:
            return []
        names = ", ".join(name for name, _, _ in columns)
        source, parameters = self.values(columns)
        sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM {source} WHERE 1 = 1 ON CONFLICT DO NOTHING"
        return self.fetch(f"{sql} RETURNING {returning}", parameters)

    def select(self, sql: str, columns: Sequence[Column], parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run ``sql`` with ``{r}`` standing for the table of ``columns``; nothing is run for an empty one.

        Join with ``{r} CROSS JOIN table WHERE …``: SQLite then goes from the values to the table's key. With ``JOIN``
        it may go through the table and look at every value for every row, because it has no statistics that tell it
        better; PostgreSQL chooses in either case.
        """
        if not columns[0][2]:
            return []
        source, values = self.values(columns)
        return self.fetch(sql.format(r=source), [*values, *parameters])

    def change(self, sql: str, columns: Sequence[Column], parameters: Sequence[Any] = ()) -> int:
        """Run ``sql``, which changes rows, as :meth:`select` does."""
        if not columns[0][2]:
            return 0
        source, values = self.values(columns)
        return self.execute(sql.format(r=source), [*values, *parameters])


class Database(ABC):
    """A pool of connections to one database, one per concurrent caller."""

    types: dict[str, str]

    def __init__(self, name: str) -> None:
        self.name = name
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._closed = False

    @abstractmethod
    def connect(self) -> Session:
        """Open a connection."""

    @abstractmethod
    def begin(self, session: Session) -> None:
        """Start a transaction that is alone in writing."""

    @property
    @abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises."""

    @abstractmethod
    def is_lost(self, session: Session, error: Exception) -> bool:
        """Whether the connection is gone, so that another one may do better."""

    def renew_after_fork(self) -> bool:
        """Start afresh if this process is a child of the one that opened the database; tell whether it is."""
        if self._pid == os.getpid():
            return False
        _FOREIGN.extend(self._idle)
        closed = self._closed
        self._reset()
        self._closed = closed
        return True

    def _checkout(self, *, fresh: bool) -> tuple[Session, bool]:
        with self._lock:
            if self._closed:
                raise StoreError(f"{self.name} is closed")
            if self._idle and not fresh:
                return self._idle.pop(), True
        try:
            return self.connect(), False
        except self.errors as error:
            raise StoreError(f"{self.name} cannot be reached: {_reason(error)}") from error

    def _give_back(self, session: Session, *, usable: bool) -> None:
        with self._lock:
            if usable and not self._closed:
                self._idle.append(session)
                return
        session.connection.close()

    def read(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` on a connection.

        A pooled connection that turns out to be dead is replaced once; a second failure is an error.

        Raises
        ------
        StoreError
            The database cannot be reached, or refuses.
        """
        return self._run(work)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction, one writer at a time; everything or nothing is done."""

        def transaction(session: Session) -> T:
            self.begin(session)
            try:
                result = work(session)
                session.execute("COMMIT")
            except BaseException:
                self._roll_back(session)
                raise
            return result

        with self._write_lock:
            return self._run(transaction)

    def _roll_back(self, session: Session) -> None:
        try:
            session.execute("ROLLBACK")
        except self.errors as error:
            # The connection is gone and the transaction with it; the first error is the one to report.
            if not self.is_lost(session, error) and not self._ended(error):
                raise

    def _ended(self, error: Exception) -> bool:
        return "no transaction is active" in str(error)

    def _run(self, work: Callable[[Session], T]) -> T:
        self.renew_after_fork()
        fresh = False
        while True:
            session, pooled = self._checkout(fresh=fresh)
            usable = True
            try:
                return work(session)
            except self.errors as error:
                lost = self.is_lost(session, error)
                usable = not lost
                if lost and pooled:
                    self._drop_idle()
                    fresh = True
                    continue
                raise StoreError(f"{self.name}: {_reason(error)}") from error
            finally:
                self._give_back(session, usable=usable)

    def sync(self) -> None:  # noqa: B027 - a server's commits are durable already
        """Make everything written so far survive a power cut, where commits alone do not."""

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for session in idle:
            session.connection.close()

    def close(self) -> None:
        """Close every idle connection; one that is in use closes when it is given back."""
        if self.renew_after_fork():
            self._closed = True
            return
        with self._lock:
            self._closed = True
        self._drop_idle()

    def migrate(self) -> int:
        """Create or upgrade the tables; return the schema's version.

        Raises
        ------
        StoreError
            The database was written by a later release.
        """

        def upgrade(session: Session) -> int:
            session.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (version {int} PRIMARY KEY)".format(**self.types)
            )
            rows = session.fetch("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
            version = int(rows[0][0])
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self.name} has schema version {version}, this release knows up to {len(MIGRATIONS)}"
                )
            for number in range(version + 1, len(MIGRATIONS) + 1):
                for statement in MIGRATIONS[number - 1]:
                    session.execute(statement.format(**self.types))
                session.execute("INSERT INTO schema_versions (version) VALUES (?)", (number,))
            return len(MIGRATIONS)

        return self.write(upgrade)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class _SqliteSession(Session):
    def lift_deadline(self) -> None:
        """Statements have none: SQLite's deadline is for waiting on another writer."""

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.connection.execute(sql, parameters).fetchall()
        return rows

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return int(self.connection.execute(sql, parameters).rowcount)

    def values(self, columns: Sequence[Column], alias: str = "r") -> tuple[str, list[Any]]:
        if len(columns) == 1:
            name, _, items = columns[0]
            return f"(SELECT value AS {name} FROM json_each(?)) AS {alias}", [json.dumps(list(items))]
        fields = ", ".join(f"json_extract(value, '$[{i}]') AS {name}" for i, (name, _, _) in enumerate(columns))
        rows = json.dumps(list(zip(*(items for _, _, items in columns))))
        return f"(SELECT {fields} FROM json_each(?)) AS {alias}", [rows]

    def upsert(self, table: str, keys: Sequence[str], columns: Sequence[Column]) -> None:
        names = [name for name, _, _ in columns]
        sets = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
        sql = (
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"
        )
        self.connection.executemany(sql, zip(*(items for _, _, items in columns)))


class Sqlite(Database):
    """A file in WAL mode, or a private database in memory (path ``None``)."""

    types = {  # noqa: RUF012
        "id": "INTEGER", "int": "INTEGER", "real": "REAL", "text": "TEXT", "blob": "BLOB", "clustered": "WITHOUT ROWID",
    }  # fmt: skip
    errors = (sqlite3.Error,)

    def __init__(self, path: Path | None, timeout_ms: int) -> None:
        self.path, self._timeout_ms = path, timeout_ms
        super().__init__(f"SQLite store {path}" if path else "SQLite store in memory")
        self._memory = threading.RLock()

    def connect(self) -> Session:
        connection = sqlite3.connect(
            str(self.path) if self.path else ":memory:",
            timeout=self._timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if self.path:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA mmap_size = 268435456")
        except sqlite3.Error:
            connection.close()
            raise
        return _SqliteSession(connection)

    def renew_after_fork(self) -> bool:
        if self.path is None and self._pid != os.getpid():
            # A database in memory was copied with the process: the copy is the child's own.
            idle, closed = self._idle, self._closed
            self._reset()
            self._idle, self._closed = idle, closed
            self._memory = threading.RLock()
            return True
        return super().renew_after_fork()

    def _run(self, work: Callable[[Session], T]) -> T:
        if self.path is not None:
            return super()._run(work)
        with self._memory:  # one connection is the whole database
            return super()._run(work)

    def sync(self) -> None:
        # A commit in WAL mode survives a crash of the process; a checkpoint flushes the WAL to the disk first.
        if self.path is not None:
            self._run(lambda session: session.fetch("PRAGMA wal_checkpoint(PASSIVE)"))

    def begin(self, session: Session) -> None:
        session.execute("BEGIN IMMEDIATE")

    def is_lost(self, session: Session, error: Exception) -> bool:
        return False


class _PostgresSession(Session):
    def lift_deadline(self) -> None:
        self.execute("SET LOCAL statement_timeout = 0")

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.connection.execute(sql.replace("?", "%s"), parameters).fetchall()
        return rows

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        return int(self.connection.execute(sql.replace("?", "%s"), parameters or None).rowcount)

    def values(self, columns: Sequence[Column], alias: str = "r") -> tuple[str, list[Any]]:
        arrays = ", ".join(f"?::{Postgres.types[kind]}[]" for _, kind, _ in columns)
        names = ", ".join(name for name, _, _ in columns)
        return f"unnest({arrays}) AS {alias}({names})", [list(items) for _, _, items in columns]

    def upsert(self, table: str, keys: Sequence[str], columns: Sequence[Column]) -> None:
        if not columns[0][2]:
            return
        names = [name for name, _, _ in columns]
        sets = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
        source, parameters = self.values(columns)
        self.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(names)} FROM {source} "
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}",
            parameters,
        )


class Postgres(Database):
    """A PostgreSQL database, by URL."""

    types = {  # noqa: RUF012
        "id": "BIGINT", "int": "INTEGER", "real": "DOUBLE PRECISION", "text": "TEXT", "blob": "BYTEA", "clustered": "",
    }  # fmt: skip
    # One writer at a time, whatever the number of processes: deltas of counters are computed from what was read.
    _WRITER_LOCK = 0x7866617374

    def __init__(self, url: str, timeout_ms: int) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise StoreError("a PostgreSQL store needs psycopg: pip install 'xfast[postgres]'") from error
        self._psycopg = psycopg
        self._url, self._timeout_ms = url, timeout_ms
        parts = urlsplit(url)
        super().__init__(f"PostgreSQL store {parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}")

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return (self._psycopg.Error,)

    def connect(self) -> Session:
        settings: dict[str, Any] = self._psycopg.conninfo.conninfo_to_dict(self._url)
        settings.setdefault("connect_timeout", max(2, self._timeout_ms // 1000))
        settings["options"] = f"{settings.get('options') or ''} -c statement_timeout={self._timeout_ms}"
        connection = self._psycopg.connect(**settings, autocommit=True)
        return _PostgresSession(connection)

    def begin(self, session: Session) -> None:
        session.execute("BEGIN")
        session.execute("SELECT pg_advisory_xact_lock(?)", (self._WRITER_LOCK,))

    def is_lost(self, session: Session, error: Exception) -> bool:
        return bool(session.connection.closed or session.connection.broken)


def open_database(url: str, *, timeout_ms: int) -> Database:
    """Open ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (memory) or ``postgresql://…``.

    Raises
    ------
    ParameterError
        The URL is of another kind.
    StoreError
        The database cannot be opened, or belongs to a later release.
    """
    scheme, separator, rest = url.partition("://")
    if scheme in ("postgresql", "postgres") and separator:
        database: Database = Postgres(url, timeout_ms)
    elif scheme == "sqlite" and separator and (not rest or rest.startswith("/")):
        database = Sqlite(Path(rest[1:]) if rest else None, timeout_ms)
    else:
        raise ParameterError(f"url is {url!r}, must be sqlite:///PATH, sqlite:// (in memory) or postgresql://…")
    try:
        database.migrate()
    except BaseException:
        database.close()
        raise
    return database

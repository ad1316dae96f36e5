"""SqlStore: the store on SQLite or PostgreSQL, and how it is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events import MEDIA_DTYPE, AccountState, EventBatch, NetworkEvent
from xfast.events.ragged import Ragged
from xfast.ids import as_int64, as_uint64
from xfast.sketch import BloomFilter, MinHash
from xfast.stores.apply import COUNTERS, IMPRESSIONS, POST_COLUMNS, Applier, FilterOptions, Touched
from xfast.stores.cache import CacheStats, Fetch, ReadCache
from xfast.stores.database import Database, Session, open_database
from xfast.stores.erase import erase_user
from xfast.stores.history import ROW, History, HistoryOptions, aggregate
from xfast.stores.model import Applied, Counts, EraseReceipt, Labels, Posts, Relation, ServedResponse, Users
from xfast.stores.protocol import Store

__all__ = ["SqlStore", "open_store"]

T = TypeVar("T", Users, Posts)
_EMPTY_IDS = b""
_USER_COLUMNS = (
    "state", "screen_name", "display_name", "description", "languages", "country_code", "age_years",
    "subscription_level", "created_at_ms", "followers", "following",
)  # fmt: skip
#: Rows of a history that are read per slot asked for: a slot may merge several actions.
_ROWS_PER_SLOT = 4


def open_store(
    url: str,
    *,
    cache_entries: int = 200_000,
    cache_age_ms: float = 1_000,
    timeout_ms: int = 5_000,
    filters: FilterOptions | None = None,
) -> Store:
    """Open the store at a URL, and create or upgrade its tables.

    Parameters
    ----------
    url
        ``sqlite:///relative.db``, ``sqlite:////absolute.db``, ``sqlite://`` (in memory, gone when closed), or
        ``postgresql://user@host:port/database`` (extra ``postgres``).
    cache_entries
        How many answers about single users and posts stay in memory; 0 for none.
    cache_age_ms
        How long what another process wrote may stay unseen. What this process applies is seen at once.
    timeout_ms
        Deadline of a statement, and of waiting for another writer.
    filters
        How impressions become Bloom filters.

    Raises
    ------
    ParameterError
        An argument out of range, or a URL of another kind.
    StoreError
        The database cannot be opened, or was written by a later release.
    """
    if timeout_ms < 1:
        raise ParameterError(f"timeout_ms is {timeout_ms}, must be at least 1")
    cache = ReadCache(cache_entries, cache_age_ms)
    return SqlStore(open_database(url, timeout_ms=timeout_ms), cache, filters or FilterOptions())


def _ids(ids: npt.ArrayLike, name: str) -> list[int]:
    array = as_int64(ids, name=name)
    if array.ndim > 1:
        raise ParameterError(f"{name} has shape {array.shape}, must have one axis")
    return array.reshape(-1).tolist()


def _unsigned(ids: Sequence[int]) -> npt.NDArray[np.uint64]:
    return np.array(ids, np.int64).view(np.uint64)


def _objects(items: Sequence[Any]) -> npt.NDArray[np.object_]:
    column = np.empty(len(items), object)
    column[:] = items
    return column


def _ragged(blobs: Sequence[bytes], dtype: npt.DTypeLike) -> Ragged:
    """Lists that are stored as bytes."""
    lengths = np.array([len(blob) for blob in blobs], np.int64) // np.dtype(dtype).itemsize
    return Ragged(np.r_[0, np.cumsum(lengths)], np.frombuffer(b"".join(blobs), dtype))


def _frozen(table: T) -> T:
    for column in vars(table).values():
        for array in (column.values, column.offsets) if isinstance(column, Ragged) else (column,):
            array.flags.writeable = False
    return table


def _groups(rows: Iterable[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    """Rows by their first column, which is dropped."""
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for key, *rest in rows:
        groups.setdefault(key, []).append(tuple(rest))
    return groups


class SqlStore:
    """:class:`~xfast.stores.Store` over a SQL database; made by :func:`open_store`.

    Thread-safe; after a fork the child opens connections of its own.
    """

    def __init__(self, database: Database, cache: ReadCache, filters: FilterOptions) -> None:
        self._db, self._cache, self._filters = database, cache, filters
        self._variants: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<{self._db.name}>"

    # Feeding ----------------------------------------------------------------------------------------------------------

    def apply(self, events: EventBatch | Iterable[NetworkEvent]) -> Applied:
        """See :meth:`Store.apply`."""
        batch = events if isinstance(events, EventBatch) else EventBatch.from_events(events)

        def work(session: Session) -> tuple[Applied, Touched]:
            applier = Applier(session, batch, self._filters)
            return applier.run(), applier.touched

        applied: Applied
        applied, touched = self._write(work)
        self._forget(touched.parts)
        return applied

    def erase(self, user_id: int, *, now_ms: int) -> EraseReceipt:
        """See :meth:`Store.erase`."""
        user = _ids([user_id], "user_id")[0]
        receipt: EraseReceipt = self._write(lambda session: erase_user(session, user, now_ms))
        self._cache.clear()
        return receipt

    def erasures(self, user_id: int) -> list[EraseReceipt]:
        """See :meth:`Store.erasures`."""
        sql = "SELECT receipt FROM erasures WHERE user_id = ? ORDER BY erased_ms"
        rows = self._read(lambda session: session.fetch(sql, _ids([user_id], "user_id")))
        return [EraseReceipt(**json.loads(row[0])) for row in rows]

    def _forget(self, parts: Mapping[str, Iterable[int]]) -> None:
        if "everything" in parts:
            self._cache.clear()
        for part, ids in parts.items():
            for variant in (part, *self._variants.get(part, ())):
                self._cache.invalidate(variant, ids)

    def _variant(self, part: str, number: int) -> str:
        """The name of one form of a part in the cache; an event forgets all forms."""
        name = f"{part} {number}"
        self._variants.setdefault(part, set()).add(name)
        return name

    def _read(self, work: Callable[[Session], Any]) -> Any:
        if self._db.renew_after_fork():
            self._cache.renew_lock()
        return self._db.read(work)

    def _write(self, work: Callable[[Session], Any]) -> Any:
        if self._db.renew_after_fork():
            self._cache.renew_lock()
        return self._db.write(work)

    def _by_id(
        self,
        part: str,
        ids: list[int],
        sql: str,
        make: Callable[[Any], Mapping[int, Any]],
        default: Any,
        fetch: Fetch | None = None,
    ) -> Any:
        """Answers per id, from the cache or by one statement over ``{r}(id)``."""

        def load(missing: list[int]) -> Mapping[int, Any]:
            return make(self._read(lambda session: session.select(sql, [("id", "id", missing)])))

        return fetch(ids, load, default) if fetch else self._cache.fetch(part, ids, load, default)

    def _table(self, part: str, ids: npt.ArrayLike, name: str, read: Callable[[list[int], Fetch], T]) -> T:
        """The table that ``read`` makes of some ids; read-only, because the cache may give it to the next caller."""
        rows = _ids(ids, name)
        key = np.array(rows, np.int64).tobytes()
        table: T = self._cache.table(part, key, lambda fetch: _frozen(read(rows, fetch)))
        return table

    # Viewers ----------------------------------------------------------------------------------------------------------

    def users(self, user_ids: npt.ArrayLike) -> Users:
        """See :meth:`Store.users`."""
        return self._table("users", user_ids, "user_ids", self._users)

    def _users(self, ids: list[int], fetch: Fetch) -> Users:
        names = ", ".join(f"u.{name}" for name in _USER_COLUMNS)
        rows = self._by_id(
            "users",
            ids,
            f"SELECT u.user_id, {names} FROM {{r}} CROSS JOIN users u WHERE u.user_id = r.id",
            lambda found: {row[0]: (*row[1:5], tuple(json.loads(row[5])), *row[6:]) for row in found},
            None,
            fetch,
        )
        stranger = (0, "", "", "", (), "", 0, 0, 0, 0, 0)
        columns = dict(zip(_USER_COLUMNS, zip(*(row or stranger for row in rows)) if rows else [()] * 11))
        return Users(
            user_id=_unsigned(ids),
            found=np.array([row is not None for row in rows], np.bool_),
            state=np.array(columns["state"], np.uint8),
            screen_name=_objects(columns["screen_name"]),
            display_name=_objects(columns["display_name"]),
            description=_objects(columns["description"]),
            languages=_objects(columns["languages"]),
            country_code=_objects(columns["country_code"]),
            age_years=np.array(columns["age_years"], np.int32),
            subscription_level=np.array(columns["subscription_level"], np.uint8),
            created_at_ms=np.array(columns["created_at_ms"], np.int64),
            followers=np.array(columns["followers"], np.int64),
            following=np.array(columns["following"], np.int64),
        )

    def user_ids(self, *, after: int | None = None, limit: int = 10_000) -> npt.NDArray[np.uint64]:
        """See :meth:`Store.user_ids`."""
        if limit < 1:
            raise ParameterError(f"limit is {limit}, must be at least 1")
        behind, start = ("", []) if after is None else ("user_id > ? AND ", _ids([after], "after"))
        sql = f"SELECT user_id FROM users WHERE {behind}state <> ? ORDER BY user_id LIMIT ?"
        parameters = (*start, int(AccountState.ERASED), limit)
        return _unsigned([row[0] for row in self._read(lambda session: session.fetch(sql, parameters))])

    def related(self, user_ids: npt.ArrayLike, relation: Relation, *, inverse: bool = False) -> Ragged:
        """See :meth:`Store.related`."""
        kind = int(Relation(relation))
        near, far = ("target", "source") if inverse else ("source", "target")

        def make(found: list[tuple[int, int]]) -> dict[int, bytes]:
            if not found:
                return {}
            table = np.array(found, np.int64)
            users, others = table[:, 0], table[:, 1].view(np.uint64)
            order = np.lexsort((others, users))
            users, others = users[order], others[order]
            starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
            stops = np.r_[starts[1:], len(users)]
            return {
                int(users[start]): others[start:stop].tobytes() for start, stop in zip(starts.tolist(), stops.tolist())
            }

        sql = (
            f"SELECT r.id, e.{far} FROM {{r}} CROSS JOIN relations e "
            f"WHERE e.kind = {kind} AND e.{near} = r.id AND e.active = 1"
        )
        part = f"related {kind}{' inverse' if inverse else ''}"
        return _ragged(self._by_id(part, _ids(user_ids, "user_ids"), sql, make, _EMPTY_IDS), np.uint64)

    def has_relation(self, sources: npt.ArrayLike, relation: Relation, target: int) -> npt.NDArray[np.bool_]:
        """See :meth:`Store.has_relation`."""
        wanted = as_uint64(sources, name="sources").reshape(-1)
        holders = self.related([target], relation, inverse=True).values
        return np.isin(wanted, holders)

    def muted_keywords(self, user_ids: npt.ArrayLike) -> list[tuple[str, ...]]:
        """See :meth:`Store.muted_keywords`."""
        sql = "SELECT k.user_id, k.keyword FROM {r} CROSS JOIN keywords k WHERE k.user_id = r.id AND k.active = 1"

        def make(found: list[tuple[int, str]]) -> dict[int, tuple[str, ...]]:
            return {user: tuple(sorted(row[0] for row in rows)) for user, rows in _groups(found).items()}

        answer: list[tuple[str, ...]] = self._by_id("keywords", _ids(user_ids, "user_ids"), sql, make, ())
        return answer

    def signatures(self, user_ids: npt.ArrayLike, *, num_positions: int = 256) -> npt.NDArray[np.uint32]:
        """See :meth:`Store.signatures`."""
        empty = MinHash(num_positions=num_positions).signature()

        def load(users: list[int]) -> dict[int, npt.NDArray[np.uint32]]:
            sql = (
                "SELECT s.user_id, s.sketch FROM {r} CROSS JOIN sketches s WHERE s.user_id = r.id "
                f"AND s.positions = {num_positions}"
            )
            found = self._read(lambda session: session.select(sql, [("id", "id", users)]))
            sketches = {user: MinHash.from_bytes(bytes(data)) for user, data in found}
            absent = [user for user in users if user not in sketches]
            if absent:
                sketches |= self._write(lambda session: self._build_sketches(session, absent, num_positions))
            return {user: sketch.signature() for user, sketch in sketches.items()}

        rows = self._cache.fetch(self._variant("signatures", num_positions), _ids(user_ids, "user_ids"), load, empty)
        return np.stack(rows) if rows else np.zeros((0, num_positions), np.uint32)

    def _build_sketches(self, session: Session, users: list[int], num_positions: int) -> dict[int, MinHash]:
        """Sketch follow lists and keep the sketches; within a transaction, so that no follow slips in between."""
        found = session.select(
            f"SELECT r.id, e.target FROM {{r}} CROSS JOIN relations e "
            f"WHERE e.kind = {int(Relation.FOLLOW)} AND e.source = r.id AND e.active = 1",
            [("id", "id", users)],
        )
        built = {
            user: MinHash(np.array(rows, np.int64).ravel(), num_positions=num_positions)
            for user, rows in _groups(found).items()
        }
        if built:
            session.upsert(
                "sketches",
                ("user_id", "positions"),
                [
                    ("user_id", "id", list(built)),
                    ("positions", "int", [num_positions] * len(built)),
                    ("sketch", "blob", [sketch.to_bytes() for sketch in built.values()]),
                ],
            )
        return built

    # Histories --------------------------------------------------------------------------------------------------------

    def histories(self, user_ids: npt.ArrayLike, options: HistoryOptions, *, now_ms: int) -> list[History]:
        """See :meth:`Store.histories`.

        The newest ``4 * max_length`` actions of a user are read; a slot that merges more may be cut.
        """
        ids = _ids(user_ids, "user_ids")
        earliest, latest = options.bounds(now_ms)
        limit = _ROWS_PER_SLOT * options.max_length
        # Only the newest rows are cached, without bounds: anything else would be a cache entry per request time.
        part = self._variant("history", limit) if options.include_realtime and options.lookback_ms is None else None

        def load(users: list[int]) -> dict[int, npt.NDArray[np.int64]]:
            bounds = (-(2**62), 2**62) if part else (earliest, latest)
            rows = self._read(lambda session: self._history_rows(session, users, bounds, limit))
            return {user: np.array(group, np.int64).reshape(-1, len(ROW)) for user, group in rows.items()}

        nothing = np.zeros((0, len(ROW)), np.int64)
        if part:
            found = self._cache.fetch(part, ids, load, nothing)
        else:
            fresh = load(list(dict.fromkeys(ids)))
            found = [fresh.get(user, nothing) for user in ids]
        users = _unsigned(ids).tolist()
        return [
            aggregate(user, table[(table[:, 0] >= earliest) & (table[:, 0] <= latest)], options)
            for user, table in zip(users, found)
        ]

    @staticmethod
    def _history_rows(
        session: Session, users: list[int], bounds: tuple[int, int], limit: int
    ) -> dict[int, list[tuple[Any, ...]]]:
        names = ", ".join(f"e.{name}" for name in ROW)
        if len(users) == 1:  # the common case, along the primary key
            found = session.fetch(
                f"SELECT {names} FROM engagements e WHERE e.user_id = ? AND e.time_ms BETWEEN ? AND ? "
                "ORDER BY e.time_ms DESC, e.post_id, e.action LIMIT ?",
                (users[0], *bounds, limit),
            )
            groups = {users[0]: found[::-1]}
        else:
            ranked = (
                f"SELECT r.id AS reader, {names}, ROW_NUMBER() OVER (PARTITION BY r.id "
                "ORDER BY e.time_ms DESC, e.post_id, e.action) AS place "
                "FROM {r} CROSS JOIN engagements e WHERE e.user_id = r.id AND e.time_ms BETWEEN ? AND ?"
            )
            outer = ", ".join(ROW)
            sql = f"SELECT reader, {outer} FROM ({ranked}) AS ranked WHERE place <= ? ORDER BY reader, place DESC"
            groups = _groups(session.select(sql, [("id", "id", users)], (*bounds, limit)))
        unknown = sorted({row[1] for rows in groups.values() for row in rows if row[4] == 0})
        authors = dict(
            session.select(
                "SELECT p.post_id, p.author_id FROM {r} CROSS JOIN posts p WHERE p.post_id = r.id",
                [("id", "id", unknown)],
            )
        )
        if authors:
            groups = {
                user: [row if row[4] else (*row[:4], authors.get(row[1], 0), *row[5:]) for row in rows]
                for user, rows in groups.items()
            }
        return groups

    # Posts ------------------------------------------------------------------------------------------------------------

    def posts(self, post_ids: npt.ArrayLike) -> Posts:
        """See :meth:`Store.posts`."""
        return self._table("posts", post_ids, "post_ids", self._posts)

    def _posts(self, ids: list[int], fetch: Fetch) -> Posts:
        names = [name for name, _ in POST_COLUMNS]
        rows = self._by_id(
            "posts",
            ids,
            f"SELECT p.post_id, p.deleted, {', '.join(f'p.{name}' for name in names)} "
            "FROM {r} CROSS JOIN posts p WHERE p.post_id = r.id",
            lambda found: {row[0]: row[1:] for row in found},
            None,
            fetch,
        )
        nothing = (1, *(_DEFAULTS[kind] for _, kind in POST_COLUMNS))
        live = [row if row is not None and not row[0] else nothing for row in rows]
        columns = dict(zip(("absent", *names), zip(*live) if live else [()] * (1 + len(names))))
        references = {
            name: _unsigned(columns[name]) for name, kind in POST_COLUMNS if kind == "id" and name != "created_at_ms"
        }
        return Posts(
            post_id=_unsigned(ids),
            found=np.array(columns["absent"], np.bool_) ^ True,
            deleted=np.array([row is not None and bool(row[0]) for row in rows], np.bool_),
            created_at_ms=np.array(columns["created_at_ms"], np.int64),
            text=_objects(columns["text"]),
            language=_objects(columns["language"]),
            nullcast=np.array(columns["nullcast"], np.bool_),
            media=_ragged(columns["media"], MEDIA_DTYPE),
            topic_ids=_ragged(columns["topics"], np.uint64),
            **references,
        )

    def posts_by(self, author_ids: npt.ArrayLike) -> Ragged:
        """See :meth:`Store.posts_by`."""

        def make(found: list[tuple[int, int]]) -> dict[int, bytes]:
            groups = _groups(found)
            return {author: np.sort(_unsigned([row[0] for row in rows])).tobytes() for author, rows in groups.items()}

        sql = "SELECT p.author_id, p.post_id FROM {r} CROSS JOIN posts p WHERE p.author_id = r.id AND p.deleted = 0"
        ids = _ids(author_ids, "author_ids")
        return _ragged(self._by_id("posts by", ids, sql, make, _EMPTY_IDS), np.uint64)

    def labels(self, post_ids: npt.ArrayLike, *, of_users: bool = False) -> Labels:
        """See :meth:`Store.labels`."""
        subject = int(of_users)
        sql = (
            "SELECT l.subject_id, l.label, l.category, l.source, l.rule_id, l.score, l.time_ms FROM {r} "
            f"CROSS JOIN labels l WHERE l.subject = {subject} AND l.subject_id = r.id AND l.active = 1"
        )

        def make(found: list[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
            return {subject_id: sorted(rows) for subject_id, rows in _groups(found).items()}

        groups = self._by_id(f"labels {subject}", _ids(post_ids, "post_ids"), sql, make, [])
        rows = [row for group in groups for row in group]
        label, category, source, rule, score, time = zip(*rows) if rows else ((),) * 6
        return Labels(
            offsets=np.r_[0, np.cumsum([len(group) for group in groups], dtype=np.int64)],
            label=_objects(label),
            category=np.array(category, np.uint8),
            source=_objects(source),
            rule_id=np.array(rule, np.int64),
            score=np.array(score, np.float32),
            time_ms=np.array(time, np.int64),
        )

    def counts(self, post_ids: npt.ArrayLike) -> Counts:
        """See :meth:`Store.counts`."""
        ids = _ids(post_ids, "post_ids")
        sql = "SELECT c.post_id, c.counter, c.number FROM {r} CROSS JOIN counts c WHERE c.post_id = r.id"

        def make(found: list[tuple[int, int, int]]) -> dict[int, tuple[int, ...]]:
            result = {}
            for post, rows in _groups(found).items():
                counters = dict(rows)
                result[post] = tuple(max(0, counters.get(number, 0)) for number in range(IMPRESSIONS + 1))
            return result

        rows = self._by_id("counts", ids, sql, make, (0,) * (IMPRESSIONS + 1))
        table = np.array(rows, np.int64).reshape(-1, IMPRESSIONS + 1).T
        return Counts(
            post_id=_unsigned(ids),
            favorites=table[COUNTERS["favorite"]],
            replies=np.maximum(table[COUNTERS["reply"]], table[COUNTERS["reply_posts"]]),
            reposts=np.maximum(table[COUNTERS["retweet"]], table[COUNTERS["repost_posts"]]),
            quotes=np.maximum(table[COUNTERS["quote"]], table[COUNTERS["quote_posts"]]),
            impressions=table[IMPRESSIONS],
        )

    # Seen and served --------------------------------------------------------------------------------------------------

    def seen(self, user_id: int, *, since_ms: int | None = None, limit: int = 5000) -> npt.NDArray[np.uint64]:
        """See :meth:`Store.seen`."""
        sql = (
            "SELECT post_id FROM impressions WHERE user_id = ? AND time_ms >= ? "
            "GROUP BY post_id ORDER BY MAX(time_ms) DESC, post_id LIMIT ?"
        )
        since = -(2**62) if since_ms is None else since_ms
        user = _ids([user_id], "user_id")[0]
        rows = self._read(lambda session: session.fetch(sql, (user, since, limit)))
        return _unsigned([row[0] for row in rows])

    def impression_filters(self, user_id: int) -> list[BloomFilter]:
        """See :meth:`Store.impression_filters`."""
        sql = "SELECT f.user_id, f.number, f.filter FROM {r} CROSS JOIN impression_filters f WHERE f.user_id = r.id"

        def make(found: list[tuple[Any, ...]]) -> dict[int, tuple[bytes, ...]]:
            return {user: tuple(bytes(row[1]) for row in sorted(rows)) for user, rows in _groups(found).items()}

        stored = self._by_id("filters", _ids([user_id], "user_id"), sql, make, ())[0]
        return [BloomFilter.from_bytes(data) for data in stored]

    def record_served(self, user_id: int, response: ServedResponse) -> None:
        """See :meth:`Store.record_served`."""
        row = (*_ids([user_id, response.request_id], "ids"), response.served_ms, response.to_json())
        sql = (
            "INSERT INTO served (user_id, request_id, served_ms, response) VALUES (?, ?, ?, ?) ON CONFLICT "
            "(user_id, request_id) DO UPDATE SET served_ms = excluded.served_ms, response = excluded.response"
        )
        self._write(lambda session: session.execute(sql, row))

    def served(self, user_id: int, *, limit: int = 100) -> list[ServedResponse]:
        """See :meth:`Store.served`."""
        sql = (
            "SELECT request_id, served_ms, response FROM served WHERE user_id = ? "
            "ORDER BY served_ms DESC NULLS LAST, request_id DESC LIMIT ?"
        )
        user = _ids([user_id], "user_id")[0]
        rows = self._read(lambda session: session.fetch(sql, (user, limit)))
        return [ServedResponse.from_json(request % 2**64, served, text) for request, served, text in rows]

    def truncate_served(self, user_id: int, *, keep: int = 50) -> int:
        """See :meth:`Store.truncate_served`."""
        sql = (
            "UPDATE served SET served_ms = NULL WHERE user_id = ? AND served_ms IS NOT NULL AND request_id NOT IN "
            "(SELECT request_id FROM served WHERE user_id = ? AND served_ms IS NOT NULL "
            "ORDER BY served_ms DESC, request_id DESC LIMIT ?)"
        )
        user = _ids([user_id], "user_id")[0]
        return int(self._write(lambda session: session.execute(sql, (user, user, keep))))

    def record_request(self, user_id: int, time_ms: int, *, keep: int = 10) -> None:
        """See :meth:`Store.record_request`."""
        user = _ids([user_id], "user_id")[0]

        def work(session: Session) -> None:
            times = [time_ms, *self._request_times(session, user)][:keep]
            session.execute(
                "INSERT INTO request_times (user_id, times) VALUES (?, ?) "
                "ON CONFLICT (user_id) DO UPDATE SET times = excluded.times",
                (user, json.dumps(times)),
            )

        self._write(work)

    def request_times(self, user_id: int) -> list[int]:
        """See :meth:`Store.request_times`."""
        user = _ids([user_id], "user_id")[0]
        times: list[int] = self._read(lambda session: self._request_times(session, user))
        return times

    @staticmethod
    def _request_times(session: Session, user: int) -> list[int]:
        rows = session.fetch("SELECT times FROM request_times WHERE user_id = ?", (user,))
        return [int(time) for time in json.loads(rows[0][0])] if rows else []

    # Cached candidates ------------------------------------------------------------------------------------------------

    def put_candidates(self, key: str, payload: bytes, *, user_id: int, now_ms: int, ttl_ms: int) -> None:
        """See :meth:`Store.put_candidates`."""
        if ttl_ms < 1:
            raise ParameterError(f"ttl_ms is {ttl_ms}, must be at least 1")
        row = (key, _ids([user_id], "user_id")[0], now_ms + ttl_ms, payload)
        sql = (
            "INSERT INTO cached_candidates (cache_key, user_id, expires_ms, payload) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (cache_key) DO UPDATE SET user_id = excluded.user_id, expires_ms = excluded.expires_ms, "
            "payload = excluded.payload"
        )
        self._write(lambda session: session.execute(sql, row))

    def get_candidates(self, key: str, *, now_ms: int) -> bytes | None:
        """See :meth:`Store.get_candidates`."""
        sql = "SELECT payload FROM cached_candidates WHERE cache_key = ? AND expires_ms > ?"
        rows = self._read(lambda session: session.fetch(sql, (key, now_ms)))
        return bytes(rows[0][0]) if rows else None

    def drop_candidates(self, user_ids: Sequence[int]) -> int:
        """See :meth:`Store.drop_candidates`."""
        users = _ids(user_ids, "user_ids")
        sql = "DELETE FROM cached_candidates WHERE user_id IN (SELECT id FROM {r})"
        return int(self._write(lambda session: session.change(sql, [("id", "id", users)])))

    # Upkeep -----------------------------------------------------------------------------------------------------------

    def trim(self, *, now_ms: int, impressions_ms: int, engagements_ms: int, served_ms: int) -> dict[str, int]:
        """See :meth:`Store.trim`."""
        statements = {
            "impressions": ("DELETE FROM impressions WHERE time_ms < ?", now_ms - impressions_ms),
            "impression_filters": ("DELETE FROM impression_filters WHERE newest_ms < ?", now_ms - impressions_ms),
            "engagements": ("DELETE FROM engagements WHERE time_ms < ?", now_ms - engagements_ms),
            "served": ("DELETE FROM served WHERE COALESCE(served_ms, 0) < ?", now_ms - served_ms),
            "cached_candidates": ("DELETE FROM cached_candidates WHERE expires_ms <= ?", now_ms),
        }

        def work(session: Session) -> dict[str, int]:
            session.lift_deadline()
            return {table: session.execute(sql, (bound,)) for table, (sql, bound) in statements.items()}

        rows: dict[str, int] = self._write(work)
        self._cache.clear()
        return rows

    def cache_stats(self) -> CacheStats:
        """See :meth:`Store.cache_stats`."""
        return self._cache.stats()

    def sync(self) -> None:
        """See :meth:`Store.sync`."""
        self._db.sync()

    def ping(self) -> None:
        """See :meth:`Store.ping`."""
        self._read(lambda session: session.fetch("SELECT 1"))

    def close(self) -> None:
        """See :meth:`Store.close`."""
        self._db.close()
        self._cache.clear()


_DEFAULTS: Mapping[str, Any] = {"id": 0, "int": 0, "real": 0.0, "text": "", "blob": b""}

"""Network events become rows: one transaction per batch, a constant number of statements per variant.

What has a state is decided by the latest event. Where two events of one millisecond contradict each other, the one that
ends a state wins, so that no order of delivery makes a difference.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.actions import PROTO
from xfast.events import AccountState, EventBatch, Kind
from xfast.sketch import BloomFilter, MinHash
from xfast.stores.database import Column, Session, Type
from xfast.stores.erase import ERASED_POST, erase_user
from xfast.stores.model import Applied, Relation

__all__ = ["COUNTERS", "Applier", "FilterOptions", "Touched"]

Layout = tuple[tuple[str, Type], ...]
#: Relation, the event that starts it, the event that ends it, and the field of the other side.
_RELATIONS = (
    (Relation.FOLLOW, Kind.FOLLOW, Kind.UNFOLLOW, "target_user_id"),
    (Relation.BLOCK, Kind.BLOCK, Kind.UNBLOCK, "target_user_id"),
    (Relation.MUTE, Kind.MUTE, Kind.UNMUTE, "target_user_id"),
    (Relation.SUBSCRIBE, Kind.SUBSCRIBE, Kind.UNSUBSCRIBE, "target_user_id"),
    (Relation.TOPIC, Kind.FOLLOW_TOPIC, Kind.UNFOLLOW_TOPIC, "topic_id"),
)
#: Numbers of the ``counts`` table. Replies, reposts and quotes are counted twice, as posts and as actions: an importer
#: may know only one of the two, and the larger number is the answer.
COUNTERS = {"favorite": 0, "reply": 1, "retweet": 2, "quote": 3, "reply_posts": 4, "repost_posts": 5, "quote_posts": 6}
IMPRESSIONS = 7
_COUNTED_ACTIONS = {PROTO.column(name): COUNTERS[name] for name in ("favorite", "reply", "retweet", "quote")}

_POST_REFERENCES = (
    "in_reply_to_post_id", "in_reply_to_user_id", "source_post_id", "source_user_id", "quoted_post_id",
    "quoted_user_id", "conversation_id", "subscription_author_id",
)  # fmt: skip
POST_COLUMNS: Layout = (
    ("author_id", "id"), ("created_at_ms", "id"), ("text", "text"), ("language", "text"),
    *((name, "id") for name in _POST_REFERENCES),
    ("nullcast", "int"), ("media", "blob"), ("topics", "blob"),
)  # fmt: skip
_BLANK_POST: tuple[Any, ...] = (0, 0, "", "", *(0 for _ in _POST_REFERENCES), 0, b"", b"")
_PROFILE: Layout = (
    ("screen_name", "text"), ("display_name", "text"), ("description", "text"), ("languages", "text"),
    ("country_code", "text"), ("age_years", "int"), ("subscription_level", "int"), ("created_at_ms", "id"),
)  # fmt: skip


@dataclass(frozen=True)
class FilterOptions:
    """How impressions are remembered in Bloom filters: entries of ``size_cap`` posts, the newest ``max_filters``."""

    size_cap: int = 2048
    false_positive_rate: float = 0.01
    max_filters: int = 16


@dataclass
class Touched:
    """What the cache must forget: part -> ids."""

    parts: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, part: str, ids: Iterable[int]) -> None:
        """Note ids of one part."""
        self.parts[part].update(ids)


def clean(text: str) -> str:
    """What both databases can keep: no NUL, no lone surrogate."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    return text


def signed(ids: npt.NDArray[Any]) -> list[int]:
    """Ids as the signed integers that databases store."""
    values: list[int] = ids.astype(np.uint64, copy=False).view(np.int64).tolist()
    return values


def transpose(rows: Sequence[Sequence[Any]], columns: Layout) -> list[Column]:
    """Rows as the columns of :class:`Session`."""
    items = list(zip(*rows)) if rows else [()] * len(columns)
    return [(name, kind, list(values)) for (name, kind), values in zip(columns, items)]


class Applier:
    """Applies one batch within one transaction."""

    def __init__(self, session: Session, batch: EventBatch, filters: FilterOptions) -> None:
        self._session, self._filters = session, filters
        self.touched = Touched()
        self._changed: Counter[str] = Counter()
        self._ignored: Counter[str] = Counter()
        if batch.counts().get("unknown"):
            self._ignored["unknown"] = batch.counts()["unknown"]
        self._size = len(batch)
        self._batch = self._without_erased(batch)

    def run(self) -> Applied:
        """Apply everything."""
        self._relations()
        self._keywords()
        self._profiles()
        self._posts()
        self._labels()
        self._engagements()
        self._impressions()
        self._accounts()
        return Applied(self._size, dict(self._changed), dict(self._ignored))

    # Erased users -----------------------------------------------------------------------------------------------------

    def _without_erased(self, batch: EventBatch) -> EventBatch:
        """Leave out what erased users do, and what is done to their accounts."""
        sides: list[tuple[npt.NDArray[np.int64], list[int]]] = []
        for kind in np.unique(batch.kind).tolist():
            if kind == Kind.UNKNOWN:
                continue
            table = batch.columns(Kind(kind))
            names = ("author_id",) if kind in (Kind.POST, Kind.DELETE) else ("user_id", "target_user_id")
            sides += [(table.rows, signed(table[name])) for name in names if name in table.data]
        ids = sorted({each for _, column in sides for each in column})
        found = self._session.select(
            "SELECT u.user_id FROM {r} CROSS JOIN users u WHERE u.user_id = r.id AND u.state = ?",
            [("id", "id", ids)],
            (int(AccountState.ERASED),),
        )
        if not found:
            return batch
        gone = {row[0] for row in found}
        keep = np.ones(len(batch), np.bool_)
        for rows, column in sides:
            keep[rows[[each in gone for each in column]]] = False
        self._ignored["erased"] = int((~keep).sum())
        return batch.take(keep)

    # States: the latest event decides ---------------------------------------------------------------------------------

    def _latest(self, entries: Iterable[tuple[tuple[Any, ...], int, int, str, Any]]) -> dict[tuple[Any, ...], Any]:
        """The deciding (time, active, variant, extra) of each key."""
        best: dict[tuple[Any, ...], Any] = {}
        for key, time, active, variant, extra in entries:
            known = best.get(key)
            # A later arrival of the same state replaces an earlier one: it may carry other details.
            if known is None or (time, -active) >= (known[0], -known[1]):
                best[key] = (time, active, variant, extra)
        return best

    def _relations(self) -> None:
        entries = []
        for relation, start, end, other in _RELATIONS:
            for kind, active in ((start, 1), (end, 0)):
                table = self._batch.columns(kind)
                times = self._batch.time_ms[table.rows].tolist()
                for time, source, target in zip(times, signed(table["user_id"]), signed(table[other])):
                    entries.append(((int(relation), source, target), time, active, kind.label, None))
        latest = self._latest(entries)
        if not latest:
            return
        keys = list(latest)
        known = {
            row[:3]: row[3:]
            for row in self._session.select(
                """SELECT e.kind, e.source, e.target, e.time_ms, e.active FROM {r}
                CROSS JOIN relations e WHERE e.kind = r.kind AND e.source = r.source AND e.target = r.target""",
                transpose(keys, (("kind", "int"), ("source", "id"), ("target", "id"))),
            )
        }
        rows, followed, following = [], Counter[int](), Counter[int]()
        added: dict[int, list[int]] = defaultdict(list)
        removed: set[int] = set()
        for key, (time, active, variant, _) in latest.items():
            old_time, old_active = known.get(key, (None, 0))
            if old_time is not None and (time, -active) <= (old_time, -old_active):
                continue
            rows.append((*key, time, active))
            self._changed[variant] += 1
            relation, source, target = key
            self.touched.add(f"related {relation}", (source,))
            self.touched.add(f"related {relation} inverse", (target,))
            if relation == Relation.FOLLOW and active != old_active:
                followed[target] += active - old_active
                following[source] += active - old_active
                if active:
                    added[source].append(target)
                else:
                    removed.add(source)
        columns: Layout = (
            ("kind", "int"), ("source", "id"), ("target", "id"), ("time_ms", "id"), ("active", "int"),
        )  # fmt: skip
        self._upsert("relations", columns[:3], columns, rows)
        self._count_follows("followers", followed)
        self._count_follows("following", following)
        self._update_sketches(added, removed)

    def _count_follows(self, column: str, deltas: Counter[int]) -> None:
        rows = [(user, delta) for user, delta in deltas.items() if delta]
        values = transpose(rows, (("user_id", "id"), (column, "id")))
        self._session.change(
            f"INSERT INTO users (user_id, {column}) SELECT user_id, {column} FROM {{r}} WHERE 1 = 1 "
            f"ON CONFLICT (user_id) DO UPDATE SET {column} = users.{column} + excluded.{column}",
            values,
        )
        self.touched.add("users", (user for user, _ in rows))

    def _update_sketches(self, added: dict[int, list[int]], removed: set[int]) -> None:
        """A follow is added to a sketch that exists; an unfollow drops it, to be rebuilt when it is asked for."""
        for user in {*added, *removed}:
            self.touched.add("signatures", (user,))
        self._session.change(
            "DELETE FROM sketches WHERE user_id IN (SELECT id FROM {r})", [("id", "id", sorted(removed))]
        )
        grown = [user for user in added if user not in removed]
        found = self._session.select(
            "SELECT s.user_id, s.positions, s.sketch FROM {r} CROSS JOIN sketches s WHERE s.user_id = r.id",
            [("id", "id", grown)],
        )
        rows = []
        for user, positions, data in found:
            sketch = MinHash.from_bytes(bytes(data))
            sketch.add(np.array(added[user], np.int64))
            rows.append((user, positions, sketch.to_bytes()))
        columns: Layout = (("user_id", "id"), ("positions", "int"), ("sketch", "blob"))
        self._upsert("sketches", columns[:2], columns, rows)

    def _keywords(self) -> None:
        entries = []
        for kind, active in ((Kind.MUTE_KEYWORD, 1), (Kind.UNMUTE_KEYWORD, 0)):
            table = self._batch.columns(kind)
            times = self._batch.time_ms[table.rows].tolist()
            for time, user, keyword in zip(times, signed(table["user_id"]), table["keyword"].tolist()):
                entries.append(((user, clean(keyword)), time, active, kind.label, None))
        latest = self._latest(entries)
        known = self._session.select(
            """SELECT e.user_id, e.keyword, e.time_ms, e.active FROM {r}
            CROSS JOIN keywords e WHERE e.user_id = r.user_id AND e.keyword = r.keyword""",
            transpose(list(latest), (("user_id", "id"), ("keyword", "text"))),
        )
        rows = self._newer(latest, {row[:2]: row[2:] for row in known})
        columns: Layout = (
            ("user_id", "id"), ("keyword", "text"), ("time_ms", "id"), ("active", "int"),
        )  # fmt: skip
        self._upsert("keywords", columns[:2], columns, [(*key, time, active) for key, time, active, _ in rows])
        self.touched.add("keywords", (key[0] for key, *_ in rows))

    def _newer(
        self, latest: dict[tuple[Any, ...], Any], known: dict[tuple[Any, ...], tuple[Any, ...]]
    ) -> list[tuple[tuple[Any, ...], int, int, Any]]:
        """Of the deciding events, those that decide against the stored (time, active) as well; counted."""
        rows = []
        for key, (time, active, variant, extra) in latest.items():
            old = known.get(key)
            if old is None or (time, -active) > (old[0], -old[1]):
                rows.append((key, time, active, extra))
                self._changed[variant] += 1
        return rows

    def _labels(self) -> None:
        table = self._batch.columns(Kind.LABEL)
        times = self._batch.time_ms[table.rows].tolist()
        entries = []
        for time, label, category, post, user, source, rule, score, removed in zip(
            times, table["label"].tolist(), table["category"].tolist(), signed(table["post_id"]),
            signed(table["user_id"]), table["source"].tolist(), table["rule_id"].tolist(), table["score"].tolist(),
            table["removed"].tolist(),
        ):  # fmt: skip
            extra = (category, clean(source), rule, score)
            for subject, subject_id in ((0, post), (1, user)):
                if subject_id:
                    entries.append(((subject, subject_id, clean(label)), time, int(not removed), "label", extra))
        latest = self._latest(entries)
        gone = self._session.select(
            "SELECT p.post_id FROM {r} CROSS JOIN posts p WHERE p.post_id = r.id AND p.deleted = ?",
            [("id", "id", sorted({subject_id for subject, subject_id, _ in latest if subject == 0}))],
            (ERASED_POST,),
        )
        for key in [key for key in latest if key[0] == 0 and (key[1],) in gone]:
            del latest[key]
        keys: Layout = (("subject", "int"), ("subject_id", "id"), ("label", "text"))
        known = self._session.select(
            """SELECT e.subject, e.subject_id, e.label, e.time_ms, e.active FROM {r} CROSS JOIN labels e
            WHERE e.subject = r.subject AND e.subject_id = r.subject_id AND e.label = r.label""",
            transpose(list(latest), keys),
        )
        rows = self._newer(latest, {row[:3]: row[3:] for row in known})
        columns = (*keys, ("time_ms", "id"), ("active", "int"), ("category", "int"), ("source", "text"),
                   ("rule_id", "id"), ("score", "real"))  # fmt: skip
        self._upsert("labels", keys, columns, [(*key, time, active, *extra) for key, time, active, extra in rows])
        for (subject, subject_id, _), *_ in rows:
            self.touched.add(f"labels {subject}", (subject_id,))

    def _profiles(self) -> None:
        table = self._batch.columns(Kind.PROFILE)
        if not table.rows.size:
            return
        languages = [json.dumps([clean(each) for each in entry]) for entry in table["languages"]]
        entries = []
        for index, (time, user) in enumerate(zip(self._batch.time_ms[table.rows].tolist(), signed(table["user_id"]))):
            entries.append(((user,), time, 1, "profile", index))
        latest = self._latest(entries)
        known = self._session.select(
            "SELECT u.user_id, u.profile_ms FROM {r} CROSS JOIN users u WHERE u.user_id = r.id AND u.profile_ms >= 0",
            [("id", "id", [user for (user,) in latest])],
        )
        rows = []
        for (user,), time, _, index in self._newer(latest, {(row[0],): (row[1], 1) for row in known}):
            declared = [languages[index] if name == "languages" else table[name][index] for name, _ in _PROFILE]
            values = [clean(each) if isinstance(each, str) else int(each) for each in declared]
            rows.append((user, time, *values))
        columns: Layout = (("user_id", "id"), ("profile_ms", "id"), *_PROFILE)
        self._upsert("users", columns[:1], columns, rows)
        self.touched.add("users", (row[0] for row in rows))

    def _accounts(self) -> None:
        """The last step: an erasure also takes what this batch brought."""
        table = self._batch.columns(Kind.ACCOUNT)
        entries = [
            # Of two states of one millisecond the stricter one counts: a larger number plays the part of "ended".
            ((user,), time, -state, "account", None)
            for time, user, state in zip(
                self._batch.time_ms[table.rows].tolist(), signed(table["user_id"]), table["state"].tolist()
            )
        ]
        latest = self._latest(entries)
        known = self._session.select(
            "SELECT u.user_id, u.state_ms, u.state FROM {r} CROSS JOIN users u "
            "WHERE u.user_id = r.id AND u.state_ms >= 0",
            [("id", "id", [user for (user,) in latest])],
        )
        rows = self._newer(latest, {(row[0],): (row[1], -row[2]) for row in known})
        columns: Layout = (("user_id", "id"), ("state_ms", "id"), ("state", "int"))
        self._upsert("users", columns[:1], columns, [(key[0], time, -state) for key, time, state, _ in rows])
        self.touched.add("users", (key[0] for key, *_ in rows))
        for (user,), time, state, _ in rows:
            if -state == AccountState.ERASED:
                erase_user(self._session, user, time)
                self.touched.add("everything", (user,))

    # Posts ------------------------------------------------------------------------------------------------------------

    def _posts(self) -> None:
        posts, deletes = self._batch.columns(Kind.POST), self._batch.columns(Kind.DELETE)
        post_times = self._batch.time_ms[posts.rows].tolist()
        entries: list[Any] = [
            ((post,), time, 1, "post", index)
            for index, (post, time) in enumerate(zip(signed(posts["post_id"]), post_times))
        ]
        entries += [
            ((post,), time, 0, "delete", author)
            for post, time, author in zip(
                signed(deletes["post_id"]), self._batch.time_ms[deletes.rows].tolist(), signed(deletes["author_id"])
            )
        ]
        latest = self._latest(entries)
        if not latest:
            return
        known = {
            row[0]: row[1:]
            for row in self._session.select(
                """SELECT p.post_id, p.time_ms, p.deleted, p.author_id, p.in_reply_to_post_id, p.source_post_id,
                p.quoted_post_id FROM {r} CROSS JOIN posts p WHERE p.post_id = r.id""",
                [("id", "id", [post for (post,) in latest])],
            )
        }
        values = self._post_values(posts, post_times)
        places = {name: place for place, (name, _) in enumerate(POST_COLUMNS)}
        references = ("in_reply_to_post_id", "source_post_id", "quoted_post_id")
        counters = (COUNTERS["reply_posts"], COUNTERS["repost_posts"], COUNTERS["quote_posts"])
        deltas: Counter[tuple[int, int]] = Counter()
        rows = []
        stored = {(post,): (old[0], 1 - old[1]) for post, old in known.items()}
        latest = {key: entry for key, entry in latest.items() if known.get(key[0], (0, 0))[1] != ERASED_POST}
        for (post,), time, active, extra in self._newer(latest, stored):
            old = known.get(post)
            if old is not None and not old[1]:
                for reference, counter in zip(old[3:], counters):
                    deltas[reference, counter] -= 1
            if active:
                row = values[extra]
                for name, counter in zip(references, counters):
                    deltas[row[places[name]], counter] += 1
            else:
                # The content of a deleted post does not stay; its author does, for the author's list.
                row = (extra or (old[2] if old else 0), *_BLANK_POST[1:])
            rows.append((post, time, 1 - active, *row))
            authors = {row[0], *((old[2],) if old else ())}
            self.touched.add("posts by", authors)
        columns: Layout = (("post_id", "id"), ("time_ms", "id"), ("deleted", "int"), *POST_COLUMNS)
        self._upsert("posts", columns[:1], columns, rows)
        self.touched.add("posts", (row[0] for row in rows))
        self._count({key: delta for key, delta in deltas.items() if key[0]})

    def _post_values(self, posts: Any, times: list[int]) -> list[tuple[Any, ...]]:
        created = [at or time for at, time in zip(posts["created_at_ms"].tolist(), times)]
        media = [np.ascontiguousarray(items).tobytes() for items in posts["media"]]
        topics = [items.astype("<u8").tobytes() for items in posts["topic_ids"]]
        columns = {
            "created_at_ms": created, "media": media, "topics": topics,
            "text": [clean(each) for each in posts["text"].tolist()],
            "language": [clean(each) for each in posts["language"].tolist()],
            "nullcast": [int(each) for each in posts["nullcast"].tolist()],
        }  # fmt: skip
        for name in ("author_id", *_POST_REFERENCES):
            columns[name] = signed(posts[name])
        return list(zip(*(columns[name] for name, _ in POST_COLUMNS)))

    def _count(self, deltas: dict[tuple[int, int], int]) -> None:
        rows = [(*key, delta) for key, delta in deltas.items() if delta]
        self._session.change(
            """INSERT INTO counts (post_id, counter, number) SELECT post_id, counter, number FROM {r} WHERE 1 = 1
            ON CONFLICT (post_id, counter) DO UPDATE SET number = counts.number + excluded.number""",
            transpose(rows, (("post_id", "id"), ("counter", "int"), ("number", "id"))),
        )
        self.touched.add("counts", (row[0] for row in rows))

    # What happens counts once -----------------------------------------------------------------------------------------

    def _engagements(self) -> None:
        table = self._batch.columns(Kind.ENGAGEMENT)
        if not table.rows.size:
            return
        columns: list[Column] = [
            ("user_id", "id", signed(table["user_id"])),
            ("time_ms", "id", self._batch.time_ms[table.rows].tolist()),
            ("post_id", "id", signed(table["post_id"])),
            ("action", "int", table["action"].tolist()),
            ("removed", "int", table["removed"].astype(np.int64).tolist()),
            ("author_id", "id", signed(table["author_id"])),
            ("surface", "int", table["surface"].tolist()),
            ("dwell_ms", "int", table["dwell_ms"].tolist()),
            ("request_id", "id", signed(table["request_id"])),
        ]
        new = self._session.insert_new("engagements", columns, "user_id, post_id, action, removed")
        self._changed["engagement"] += len(new)
        deltas: Counter[tuple[int, int]] = Counter()
        for _, post, action, removed in new:
            if action in _COUNTED_ACTIONS:
                deltas[post, _COUNTED_ACTIONS[action]] += -1 if removed else 1
        self._count(deltas)
        self.touched.add("history", (row[0] for row in new))

    def _impressions(self) -> None:
        table = self._batch.columns(Kind.IMPRESSION)
        if not table.rows.size:
            return
        columns: list[Column] = [
            ("user_id", "id", signed(table["user_id"])),
            ("time_ms", "id", self._batch.time_ms[table.rows].tolist()),
            ("post_id", "id", signed(table["post_id"])),
            ("author_id", "id", signed(table["author_id"])),
            ("surface", "int", table["surface"].tolist()),
            ("position", "int", table["position"].tolist()),
            ("request_id", "id", signed(table["request_id"])),
        ]
        new = self._session.insert_new("impressions", columns, "user_id, post_id, time_ms")
        self._changed["impression"] += len(new)
        self._count(Counter((post, IMPRESSIONS) for _, post, _ in new))
        by_user: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for user, post, time in new:
            by_user[user].append((time, post))
        self._fill_filters(by_user)
        self.touched.add("seen", by_user)
        self.touched.add("filters", by_user)

    def _fill_filters(self, by_user: dict[int, list[tuple[int, int]]]) -> None:
        options = self._filters
        found = self._session.select(
            """SELECT f.user_id, f.number, f.members, f.newest_ms, f.filter FROM {r}
            CROSS JOIN impression_filters f WHERE f.user_id = r.id AND f.number =
            (SELECT MAX(g.number) FROM impression_filters g WHERE g.user_id = f.user_id)""",
            [("id", "id", list(by_user))],
        )
        open_filters = {row[0]: (row[1], row[2], row[3], BloomFilter.from_bytes(bytes(row[4]))) for row in found}
        rows, outdated = [], []
        for user, shown in by_user.items():
            number, members, newest, filter_ = open_filters.get(user, (0, 0, 0, None))
            shown.sort()
            while shown:
                if filter_ is None or members >= filter_.size_cap:
                    number, members = number + 1, 0
                    filter_ = BloomFilter.sized(options.size_cap, options.false_positive_rate)
                part = shown[: filter_.size_cap - members]
                shown = shown[len(part) :]
                filter_.add(np.array([post for _, post in part], np.int64))
                members, newest = members + len(part), max(newest, part[-1][0])
                rows.append((user, number, members, newest, filter_.to_bytes()))
            outdated.append((user, number - options.max_filters))
        columns: Layout = (
            ("user_id", "id"), ("number", "int"), ("members", "int"), ("newest_ms", "id"), ("filter", "blob"),
        )  # fmt: skip
        self._upsert("impression_filters", columns[:2], columns, rows)
        self._session.change(
            """DELETE FROM impression_filters WHERE (user_id, number) IN (SELECT f.user_id, f.number FROM {r}
            CROSS JOIN impression_filters f WHERE f.user_id = r.user_id AND f.number <= r.last)""",
            transpose([row for row in outdated if row[1] > 0], (("user_id", "id"), ("last", "int"))),
        )

    def _upsert(self, table: str, keys: Layout, columns: Layout, rows: list[Any]) -> None:
        if rows:
            self._session.upsert(table, [name for name, _ in keys], transpose(rows, columns))

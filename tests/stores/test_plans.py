"""What a question costs depends on what is asked, not on how much the store holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from xfast.events import EventBatch
from xfast.stores import FilterOptions, HistoryOptions, Relation, SqlStore, open_store
from xfast.stores.database import Session

ASKED = np.arange(1, 21)
OWN = int(ASKED[0])
#: Everybody else's ids start here.
OTHERS = 1_000

READS: dict[str, Callable[[SqlStore], object]] = {
    "users": lambda store: store.users(ASKED),
    "posts": lambda store: store.posts(ASKED),
    "posts_by": lambda store: store.posts_by(ASKED),
    "labels": lambda store: store.labels(ASKED),
    "labels of users": lambda store: store.labels(ASKED, of_users=True),
    "counts": lambda store: store.counts(ASKED),
    "keywords": lambda store: store.muted_keywords(ASKED),
    "follows": lambda store: store.related(ASKED, Relation.FOLLOW),
    "followers": lambda store: store.related(ASKED, Relation.FOLLOW, inverse=True),
    "has_relation": lambda store: store.has_relation(ASKED, Relation.BLOCK, OWN),
    "signatures": lambda store: store.signatures(ASKED),
    "history": lambda store: store.histories([OWN], HistoryOptions(), now_ms=10**9),
    "histories": lambda store: store.histories(ASKED, HistoryOptions(), now_ms=10**9),
    "seen": lambda store: store.seen(OWN),
    "filters": lambda store: store.impression_filters(OWN),
    "served": lambda store: store.served(OWN),
    "user_ids": lambda store: store.user_ids(limit=20),
}


def something_of(users: Any, posts: Any, time_ms: int) -> EventBatch:
    """One of everything for each user and post."""
    size = len(users)
    times = np.full(size, time_ms)
    return EventBatch.concat(
        [
            EventBatch.of("profile", times, user_id=users, screen_name=[f"user{each}" for each in users.tolist()]),
            EventBatch.of("follow", times, user_id=users, target_user_id=users + 1),
            EventBatch.of("block", times, user_id=users, target_user_id=users + 1),
            EventBatch.of("mute_keyword", times, user_id=users, keyword=["word"] * size),
            EventBatch.of("post", times, post_id=posts, author_id=users, text=["text"] * size),
            EventBatch.of("label", times, post_id=posts, user_id=users, label=["SFA"] * size, category=0),
            EventBatch.of("engagement", times, user_id=users, post_id=posts, action=1),
            EventBatch.of("impression", times, user_id=users, post_id=posts),
        ]
    )


def fill(store: SqlStore, others: int) -> None:
    """What is asked for, and what ``others`` users did."""
    store.apply(something_of(ASKED, ASKED, 1))
    crowd = np.arange(OTHERS, OTHERS + others)
    store.apply(something_of(crowd, crowd, 1))


def steps(store: SqlStore, work: Callable[[SqlStore], object]) -> int:
    """Instructions of SQLite's machine."""
    work(store)  # what is built when it is first asked for
    (session,) = store._db._idle
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    session.connection.set_progress_handler(tick, 1)
    work(store)
    session.connection.set_progress_handler(None, 0)
    return count


def test_reads_do_not_grow_with_the_store() -> None:
    """In SQLite, which plans without statistics."""
    costs = []
    for others in (50, 1_000):
        with closing(open_store("sqlite://", cache_entries=0)) as store:
            assert isinstance(store, SqlStore)
            fill(store, others)
            costs.append({name: steps(store, read) for name, read in READS.items()})
    grown = {name: (few, costs[1][name]) for name, few in costs[0].items() if costs[1][name] > 1.1 * few}
    assert not grown


def test_events_do_not_cost_more_in_a_larger_store() -> None:
    """Also where filters roll over and old ones go."""
    costs = []
    for others in (50, 1_000):
        filters = FilterOptions(size_cap=2, max_filters=1)
        with closing(open_store("sqlite://", cache_entries=0, filters=filters)) as store:
            assert isinstance(store, SqlStore)
            fill(store, others)
            times = iter(range(2, 10))

            def again(store: SqlStore, times: Any = times) -> None:
                time = next(times)
                store.apply(something_of(ASKED, ASKED + 100 * time, time))

            costs.append(steps(store, again))
    assert costs[1] <= 1.1 * costs[0]


@pytest.mark.services
def test_postgres_searches_along_indices(postgres_schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question has an index: with whole-table scans discouraged, as on large tables, no plan has one."""
    url = f"{postgres_schema}{quote(' -c enable_seqscan=off')}"
    with closing(open_store(url, cache_entries=0)) as store:
        assert isinstance(store, SqlStore)
        fill(store, 500)
        store.signatures(ASKED)
        fetch, scans = Session.select, []
        names: list[str] = []

        def explained(self: Session, sql: str, columns: Any, parameters: Any = ()) -> Any:
            if columns[0][2]:
                (plan,) = fetch(self, f"EXPLAIN (FORMAT JSON) {sql}", columns, parameters)[0]
                tree = json.dumps(plan)
                names.append(sql)
                if "Seq Scan" in tree:
                    scans.append((sql, tree))
            return fetch(self, sql, columns, parameters)

        monkeypatch.setattr(Session, "select", explained)
        for read in READS.values():
            read(store)
        assert len(names) >= 13
        assert not scans

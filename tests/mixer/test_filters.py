"""Properties of the filters over random batches, against the obvious version with sets and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.mixer.world import NOW_MS, post_id
from xfast.ids import as_uint64
from xfast.mixer import filters as f
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet, best_of_each, first_of_each, group_ranks
from xfast.mixer.query import ScoredPostsQuery

SMALL = st.integers(0, 6)
IDS = st.lists(st.one_of(SMALL, st.integers(0, 2**64 - 1)), max_size=40)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"tweet_id": st.integers(1, 9), "author_id": SMALL},
        optional={
            "retweeted_tweet_id": st.one_of(st.none(), st.integers(1, 9)),
            "in_reply_to_tweet_id": st.one_of(st.none(), SMALL),
            "subscription_author_id": st.one_of(st.none(), SMALL),
            "quoted_user_id": st.one_of(st.none(), SMALL),
        },
    ),
    max_size=15,
)


def kept(filters: list[Any], query: ScoredPostsQuery, batch: CandidateBatch) -> list[int]:
    rows = np.arange(len(batch))
    for component in filters:
        result = component.filter(query, batch)
        if result is not None:
            batch, rows = batch.take(result.kept), rows[result.kept]
    order: list[int] = rows.tolist()
    return order


@given(IDS, IDS)
def test_membership_is_that_of_a_set(members: list[int], asked: list[int]) -> None:
    ids = IdSet(as_uint64(members))
    assert len(ids) == len(set(members))
    assert ids.contains(as_uint64(asked)).tolist() == [number in set(members) for number in asked]
    marks = np.zeros(len(asked), np.bool_)
    valid = np.arange(len(asked)) % 2 == 0
    ids.mark(as_uint64(asked), valid, marks)
    assert marks.tolist() == [n in set(members) and at % 2 == 0 for at, n in enumerate(asked)]


@given(IDS, st.data())
def test_first_best_and_rank_match_loops(ids: list[int], data: st.DataObject) -> None:
    scores = [data.draw(st.integers(-3, 3)) / 2 for _ in ids]
    column, values = as_uint64(ids), np.array(scores, np.float64)
    assert first_of_each(column).tolist() == [ids.index(number) == at for at, number in enumerate(ids)]
    slots: dict[int, int] = {}
    removed = []
    for at, number in enumerate(ids):
        if number not in slots:
            slots[number] = at
        elif scores[at] > scores[slots[number]]:
            removed.append(slots[number])
            slots[number] = at
        else:
            removed.append(at)
    best, lost = best_of_each(column, values)
    assert best.tolist() == list(slots.values())
    assert lost.tolist() == removed
    ranks = [0] * len(ids)
    seen: dict[int, int] = {}
    for at in sorted(range(len(ids)), key=lambda at: -scores[at]):
        ranks[at] = seen.get(ids[at], 0)
        seen[ids[at]] = ranks[at] + 1
    assert group_ranks(column, values).tolist() == ranks


@given(ROWS, st.permutations(range(5)))
def test_filters_that_judge_rows_commute(rows: list[dict[str, Any]], order: list[int]) -> None:
    query = ScoredPostsQuery(user_id=3, request_time_ms=NOW_MS, seen_ids=as_uint64([2, 4]))
    query.user_features.blocked_user_ids = as_uint64([5])
    query.user_features.subscribed_user_ids = as_uint64([1])
    judges: list[Any] = [
        f.CoreDataHydrationFilter(),
        f.SelfTweetFilter(),
        f.IneligibleSubscriptionFilter(),
        f.PreviouslySeenPostsFilter(),
        f.AuthorSocialgraphFilter(),
    ]
    batch = CandidateBatch.from_records(rows)
    assert kept([judges[at] for at in order], query, batch) == kept(judges, query, batch)


def test_filters_that_compare_rows_need_their_place() -> None:
    old, wrapper = post_id(10 * 86_400_000, 1), post_id(1_000, 2)
    batch = CandidateBatch.from_records([{"tweet_id": old}, {"tweet_id": wrapper, "retweeted_tweet_id": old}])
    query = ScoredPostsQuery(request_time_ms=NOW_MS)
    assert kept([f.AgeFilter(), f.RetweetDeduplicationFilter()], query, batch) == [1]
    assert kept([f.RetweetDeduplicationFilter(), f.AgeFilter()], query, batch) == []

"""Rows per (user, post, request) out of the event stream."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError
from xfast.events import Engagement, EventBatch, Follow, Impression, NetworkEvent
from xfast.world import interactions


def test_actions_of_one_view_come_together() -> None:
    batch = EventBatch.from_events(
        [
            NetworkEvent(Impression(1, 10, author_id=5, surface=1, request_id=9), 1_000),
            NetworkEvent(Impression(1, 11, surface=1, request_id=9), 1_000),
            NetworkEvent(Engagement(1, 10, 11, dwell_ms=4_000, request_id=9), 2_000),
            NetworkEvent(Follow(1, 5), 2_500),
            NetworkEvent(Engagement(1, 10, 1, author_id=5, request_id=9), 3_000),
            NetworkEvent(Engagement(1, 10, 29, dwell_ms=7_000, request_id=9), 3_500),
            NetworkEvent(Engagement(1, 10, 6, request_id=9, removed=True), 4_000),
            NetworkEvent(Engagement(2, 10, 1), 4_500),
        ]
    )
    rows = interactions(batch)
    assert rows.user_id.tolist() == [1, 1, 2] and rows.post_id.tolist() == [10, 11, 10]
    assert rows.actions.tolist() == [1 << 1 | 1 << 11 | 1 << 29, 0, 1 << 1]
    assert rows.time_ms.tolist() == [1_000, 1_000, 4_500] and rows.shown.tolist() == [True, True, False]
    assert rows.dwell_ms.tolist() == [4_000, 0, 0] and rows.click_dwell_ms.tolist() == [7_000, 0, 0]
    assert rows.author_id.tolist() == [5, 0, 0] and rows.surface.tolist() == [1, 1, 0]
    matrix = rows.action_matrix([0, 1])
    assert matrix.shape == (2, 49) and np.flatnonzero(matrix[0]).tolist() == [1, 11, 29] and not matrix[1].any()


def test_a_late_action_begins_a_new_row() -> None:
    batch = EventBatch.of("engagement", [0, 100, 5_000], user_id=1, post_id=10, action=[1, 4, 6])
    rows = interactions(batch, window_ms=1_000)
    assert rows.actions.tolist() == [1 << 1 | 1 << 4, 1 << 6] and rows.time_ms.tolist() == [0, 5_000]
    assert len(interactions(batch)) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 63)), max_size=30))
def test_rows_follow_a_plain_loop(events: list[tuple[int, int, int]]) -> None:
    expected: dict[tuple[int, int], int] = {}
    for user, post, action in events:
        expected[user, post] = expected.get((user, post), 0) | 1 << action
    columns = np.array(events, np.int64).reshape(-1, 3)
    batch = EventBatch.of(
        "engagement", np.arange(len(events)), user_id=columns[:, 0], post_id=columns[:, 1], action=columns[:, 2]
    )
    rows = interactions(batch)
    found = dict(zip(zip(rows.user_id.tolist(), rows.post_id.tolist()), rows.actions.tolist()))
    assert list(found.items()) == list(expected.items())
    histories = rows.histories()
    for user in range(4):
        assert rows.post_id[histories.of(user)].tolist() == [post for who, post in expected if who == user]
    assert histories.of(99).size == 0


def test_wrong_input_is_refused() -> None:
    unsorted = EventBatch.of("engagement", [2, 1], user_id=1, post_id=1, action=1)
    with pytest.raises(ParameterError, match=r"not in time order: use batch\.sorted"):
        interactions(unsorted)
    with pytest.raises(ParameterError, match=r"action is 64, must be in \[0, 63\]"):
        interactions(EventBatch.of("engagement", [1], user_id=1, post_id=1, action=64))
    with pytest.raises(ParameterError, match="window_ms is -1"):
        interactions(EventBatch.empty(), window_ms=-1)
    with pytest.raises(ParameterError, match="num_actions is 65"):
        interactions(EventBatch.empty()).action_matrix(num_actions=65)

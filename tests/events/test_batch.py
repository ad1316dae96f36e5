"""Columns of events: there and back, reordering, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.events.conftest import EVENTS
from xfast.errors import ParameterError
from xfast.events import EventBatch, Follow, Kind, Media, MediaKind, NetworkEvent, Post, Ragged, encode_all
from xfast.ids import SNOWFLAKE_EPOCH_MS, snowflake_time_ms

BATCHES = st.lists(EVENTS, max_size=12)


@given(BATCHES)
def test_there_and_back(events: list[NetworkEvent]) -> None:
    batch = EventBatch.from_events(events)
    assert list(batch) == events and len(batch) == len(events)
    assert sum(batch.counts().values()) == len(events)
    messages = batch.to_bytes()
    assert messages == encode_all(events)
    assert list(EventBatch.from_bytes(messages)) == events


@given(BATCHES, st.data())
def test_take_and_concat_follow_lists(events: list[NetworkEvent], data: st.DataObject) -> None:
    batch = EventBatch.from_events(events)
    rows = data.draw(st.lists(st.integers(0, len(events) - 1), max_size=12)) if events else []
    assert list(batch.take(rows)) == [events[row] for row in rows]
    cut = data.draw(st.integers(0, len(events)))
    mask = np.arange(len(events)) < cut
    parts = [batch.take(mask), batch.take(~mask)]
    assert list(EventBatch.concat(parts)) == events
    order = sorted(range(len(events)), key=lambda row: events[row].time_ms)
    assert list(batch.sorted()) == [events[row] for row in order]


def test_every_kind(one_of_each: list[NetworkEvent]) -> None:
    batch = EventBatch.from_events(one_of_each)
    assert list(batch) == one_of_each
    assert [batch[row] for row in range(-1, len(batch) - 1)] == [one_of_each[-1], *one_of_each[:-1]]
    assert list(EventBatch.from_bytes(batch.to_bytes())) == one_of_each
    with pytest.raises(IndexError):
        batch[len(batch)]


def test_columns_of_one_kind() -> None:
    batch = EventBatch.from_events(
        [
            NetworkEvent(Follow(1, 2), 10),
            NetworkEvent(Post(5, 1, media=(Media(MediaKind.GIF),), topic_ids=(8, 9)), 11),
            NetworkEvent(Follow(2**64 - 1, 4), 12),
        ]
    )
    follows = batch.columns("follow")
    assert follows.rows.tolist() == [0, 2] and list(follows) == ["user_id", "target_user_id"]
    assert follows["user_id"].dtype == np.uint64 and follows["user_id"].tolist() == [1, 2**64 - 1]
    posts = batch.columns(Kind.POST)
    assert posts["topic_ids"].tolist() == [[8, 9]] and posts["media"].values["kind"].tolist() == [MediaKind.GIF]
    assert batch.columns("delete").rows.size == 0 and batch.columns("delete")["post_id"].dtype == np.uint64
    with pytest.raises(ParameterError, match="a follow event has no field 'post_id', it has user_id"):
        follows["post_id"]
    with pytest.raises(ParameterError, match="kind is 'like', must be one of post, delete"):
        batch.columns("like")


def test_of_takes_arrays_scalars_and_lists() -> None:
    batch = EventBatch.of(
        "post",
        [1, 2, 3],
        post_id=np.array([1, 2, -1]),
        author_id=7,
        text=["a", "b", "ü"],
        language="en",
        topic_ids=[(1,), (), (2, 3)],
        media=Ragged([0, 0, 1, 1], np.array([(2, 500)], [("kind", np.uint8), ("duration_ms", np.int32)])),
    )
    assert [event.body.post_id for event in batch] == [1, 2, 2**64 - 1]
    assert batch[1].body == Post(2, 7, text="b", language="en", media=(Media(MediaKind.VIDEO, 500),))
    assert EventBatch.of("follow", 5, user_id=1, target_user_id=2)[0] == NetworkEvent(Follow(1, 2), 5)
    assert len(EventBatch.of("follow", [], user_id=[], target_user_id=[])) == 0
    assert EventBatch.concat([]).counts() == {} and list(EventBatch.empty()) == []


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"user_id": [1, 2]}, "engagement post_id is missing: it is required"),
        ({"user_id": [1, 2], "post_id": [1, 2], "action": [1]}, r"engagement action has shape \(1,\), must be \(2,\)"),
        ({"user_id": [1, 2], "post_id": [1, 2], "action": [1, 2**31]}, "action reaches from 1 to 2147483648"),
        ({"user_id": [1, 2], "post_id": [1.0, 2.0], "action": 1}, "engagement post_id must hold integers"),
        ({"user_id": [1, 2], "post_id": 1, "action": 1.5}, "engagement action has dtype float64"),
        ({"user_id": [1, 2], "post_id": 1, "action": 1, "removed": [0, 1]}, "removed has dtype int64, must be bool"),
        ({"user_id": [1, 2], "post_id": 1, "action": 1, "likes": 3}, "an? engagement event has no field 'likes'"),
    ],
)
def test_wrong_columns_are_named(columns: dict[str, Any], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        EventBatch.of("engagement", [1, 2], **columns)


def test_wrong_texts_and_lists_are_named() -> None:
    with pytest.raises(ParameterError, match="mute_keyword keyword must hold texts"):
        EventBatch.of("mute_keyword", [1], user_id=1, keyword=[7])
    with pytest.raises(ParameterError, match="topic_ids has 1 lists, must have 2"):
        EventBatch.of("post", [1, 2], post_id=[1, 2], author_id=1, topic_ids=[(1,)])
    with pytest.raises(ParameterError, match="must hold Media values"):
        EventBatch.of("post", [1], post_id=1, author_id=1, media=[("video",)])
    with pytest.raises(ParameterError, match="mask has shape"):
        EventBatch.empty().take(np.array([True]))


def test_numbered_mints_ids_once_and_repeatably() -> None:
    start = SNOWFLAKE_EPOCH_MS + 1000
    batch = EventBatch.of("follow", [start, start, start + 1, start], [0, 0, 0, 77], user_id=1, target_user_id=2)
    numbered = batch.numbered()
    assert numbered.event_id[3] == 77 and len(set(numbered.event_id.tolist())) == 4
    assert snowflake_time_ms(numbered.event_id[:3]).tolist() == [start, start, start + 1]
    assert (numbered.event_id & np.uint64(2**22 - 1)).tolist()[:3] == [0, 1, 0]
    assert numbered.numbered().event_id is numbered.event_id
    assert batch.numbered().event_id.tolist() == numbered.event_id.tolist()


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6), st.data())
def test_ragged_follows_lists(lists: list[list[int]], data: st.DataObject) -> None:
    column = Ragged(np.cumsum([0, *map(len, lists)]), np.array([x for items in lists for x in items], np.int64))
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=8)) if lists else []
    assert column[np.array(rows, np.int64)].tolist() == [lists[row] for row in rows]
    assert Ragged.concat([column, column]).tolist() == lists + lists
    assert [items.tolist() for items in column] == lists == [column[row].tolist() for row in range(len(lists))]


@pytest.mark.parametrize("offsets", [[], [1, 2], [0, 1], [0, 3, 2], [[0, 2]]])
def test_ragged_refuses_wrong_offsets(offsets: Any) -> None:
    with pytest.raises(ParameterError, match="offsets must"):
        Ragged(offsets, np.zeros(2))

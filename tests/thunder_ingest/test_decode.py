"""The native decoder against protobuf's own parser: the same columns, the same refusals, nothing lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xfast.events import (
    Account,
    AccountState,
    Delete,
    Follow,
    Media,
    MediaKind,
    NetworkEvent,
    Post,
    message_class,
)
from xfast.ids import snowflake
from xfast.thunder import _wire
from xfast.thunder.feeder import has_video

CORPUS = Path(__file__).with_name("corpus.txt")

int64 = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 300)
maybe = st.none() | int64
FIELDS = {
    "post_id": int64,
    "author_id": int64,
    "created_at": int64,
    "in_reply_to_post_id": maybe,
    "in_reply_to_user_id": maybe,
    "is_retweet": st.booleans(),
    "is_reply": st.booleans(),
    "source_post_id": maybe,
    "source_user_id": maybe,
    "has_video": st.booleans(),
    "conversation_id": maybe,
}
creates = st.fixed_dictionaries(FIELDS)


def in_network(**variant: Any) -> bytes:
    event = message_class("xfast.thunder.InNetworkEvent")(**variant)
    return bytes(event.SerializeToString())


def create(**fields: Any) -> bytes:
    return in_network(tweet_create_event={k: v for k, v in fields.items() if v is not None})


def parse(data: bytes) -> Any:
    """What protobuf makes of the bytes: the message, or None where it refuses them."""
    try:
        return message_class("xfast.thunder.InNetworkEvent").FromString(data)
    except DecodeError:
        return None


@given(st.lists(creates, min_size=1, max_size=30))
def test_creates_become_columns(rows: list[dict[str, Any]]) -> None:
    columns = _wire.decode_in_network([create(**row) for row in rows])
    decoded = columns.creates()
    assert columns.create_index.tolist() == list(range(len(rows)))
    for name in FIELDS:
        if name != "is_reply":
            assert decoded[name].tolist() == [row[name] or 0 for row in rows]
    parents = ("in_reply_to_post_id", "in_reply_to_user_id")
    expected = [row["is_reply"] or any(row[name] is not None for name in parents) for row in rows]
    assert decoded["is_reply"].tolist() == expected


def test_deletes_accounts_nulls_and_unknown_variants_are_told_apart() -> None:
    messages = [
        in_network(tweet_delete_event={"post_id": -5, "deleted_at": 77}),
        None,
        in_network(account_state_event={"user_id": 9, "state": 2}),
        b"\x7a\x00",  # variant 15
        b"",
        b"\x0a\x05\x08",
        create(post_id=1),
    ]
    columns = _wire.decode_in_network(messages)
    assert columns.deleted_id.tolist() == [-5] and columns.deleted_at.tolist() == [77]
    assert columns.account_id.tolist() == [9] and columns.account_state.tolist() == [2]
    assert (columns.empty, columns.unknown) == (1, 1)
    assert columns.bad_index.tolist() == [4, 5] and columns.bad_fault.tolist() == [5, 1]
    assert columns.create_index.tolist() == [6]


def compare(data: bytes) -> None:
    """The decoder and protobuf agree on one message, valid or not."""
    columns = _wire.decode_in_network([data])
    message = parse(data)
    refused = [fault for fault in columns.bad_fault.tolist() if fault != 5]
    assert (message is None) == bool(refused), (data.hex(), columns.bad_fault.tolist())
    if message is None:
        return
    variant = message.WhichOneof("event_variant")
    assert len(columns.create_index) == (variant == "tweet_create_event")
    assert len(columns.deleted_id) == (variant == "tweet_delete_event")
    assert len(columns.account_id) == (variant == "account_state_event")
    if variant is None:
        assert columns.unknown + len(columns.bad_index) == 1
    elif variant == "tweet_create_event":
        row = message.tweet_create_event
        decoded = columns.creates()
        for name in FIELDS:
            if name != "is_reply":
                assert decoded[name][0] == getattr(row, name)
    elif variant == "tweet_delete_event":
        row = message.tweet_delete_event
        assert (columns.deleted_id[0], columns.deleted_at[0]) == (row.post_id, row.deleted_at)


def mutate(data: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    result = bytearray(data)
    for kind, where, value in edits:
        at = where % (len(result) + 1)
        if kind == "insert":
            result.insert(at, value)
        elif kind == "cut":
            del result[at:]
        elif at < len(result):
            result[at] = value
    return bytes(result)


edits = st.lists(
    st.tuples(st.sampled_from(["set", "insert", "cut"]), st.integers(0, 200), st.integers(0, 255)), max_size=4
)


@settings(max_examples=400)
@given(creates, edits)
def test_mutated_messages_are_judged_as_protobuf_does(row: dict[str, Any], changes: list[tuple[str, int, int]]) -> None:
    compare(mutate(create(**row), changes))


@settings(max_examples=400)
@given(st.binary(max_size=40))
@example(b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f")  # the tenth byte has more than one bit
@example(b"\x8a\x80\x80\x80\x80\x00\x00")  # an overlong tag
@example(b"\xfa\xff\xff\xff\x0f\x00")  # the largest field number
@example(b"\x0a\x02\x08\x07\x0a\x02\x10\x09")  # the variant twice: merged
@example(b"\x23\x23\x24\x24")  # nested groups of an unknown field
def test_arbitrary_bytes_are_judged_as_protobuf_does(data: bytes) -> None:
    compare(data)


def test_the_fuzzers_corpus() -> None:
    seeds = CORPUS.read_text().split()
    assert len(seeds) >= 100
    for seed in seeds:
        compare(bytes.fromhex(seed))


def test_the_decoder_reads_slices_of_one_buffer() -> None:
    messages = [create(post_id=i, author_id=i * 2) for i in range(5)]
    buffer = b"junk" + b"".join(messages)
    sizes = np.array([len(m) for m in messages])
    starts = 4 + np.cumsum(sizes) - sizes
    assert _wire.decode_in_network(buffer, starts, sizes).creates()["author_id"].tolist() == [0, 2, 4, 6, 8]
    with pytest.raises(ValueError, match="message 0 lies outside the buffer"):
        _wire.decode_in_network(b"abc", np.array([1]), np.array([3]))
    with pytest.raises(ValueError, match="starts and sizes go together"):
        _wire.decode_in_network(buffer, starts)
    with pytest.raises(TypeError):
        _wire.decode_in_network(["text"])  # type: ignore[list-item]


def mapped(*bodies: Any, now: int = 2_000_000_000, **rules: Any) -> _wire.InNetworkColumns:
    messages = [NetworkEvent(body, time_ms=1_700_000_000_999, event_id=i).to_bytes() for i, body in enumerate(bodies)]
    defaults = {"min_video_duration_ms": 10_000, "retention_seconds": 0, "stamp_deletes_now": False}
    return _wire.decode_network(messages, now=now, **{**defaults, **rules})


def test_posts_are_mapped_as_the_feeder_does() -> None:
    columns = mapped(
        Post(1, 10, created_at_ms=1_600_000_000_999),
        Post(2, 10),  # the time of the event
        Post(3, 10, in_reply_to_post_id=1, in_reply_to_user_id=10, conversation_id=1),
        Post(4, 10, in_reply_to_user_id=10),
        Post(5, 10, source_post_id=1, source_user_id=10),
        Post(6, 10, quoted_post_id=1),
        Post(7, 10, nullcast=True),
        Post(2**64 - 1, 2**63),
        Post(8, 10, text="ü" * 1000, language="de", topic_ids=(1, 2, 3)),
    )
    rows = columns.creates()
    assert rows["post_id"].tolist() == [1, 2, 3, 4, 5, 6, -1, 8]
    assert rows["author_id"].tolist() == [10] * 6 + [-(2**63), 10]
    assert rows["created_at"].tolist() == [1_600_000_000] + [1_700_000_000] * 7
    assert rows["is_reply"].tolist() == [False, False, True, True, False, False, False, False]
    assert rows["is_retweet"].tolist() == [False] * 4 + [True] + [False] * 3
    assert rows["in_reply_to_post_id"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert rows["in_reply_to_user_id"].tolist() == [0, 0, 10, 10, 0, 0, 0, 0]
    assert rows["source_post_id"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert rows["source_user_id"].tolist() == [0, 0, 0, 0, 10, 0, 0, 0]
    assert rows["conversation_id"].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    assert columns.nullcast == 1


VIDEO, PHOTO = MediaKind.VIDEO, MediaKind.PHOTO


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        ((), False),
        ((Media(VIDEO, 10_000),), True),
        ((Media(VIDEO, 9_999),), False),
        ((Media(VIDEO, 0),), False),  # not known
        ((Media(PHOTO, 60_000),), False),
        ((Media(MediaKind.GIF, 60_000),), False),
        ((Media(VIDEO, 60_000), Media(PHOTO)), False),
        ((Media(VIDEO, 60_000), Media(VIDEO, 60_000)), False),
    ],
)
def test_a_video_is_one_item_of_known_and_sufficient_duration(media: tuple[Media, ...], expected: bool) -> None:
    assert mapped(Post(1, 2, media=media)).creates()["has_video"].tolist() == [expected]
    assert has_video(media, min_duration_ms=10_000) is expected
    assert has_video(None, min_duration_ms=10_000) is False


def test_the_shared_vectors_of_video_eligibility(shared: Path) -> None:
    import json

    vectors = json.loads((shared / "vectors" / "thunder.json").read_text())["thunder_video_eligibility"]
    assert vectors
    for vector in vectors:
        media = [
            Media(PHOTO) if "image" in item else Media(VIDEO, -1 if item["video_ms"] is None else item["video_ms"])
            for item in vector["media"] or []
        ]
        assert has_video(media, min_duration_ms=vector["min_ms"]) is vector["expect"]


def test_deletes_of_posts_older_than_the_retention_are_dropped() -> None:
    now = 1_700_000_000
    young, old = snowflake((now - 100) * 1000, 1), snowflake((now - 101) * 1000, 1)
    columns = mapped(Delete(young), Delete(old), Delete(5), now=now, retention_seconds=100)
    assert columns.deleted_id.tolist() == [young, 5]  # an id without a time has no age
    assert columns.late_deletes == 1
    assert columns.deleted_at.tolist() == [1_700_000_000] * 2
    stamped = mapped(Delete(5), now=now + 7, stamp_deletes_now=True)
    assert stamped.deleted_at.tolist() == [now + 7]


def test_other_variants_are_counted_and_accounts_pass() -> None:
    columns = mapped(Follow(1, 2), Account(3, AccountState.SUSPENDED), Follow(4, 5))
    assert columns.other == 2
    assert columns.account_id.tolist() == [3] and columns.account_state.tolist() == [2]
    unknown = _wire.decode_network(
        [b"\xf2\x3f\x02ab", b"\x08\x01"],
        min_video_duration_ms=0,
        now=0,
        retention_seconds=0,
        stamp_deletes_now=False,
    )
    assert unknown.unknown == 1
    assert unknown.bad_index.tolist() == [1]


@given(st.lists(creates | st.tuples(int64, int64) | st.integers(0, 5), max_size=20))
def test_encoding_is_what_protobuf_reads_and_keeps_the_order(events: list[Any]) -> None:
    messages = []
    for event in events:
        if isinstance(event, dict):
            messages.append(create(**event))
        elif isinstance(event, tuple):
            messages.append(in_network(tweet_delete_event={"post_id": event[0], "deleted_at": event[1]}))
        else:
            messages.append(in_network(account_state_event={"user_id": 77, "state": event}))
    data, offsets, keys, variants = _wire.decode_in_network(messages).encode()
    encoded = [data[a:b] for a, b in pairwise(offsets.tolist())]
    assert len(encoded) == len(events) == len(keys)
    for event, again, variant in zip(events, encoded, variants.tolist(), strict=True):
        message = parse(again)
        if isinstance(event, dict):
            assert variant == 1
            row = message.tweet_create_event
            for name in FIELDS:
                if name != "is_reply":
                    assert getattr(row, name) == (event[name] or 0)
        elif isinstance(event, tuple):
            assert variant == 2
            assert (message.tweet_delete_event.post_id, message.tweet_delete_event.deleted_at) == event
        else:
            assert (variant, message.account_state_event.state) == (3, event)

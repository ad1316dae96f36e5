"""Cached candidates survive their bytes, and bytes that are not theirs are refused."""

from __future__ import annotations

import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import DataError
from xfast.mixer.cache_format import decode_posts, encode_posts
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import BotMakerCategory, SafetyLabel, ServedType, VisibilityReason
from xfast.mixer.heads import HEADS

ID = st.integers(0, 2**64 - 1)
PROBABILITY = st.floats(0, 1)
LABEL = st.builds(
    SafetyLabel, st.just("GROK_SFA"), st.none() | st.text(max_size=5), st.none() | st.sampled_from(BotMakerCategory)
)
ROW = st.fixed_dictionaries(
    {"tweet_id": ID, "author_id": ID},
    optional={
        "tweet_text": st.text(max_size=20),
        "retweeted_tweet_id": ID,
        "phoenix_scores": st.fixed_dictionaries({}, optional=dict.fromkeys(HEADS, PROBABILITY)),
        "weighted_score": st.floats(allow_nan=False),
        "served_type": st.sampled_from(list(ServedType)),
        "in_network": st.booleans(),
        "ancestors": st.lists(ID, max_size=3),
        "min_video_duration_ms": st.integers(-(2**31), 2**31 - 1),
        "filtered_topic_ids": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "visibility_reason": st.builds(VisibilityReason, st.text(max_size=5), st.none() | st.just("Drop")),
        "safety_labels": st.lists(LABEL, max_size=2).map(tuple),
        "tweet_type_metrics": st.binary(max_size=4),
        "brand_safety_verdict": st.sampled_from([0, 1, 2, 3]),
        "author_screen_name": st.text(max_size=5),
    },
)


@given(st.lists(ROW, max_size=6))
def test_candidates_come_back(rows: list[dict[str, Any]]) -> None:
    batch = CandidateBatch.from_records(rows)
    back = decode_posts(encode_posts(batch))
    assert len(back) == len(batch) and back.to_records() == batch.to_records()
    assert back.columns == batch.columns
    for name in batch.columns:
        assert type(back._read(name)) is type(batch._read(name)) and np.array_equal(back.valid(name), batch.valid(name))


def test_a_view_is_written_as_what_it_shows() -> None:
    batch = CandidateBatch.from_records({"tweet_id": row, "ancestors": [row] * row} for row in range(5))
    assert decode_posts(encode_posts(batch.take(np.array([3, 1])))).to_records() == batch.take([3, 1]).to_records()


def test_objects_of_the_release_s_form_are_read() -> None:
    records = [{"tweet_id": 5, "served_type": 3, "phoenix_scores": {"favorite": 0.5}}, {"tweet_id": 6}]
    posts = decode_posts(zlib.compress(json.dumps(records).encode()))
    assert posts.to_records()[0]["phoenix_scores"] == {"favorite": 0.5} and posts.tweet_id.tolist() == [5, 6]
    again = decode_posts(encode_posts(posts, quirks="reference"))
    assert again.to_records() == posts.to_records()


def test_reference_mode_writes_the_release_s_form() -> None:
    import zstandard

    payload = encode_posts(CandidateBatch.from_records([{"tweet_id": 5, "served_type": 3}]), quirks="reference")
    document = json.loads(zstandard.ZstdDecompressor().decompress(payload))
    assert document == [{"tweet_id": 5, "served_type": 3}]


def changed(path: str, value: Any) -> bytes:
    """A payload in which one thing is another."""
    batch = CandidateBatch.from_records([{"tweet_id": 1, "served_type": 3, "ancestors": [7]}])
    payload = encode_posts(batch)
    import zstandard

    document = json.loads(zstandard.ZstdDecompressor().decompress(payload))
    *above, last = path.split(".")
    place = document
    for key in above:
        place = place[key]
    place[last] = value
    return zlib.compress(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "cannot be read"),
        (b"nonsense", "cannot be read"),
        (b"\x28\xb5\x2f\xfd rubbish", "cannot be read"),
        (zlib.compress(b"3"), "cannot be read"),
        (zlib.compress(b'[{"tweet_id": 1, "served_type": 99}]'), "served_type is 99"),
        (changed("columns.served_type.values", "Yw=="), "served_type is 99, known are"),
        (changed("columns.tweet_id.values", "AAAA"), "cannot be read"),
        (changed("columns.tweet_id.values", "not base64"), "cannot be read"),
        (changed("rows", 2), "must have 2|do not fit 2 rows"),
        (changed("columns.ancestors.offsets", "AAAAAAAAAAD/AAAAAAAAAA=="), "the lists of ancestors do not fit 1 rows"),
        (changed("columns.colour", {"values": ""}), "have a column 'colour', candidates have none"),
    ],
)
def test_other_bytes_are_refused(payload: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_posts(payload)

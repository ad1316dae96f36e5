from __future__ import annotations

import pytest

from xfast.actions import (
    ALIASES,
    CONTINUOUS_HEADS,
    DISCRETE_HEADS,
    NEGATIVE,
    PROTO,
    RESEARCH18,
    RUNNER19,
    VOCABULARIES,
    canonical,
    vocabulary,
)
from xfast.errors import ParameterError


def test_published_numbers() -> None:
    assert dict(PROTO) == {
        "favorite": 1, "reply": 4, "quote": 5, "retweet": 6, "dwell": 11, "not_dwelled": 12, "vqv": 13,
        "photo_expand": 14, "report": 16, "not_interested": 17, "follow_author": 21, "block_author": 23,
        "mute_author": 25, "click": 29, "profile_click": 30, "share_via_copy_link": 32, "share_via_dm": 33,
        "share": 37, "quoted_click": 38, "quoted_vqv": 48,
    }  # fmt: skip
    assert [PROTO.continuous_column(name) for name in CONTINUOUS_HEADS] == [1, 2]
    assert (len(PROTO), len(RUNNER19), len(RESEARCH18)) == (49, 19, 18)
    assert RUNNER19.columns[:18] == RESEARCH18.columns
    assert [RUNNER19.column(name) for name in NEGATIVE] == [14, 15, 16, 17]


def test_proto_fills_all_heads_with_49_columns_and_seven_with_19() -> None:
    assert tuple(PROTO.heads(49)) == DISCRETE_HEADS
    assert PROTO.unset_heads(49) == ()
    filled = PROTO.heads(19)
    assert set(filled.values()) == {1, 4, 5, 6, 11, 12, 13, 14, 16, 17}
    assert set(filled) | set(PROTO.unset_heads(19)) == set(DISCRETE_HEADS)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("repost", "retweet"), ("Like", "favorite"), ("video_view", "vqv"), ("p_favorite_score", "favorite"),
     ("share-via-dm", "share_via_dm"), ("favorite_score", "favorite"), ("quoted_vqv", "quoted_vqv")],
)  # fmt: skip
def test_spellings(spelling: str, name: str) -> None:
    assert canonical(spelling) == name
    assert PROTO.column(spelling) == PROTO.column(name)


def test_every_alias_leads_to_a_name_that_some_vocabulary_has() -> None:
    known = {a for v in VOCABULARIES.values() for a in (*v.columns, *v.continuous) if a}
    assert set(ALIASES.values()) <= known
    assert not set(ALIASES) & known


def test_lists_and_errors() -> None:
    custom = vocabulary(["like", None, "repost"])
    assert custom.columns == ("favorite", None, "retweet")
    assert custom.label(1) == "action_1"
    assert custom.label(7) == "action_7"
    assert "reply" not in custom
    assert "favorite" in custom
    with pytest.raises(ParameterError, match="'reply' has no column in the vocabulary 'custom'"):
        custom.column("reply")
    with pytest.raises(ParameterError, match="actions is 'prot', must be one of proto, runner19, research18"):
        vocabulary("prot")
    with pytest.raises(ParameterError, match="action 'hug' is unknown"):
        vocabulary(["hug"])
    with pytest.raises(ParameterError, match="names an action twice"):
        vocabulary(["like", "favorite"])
    with pytest.raises(ParameterError, match="no column"):
        PROTO.continuous_column("video_watch_time")

"""Parameters and deciders: presets, files, overrides, refusals, deterministic sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ConfigurationError, ParameterError
from xfast.mixer.deciders import DECIDERS, Decider, sampled
from xfast.mixer.params import PRESETS, Params
from xfast.mixer.query import ScoredPostsQuery


def test_every_preset_is_valid_and_public_names_come_back() -> None:
    for name in PRESETS:
        params = Params.preset(name).check()
        assert Params().override(params.public()) == params


def test_a_file_names_its_preset_and_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "mixer.toml"
    path.write_text('preset = "2026-08"\n[params]\nReplyWeight = 6\nresult_size = 20\nTRACE_USER_IDS = [5]\n')
    params = Params.load(path)
    assert (params.reply_weight, params.result_size, params.trace_user_ids) == (6.0, 20, (5,))
    assert params.favorite_weight == Params().favorite_weight


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('preset = "2026-09"', "preset '2026-09' is unknown"),
        ("ReplyWeight = 6", r"unknown key \['ReplyWeight'\]"),
        ("[params]\nReplyWeigth = 6", "did you mean ReplyWeight"),
        ("[params]\nReplyWeight = true", "ReplyWeight is True, must be of type float"),
        ("[params]\nReplyWeight = nan", "ReplyWeight is nan"),
        ("[params]\nReplyWeight = -1.0", "ReplyWeight is -1.0, must be 0 or more"),
        ("[params]\nBlockAuthorWeight = 1.0", "BlockAuthorWeight is 1.0, must be 0 or less"),
        ("[params]\nAuthorDiversityDecay = 1.5", "must be between 0.0 and 1.0"),
        ("[params]\nRESULT_SIZE = 60", "RESULT_SIZE 60 exceeds TOP_K_CANDIDATES_TO_SELECT 50"),
        ("[params]\nFOR_YOU_MAX_RESULT_SIZE = 10", "is below RESULT_SIZE 35"),
        ("params = [", "mixer.toml"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mixer.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Params.load(path)


def test_a_request_s_override_is_its_own() -> None:
    params = Params()
    changed = params.override({"OonWeightFactor": 0.5, "enable_cached_posts": False})
    assert (changed.oon_weight_factor, changed.enable_cached_posts) == (0.5, False)
    assert (params.oon_weight_factor, params.enable_cached_posts) == (0.75, True)
    assert params.override({}) is params


@given(st.integers(0, 2**64 - 1), st.sampled_from(DECIDERS))
def test_a_decider_answers_the_same_for_the_same_request(request_id: int, name: str) -> None:
    low, high = Decider({name: 0.3}), Decider({name: 0.6})
    assert low.is_on(name, request_id) == Decider({name: 0.3}).is_on(name, request_id)
    # Turning a dial up takes nobody out.
    assert high.is_on(name, request_id) or not low.is_on(name, request_id)
    assert Decider({name: 1.0}).is_on(name, request_id)
    assert not Decider({name: 0.0}).is_on(name, request_id)
    assert not Decider({}).is_on(name, request_id)


def test_deciders_take_their_share_and_do_not_pick_the_same_requests() -> None:
    decider = Decider(dict.fromkeys(DECIDERS, 0.1))
    picked = [{i for i in range(20_000) if decider.is_on(name, i)} for name in DECIDERS]
    assert all(1_800 < len(requests) < 2_200 for requests in picked)
    # Independent tenths share a hundredth.
    assert all(len(one & other) < 300 for at, one in enumerate(picked) for other in picked[:at])
    assert sum(sampled(i, 0.005) for i in range(20_000)) in range(70, 131)


def test_shadow_traffic_is_a_sample_unless_said_otherwise() -> None:
    shadow = [i for i in range(20_000) if ScoredPostsQuery(request_id=i).is_shadow_traffic]
    assert shadow == [i for i in range(20_000) if sampled(i, 0.005)]
    assert ScoredPostsQuery(request_id=shadow[0], shadow_traffic=False).is_shadow_traffic is False


@pytest.mark.parametrize("shares", [{"nope": 0.5}, {DECIDERS[0]: 1.5}, {DECIDERS[0]: -0.1}])
def test_bad_dials_are_refused(shares: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        Decider(shares)

"""Native joins and gathers, and the hydrators that judge columns at once, against loops that follow the text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import DataError
from xfast.mixer._columns import by_score, distinct, last_rows, present
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import Prediction
from xfast.mixer.enums import VisibilityReason
from xfast.mixer.heads import CONTINUOUS_NUMBERS, DISCRETE_NUMBERS, HEADS
from xfast.mixer.hydrators.vf import apply_visibility, plan_visibility
from xfast.mixer.scorers import decode_heads

# Few different ones, so that they repeat, and the ends of the range.
ID = st.one_of(st.integers(0, 6), st.sampled_from([2**63 - 1, 2**63, 2**64 - 1]))
IDS = st.lists(ID, max_size=30)


def u64(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint64)


@given(IDS)
def test_distinct_keeps_the_order_of_first_sight(ids: list[int]) -> None:
    unique, inverse = distinct(u64(ids))
    assert unique.tolist() == list(dict.fromkeys(ids))
    assert [unique[place] for place in inverse] == ids


@given(
    st.lists(
        st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, math.inf, -math.inf])),
        max_size=300,
    )
)
def test_by_score_is_the_stable_order(scores: list[float]) -> None:
    expected = sorted(range(len(scores)), key=lambda row: -scores[row])
    assert by_score(np.array(scores, np.float64)).tolist() == expected
    # Every second row: a column may be a view.
    assert by_score(np.repeat(np.array(scores, np.float64), 2)[::2]).tolist() == expected


@given(IDS, IDS)
def test_the_last_of_equal_rows_answers(ids: list[int], wanted: list[int]) -> None:
    rows = {number: row for row, number in enumerate(ids)}
    assert last_rows(u64(ids), u64(wanted)).tolist() == [rows.get(number, -1) for number in wanted]
    assert last_rows(u64(ids * 2)[::2], u64(wanted * 2)[::2]).dtype == np.int64


def test_present_reads_columns_that_cannot_be_written() -> None:
    cells = np.array([None, 0, "", None, "x"], np.object_)
    cells.flags.writeable = False
    assert present(cells).tolist() == [False, True, True, False, True]
    assert present(cells[::2]).tolist() == [False, True, True]


@given(st.lists(ID, max_size=8), IDS, st.sampled_from([0, 7, 19, 49]), st.sampled_from([0, 1, 8]), st.booleans())
def test_heads_are_the_model_s_answer_by_original_id(
    answered: list[int], asked: list[int], actions: int, continuous: int, logs: bool
) -> None:
    rng = np.random.default_rng(0)
    probs = rng.uniform(0, 1, (len(answered), actions)).astype(np.float32)
    outputs = rng.uniform(0, 100, (len(answered), continuous)).astype(np.float32)
    with np.errstate(divide="ignore"):
        matrix = np.log(probs)
    prediction = Prediction(u64(answered), matrix if logs else None, outputs, None if logs else probs)
    heads = decode_heads(prediction, u64(asked))
    rows = {number: row for row, number in enumerate(answered)}
    for at, number in enumerate(asked):
        for name, value in zip(HEADS, heads[at].tolist(), strict=True):
            expected: float | None = None
            if number in rows and DISCRETE_NUMBERS.get(name, actions) < actions:
                expected = float(probs[rows[number], DISCRETE_NUMBERS[name]])
            elif number in rows and CONTINUOUS_NUMBERS.get(name, continuous) < continuous:
                expected = float(outputs[rows[number], CONTINUOUS_NUMBERS[name]])
            assert np.isnan(value) if expected is None else value == pytest.approx(expected, rel=1e-6)


def test_a_prediction_has_one_form() -> None:
    for log_probs, probs in ((None, None), (np.zeros((1, 2)), np.ones((1, 2)))):
        with pytest.raises(DataError, match="either log_probs or probs"):
            Prediction(u64([1]), log_probs, np.zeros((1, 0)), probs)


REASON = st.one_of(
    st.none(),
    st.just(RuntimeError("no answer")),
    st.builds(
        VisibilityReason, st.sampled_from(["SafetyResult", "Unavailable"]), st.sampled_from(["Drop", "Allow", None])
    ),
)
POST = st.fixed_dictionaries(
    {"tweet_id": ID, "ancestors": st.lists(ID, max_size=3)},
    optional={"in_network": st.booleans(), "retweeted_tweet_id": ID, "quoted_tweet_id": ID},
)


@given(st.lists(POST, max_size=8), st.dictionaries(ID, REASON), st.dictionaries(ID, REASON))
def test_visibility_follows_the_text(
    posts: list[dict[str, Any]], home: dict[int, Any], recommendations: dict[int, Any]
) -> None:
    batch = CandidateBatch.from_records(posts) if posts else CandidateBatch({"tweet_id": u64([])})
    inside, outside = [], set()
    for post in posts:
        if post.get("in_network") is True:
            inside.append(post["tweet_id"])
        else:
            outside.add(post["tweet_id"])
        if "retweeted_tweet_id" in post:
            inside.append(post["retweeted_tweet_id"])
        outside |= {*post["ancestors"], *([post["quoted_tweet_id"]] if "quoted_tweet_id" in post else [])}
    plan = plan_visibility(batch)
    assert sorted(plan.home) == sorted(inside) and plan.recommendations == sorted(outside)

    applied = apply_visibility(batch, home, recommendations)
    answers = {**home, **recommendations}
    assert applied.ok is not None
    for row, post in enumerate(posts):
        primary = answers.get(post["tweet_id"])
        assert applied.ok[row] == (not isinstance(primary, Exception))
        if not applied.ok[row]:
            continue
        assert applied.columns["visibility_reason"].item(row) == primary
        around = [*post["ancestors"], post.get("quoted_tweet_id"), post.get("retweeted_tweet_id")]
        reasons = [answers.get(number) for number in around if number is not None]
        drops = [
            r for r in reasons if isinstance(r, VisibilityReason) and (r.kind != "SafetyResult" or r.action == "Drop")
        ]
        assert applied.columns["drop_ancillary_posts"].item(row) == bool(drops)

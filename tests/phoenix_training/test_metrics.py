"""Metrics against scikit-learn and against their definitions written out; the bootstrap against a known spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError
from xfast.phoenix.training import metrics

ROWS = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60)


@given(ROWS)
def test_auc_and_log_loss_equal_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, labels = np.array([s for s, _ in rows]) / 8, np.array([y for _, y in rows])
    if labels.all() or not labels.any():
        assert math.isnan(metrics.auc(scores, labels))
    else:
        assert metrics.auc(scores, labels) == pytest.approx(sklearn.roc_auc_score(labels, scores))
    inside = 0.05 + 0.9 * scores
    expected = sklearn.log_loss(labels, inside, labels=[False, True])
    assert metrics.log_loss(inside, labels) == pytest.approx(expected)


def test_certain_and_wrong_costs_a_finite_amount() -> None:
    assert metrics.log_loss([0.0, 1.0], [True, False]) == pytest.approx(-math.log(1e-7), rel=1e-6)


def test_calibration_error_is_the_mean_gap_over_bins_of_equal_size() -> None:
    rng = np.random.default_rng(0)
    p = rng.permutation(np.linspace(0.01, 0.99, 600))
    labels = rng.random(600) < p**2
    order = np.argsort(p)
    expected = np.mean([abs(np.mean(p[part]) - np.mean(labels[part])) for part in order.reshape(15, 40)])
    assert metrics.calibration_error(p, labels) == pytest.approx(expected)
    honest = rng.random(600) < p
    assert metrics.calibration_error(p, honest) < metrics.calibration_error(p, labels)
    sure = np.array([0.0, 0.0, 1.0])
    assert metrics.calibration_error(sure, sure == 1) == 0
    assert metrics.calibration_error([0.5, 0.5], [1, 1], bins=1) == 0.5
    with pytest.raises(ParameterError, match="bins is 0"):
        metrics.calibration_error(p, labels, bins=0)


@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.data())
def test_rank_in_catalogue_is_the_place_in_a_stable_sort(values: list[int], data: st.DataObject) -> None:
    scores = np.array(values, np.float32)
    target = data.draw(st.integers(0, len(values) - 1))
    hidden = data.draw(st.lists(st.integers(0, len(values) - 1).filter(lambda i: i != target), unique=True))
    shown = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in hidden]
    assert metrics.rank_in_catalogue(scores, target, np.array(hidden, np.int64)) == shown.index(target)


def test_hits_and_gains() -> None:
    ranks = np.array([0, 1, 9, 10, 400])
    assert metrics.hit_rate(ranks, 10).tolist() == [1, 1, 1, 0, 0]
    assert metrics.ndcg(ranks, 10).tolist() == [1, 1 / math.log2(3), 1 / math.log2(11), 0, 0]


def test_bootstrap_of_a_mean_has_its_standard_error() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3, 2, 400)
    found = metrics.bootstrap(values, rng, resamples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert metrics.bootstrap(np.ones(5), rng).low == 1
    again = [metrics.bootstrap(values, np.random.default_rng(7)) for _ in range(2)]
    assert again[0] == again[1]
    with pytest.raises(ParameterError, match="level is 1"):
        metrics.bootstrap(values, rng, level=1)


def test_weighted_auc_is_the_auc_of_the_resampled_rows() -> None:
    rng = np.random.default_rng(2)
    scores, labels = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    counts = rng.integers(0, 4, 40)
    expected = metrics.auc(np.repeat(scores, counts), np.repeat(labels, counts))
    assert metrics._weighted_auc(scores, labels)(counts.astype(float)) == pytest.approx(expected)


def test_paired_difference_is_narrow_for_equal_models_and_wide_for_few_users() -> None:
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(30), 20)
    labels = rng.random(600) < 0.5
    ours = labels + rng.normal(0, 1, 600)
    theirs = ours + rng.normal(0, 0.1, 600)
    same = metrics.paired_auc_difference(ours, ours, labels, rng, resamples=200)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    close = metrics.paired_auc_difference(ours, theirs, labels, rng, resamples=400)
    assert close.value == pytest.approx(metrics.auc(ours, labels) - metrics.auc(theirs, labels))
    assert close.low < close.value < close.high
    alone = [metrics.auc(ours[i], labels[i]) for i in (rng.integers(0, 600, 600) for _ in range(200))]
    assert close.high - close.low < np.ptp(np.quantile(alone, [0.025, 0.975]))  # pairing takes the common noise out
    # An advantage that sits in one user's rows is no advantage over users.
    one = np.where(users == 0, theirs + 3 * labels, theirs)
    by_row = metrics.paired_auc_difference(one, theirs, labels, rng, resamples=400)
    by_user = metrics.paired_auc_difference(one, theirs, labels, rng, groups=users, resamples=400)
    assert by_user.low < by_row.low

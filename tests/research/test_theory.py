"""Closed forms against numbers: derivatives, roots, null spaces, Monte Carlo."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit

from xfast.errors import ParameterError
from xfast.research import convergence, inference, pairs, policies, space, training
from xfast.research.environment import Environment
from xfast.research.theory import boundary, covariance, identifiability, robustness, tangent, threshold

VECTOR = hnp.arrays(np.float64, 5, elements=st.floats(-3, 3).map(lambda x: round(x, 3)))


def test_policy_covariance_is_the_slope_in_inverse_temperature() -> None:
    rng = np.random.default_rng(0)
    score, utility = rng.normal(size=(2, 40))
    beta, step = 0.8, 1e-5
    values = [policies.softmax_utility(score, utility, 1 / (beta + shift)) for shift in (-step, step)]
    assert covariance.policy_covariance(score, utility, 1 / beta) == pytest.approx((values[1] - values[0]) / (2 * step))


def test_prediction_intervals_cover_and_abstain() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=400)
    sure = covariance.predict(x, x + rng.normal(size=400), rng=rng, resamples=500)
    assert sure.verdict == "gains"
    assert sure.bootstrap[0] < sure.correlation < sure.bootstrap[1]
    assert sure.delta == pytest.approx(sure.bootstrap, abs=0.03)
    assert sure.covariance_bootstrap[0] < sure.covariance < sure.covariance_bootstrap[1]
    assert covariance.predict(x, -x + rng.normal(size=400), rng=rng, resamples=200).verdict == "loses"
    assert covariance.predict(x, rng.normal(size=400), rng=rng, resamples=200).verdict == "abstain"
    with pytest.raises(ParameterError, match="constant"):
        covariance.predict(np.ones(5), np.arange(5.0), rng=rng)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        x = rng.normal(size=120)
        found = covariance.predict(x, 0.5 * x + np.sqrt(0.75) * rng.normal(size=120), rng=rng, resamples=50)
        hits += found.delta[0] < 0.5 < found.delta[1]
    assert 175 <= hits <= 200


def test_exact_threshold_is_five_sixteenths() -> None:
    society = space.alpha_weights(4.0)
    for neutral in (0.0, 0.4, 1.0):
        platform = threshold.grouped(1.0, neutral, 0.0)
        assert threshold.root(platform, society, space.NEGATIVE_MASK) == 5 / 16
        below, above = threshold.curve(platform, society, space.NEGATIVE_MASK, np.array([0.3124, 0.3126]))
        assert below > 0 > above
    assert threshold.root(platform, space.alpha_weights(0.0), space.NEGATIVE_MASK) is None


@given(VECTOR, VECTOR)
def test_root_makes_the_alignment_vanish(platform: np.ndarray, society: np.ndarray) -> None:
    negative = np.array([False, False, False, True, True])
    root = threshold.root(platform, society, negative)
    features = np.random.default_rng(0).uniform(size=(30, 5))
    for found, metric in (
        (root, np.eye(5)),
        (threshold.pool_root(platform, society, negative, features), np.cov(features, rowvar=False, bias=True)),
    ):
        if found is not None and abs(found) < 1e6:
            moved = np.where(negative, found, platform)
            assert moved @ metric @ society == pytest.approx(0, abs=1e-6 * (1 + abs(found)))


def test_split_adds_up_and_its_tangent_is_first_order() -> None:
    rng = np.random.default_rng(3)
    features, before, utility = rng.normal(size=(50, 4)), rng.normal(size=4), rng.normal(size=50)
    errors = []
    for step in (1e-2, 1e-3):
        after = before + step * rng.normal(size=4)
        found = tangent.split(features, before, after, utility)
        assert found.drift + found.growth == pytest.approx(found.total)
        errors.append(abs(found.tangent_drift + found.tangent_growth - found.total))
    assert all(later < earlier / 20 for earlier, later in pairwise(errors))
    pure = tangent.split(features, before, 2 * before, utility)
    assert pure.drift == pytest.approx(0)


def test_one_hot_block_hides_its_sum() -> None:
    features = np.hstack([np.eye(4)[np.arange(40) % 4], np.random.default_rng(0).uniform(size=(40, 2))])
    found = identifiability.span(features)
    assert found.rank == 5
    assert abs(found.hidden[:4, 0]) == pytest.approx(np.full(4, 0.5))
    weights = np.arange(6.0)
    seen = identifiability.gauge(weights, found)
    differences = features[:-1] - features[1:]
    assert differences @ seen == pytest.approx(differences @ weights)
    assert identifiability.gauge(seen, found) == pytest.approx(seen)


def test_fisher_information_by_enumeration() -> None:
    rng = np.random.default_rng(4)
    features, weights = rng.normal(size=(9, 3)), rng.normal(size=3)
    total = np.zeros((3, 3))
    for i in range(9):
        for j in range(9):
            if i != j:
                x = features[i] - features[j]
                s = expit(x @ weights)
                total += s * (1 - s) * np.outer(x, x) / 72
    assert identifiability.fisher(features, weights) == pytest.approx(total)


def test_cosine_precision_matches_simulation(small: Environment) -> None:
    """Simulate what the formula assumes: Bradley-Terry labels, random pairs, ridge fit."""
    rng = np.random.default_rng(5)
    features = small.features[:, :4] * 4
    truth, other, count = np.array([1.0, -1.0, 0.5, 0.3]), np.array([1.0, 0.2, -0.4, 0.1]), 600
    precision = identifiability.cosine_precision(features, truth, other)
    found = []
    for _ in range(120):
        first = rng.integers(0, len(features), count)
        second = (first + rng.integers(1, len(features), count)) % len(features)
        wins = rng.random(count) < expit((features[first] - features[second]) @ truth)
        rows = np.where(wins[:, None], np.stack([first, second], 1), np.stack([second, first], 1))
        found.append(policies.cosine(convergence.fit(features, [training.Run(rows)])[0], other))
    assert np.std(found) == pytest.approx(precision.error / np.sqrt(count), rel=0.25)
    needed = precision.pairs_needed(0.05)
    low, high = precision.interval(needed)
    assert (high - low) / 2 <= 0.05 + 1e-9


def test_random_pairs_are_of_two_items() -> None:
    rows = identifiability.random_pairs(5, 4_000, rng=np.random.default_rng(0))
    assert (rows[:, 0] != rows[:, 1]).all()
    counts = np.bincount(rows[:, 0] * 5 + rows[:, 1], minlength=25).reshape(5, 5)
    assert counts[~np.eye(5, dtype=bool)].min() > 140  # 200 expected


def test_d_optimal_pairs_beat_random_ones(small: Environment) -> None:
    rng = np.random.default_rng(6)
    weights = small.weights[0]
    chosen = identifiability.d_optimal(small.features, weights, 60, rng=rng)
    uniform = pairs.draw(60, len(small.features), seed=1).items
    better = identifiability.design_error(small.features, weights, chosen)
    assert better < identifiability.design_error(small.features, weights, uniform)


@given(VECTOR, VECTOR)
def test_radius_is_the_smallest_error_that_flips(weights: np.ndarray, other: np.ndarray) -> None:
    terms = robustness.contributions(weights, other)
    found = robustness.radius(weights, other)
    if found.each is None or found.ball is None or abs(terms).sum() < 1e-6:
        return
    at_corner = weights * (1 - np.sign(terms) * np.sign(terms.sum()) * found.each)
    assert at_corner @ other == pytest.approx(0, abs=1e-9)
    on_ball = weights * (1 - np.sign(terms.sum()) * found.ball * terms / np.linalg.norm(terms))
    assert on_ball @ other == pytest.approx(0, abs=1e-9)
    inside = np.random.default_rng(0).uniform(-0.99, 0.99, (50, 5)) * found.each
    assert ((weights * (1 + inside)) @ other * terms.sum() >= -1e-9).all()


def test_flip_probability_matches_simulation() -> None:
    rng = np.random.default_rng(7)
    weights, other = np.array([1.0, -0.4, 0.3]), np.array([0.5, 1.0, 0.2])
    moved = weights * (1 + rng.normal(0, 0.5, (40_000, 3)))
    share = np.mean((moved @ other) * (weights @ other) < 0)
    assert robustness.flip_probability(weights, other, 0.5) == pytest.approx(share, abs=0.01)


def test_cosine_interval_holds_the_cosine_and_closes_without_errors() -> None:
    rng = np.random.default_rng(9)
    weights, other = space.HAND_WEIGHTS, space.alpha_weights(4.0)
    exact = policies.cosine(weights, other)
    low, high = robustness.cosine_interval(weights, other, 0.3, rng=rng)
    assert -1 <= low < exact < high <= 1
    assert robustness.cosine_interval(weights, other, 0.0, rng=rng) == pytest.approx((exact, exact))
    with pytest.raises(ParameterError, match="sigma is -1"):
        robustness.cosine_interval(weights, other, -1.0, rng=rng)


def test_boundary_sees_a_local_reversal() -> None:
    score = np.arange(200.0)
    utility = np.where(score < 150, score, 300 - score)
    found = boundary.diagnose(score, utility, k=10)
    assert found.pool > 0 > found.local
    assert found.explains


def test_holm_by_hand_and_paired_test() -> None:
    assert inference.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    rng = np.random.default_rng(8)
    clear = inference.paired(rng.normal(1.0, 1.0, 60), rng=rng)
    assert clear.p_value < 0.001
    assert clear.positive > 0.999
    null = [inference.paired(rng.normal(size=20), rng=rng, flips=400).p_value for _ in range(200)]
    assert 0.35 < np.mean(null) < 0.65

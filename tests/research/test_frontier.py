"""Greedy slates, Pareto fronts and hypervolumes against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xfast.errors import ParameterError
from xfast.research import frontier, pareto, policies

GRID = st.integers(0, 4).map(float)


def brute_force(score: np.ndarray, topics: np.ndarray, delta: float, size: int) -> list[int]:
    picked: list[int] = []
    for _ in range(size):
        best, best_gain = -1, -np.inf
        for item in range(len(score)):
            if item not in picked:
                count = sum(topics[other] == topics[item] for other in picked)
                gain = (1.0 - delta) * score[item] + delta / (count + 1.0)
                if gain > best_gain:
                    best, best_gain = item, gain
        picked.append(best)
    return picked


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(6, 25)), elements=st.integers(-6, 6).map(float)),
    st.integers(0, 10_000),
)
def test_slates_are_the_brute_force_greedy(scores: np.ndarray, seed: int) -> None:
    topics = np.random.default_rng(seed).integers(0, 4, scores.shape[1])
    deltas = (0.0, 0.3, 0.5, 1.0)
    found = frontier.slates(scores, topics, deltas=deltas, size=5)
    for row, score in enumerate(scores):
        for column, delta in enumerate(deltas):
            assert found[row, column].tolist() == brute_force(score, topics, delta, 5)


def test_no_spread_is_the_plain_top() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 50))
    topics = np.arange(50) % 5
    found = frontier.slates(scores, topics, deltas=(0.0,), size=10)[:, 0]
    assert (found == policies.top(scores, 10)).all()


def test_bad_size_and_delta() -> None:
    with pytest.raises(ParameterError, match="size is 9"):
        frontier.slates(np.zeros(3), np.zeros(3, np.int64), size=9)
    with pytest.raises(ParameterError, match="deltas"):
        frontier.slates(np.zeros(30), np.zeros(30, np.int64), deltas=(2.0,))


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=GRID))
def test_hypervolume_counts_unit_cells(points: np.ndarray) -> None:
    """On a grid of integers the volume is the number of unit cells below some point."""
    cells = np.stack(np.meshgrid(*[np.arange(4)] * points.shape[1], indexing="ij"), axis=-1).reshape(
        -1, points.shape[1]
    )
    covered = (cells[:, None, :] + 1 <= points[None]).all(axis=2).any(axis=1).sum()
    assert pareto.hypervolume(points, np.zeros(points.shape[1])) == pytest.approx(covered)


def test_sampled_hypervolume_agrees_with_the_exact_one() -> None:
    points = np.random.default_rng(1).uniform(0, 1, (40, 3))
    sampled = pareto.hypervolume_sampled(points, np.zeros(3), np.ones(3), rng=np.random.default_rng(2))
    assert sampled == pytest.approx(pareto.hypervolume(points, np.zeros(3)), abs=0.01)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=GRID))
def test_nondominated_by_definition(points: np.ndarray) -> None:
    for point, keep in zip(points, pareto.nondominated(points), strict=True):
        beaten = any((other >= point).all() and (other > point).any() for other in points)
        assert keep == (not beaten)


def test_hausdorff_of_two_sets() -> None:
    assert pareto.hausdorff(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]])) == 5.0


def test_entropy_of_topics() -> None:
    topics = np.array([0, 1, 2, 3, 0])
    assert frontier.topic_entropy(np.array([[0, 1, 2, 3], [0, 4, 0, 4]]), topics).tolist() == [2.0, 0.0]

"""The pair protocol: prefix property, labels, split, misspecification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError
from xfast.research import pairs


@given(st.integers(0, 30), st.integers(2, 50), st.integers(0, 5))
def test_fewer_pairs_are_a_prefix_of_more(n: int, pool: int, seed: int) -> None:
    few, many = pairs.draw(n, pool, seed=seed), pairs.draw(n + 5, pool, seed=seed)
    assert (few.items == many.items[:n]).all()
    assert (few.noise == many.noise[:n]).all()
    assert (many.items[:, 0] != many.items[:, 1]).all()
    assert many.items.max() < pool


def test_generator_is_used_as_published() -> None:
    rng = np.random.default_rng(7)
    first = rng.choice(11, size=2, replace=False)
    noise = rng.normal(0.0, 0.05)
    second = rng.choice(11, size=2, replace=False)
    drawn = pairs.draw(2, 11, seed=7)
    assert (drawn.items == [first, second]).all()
    assert drawn.noise[0, 0] == noise


def test_label_prefers_the_higher_noisy_utility() -> None:
    utilities = np.array([0.0, 1.0, 2.0])
    drawn = pairs.Draws(np.array([[0, 1], [2, 1], [1, 2]]), np.array([[0.0], [0.0], [5.0]]))
    assert pairs.label(drawn, utilities).tolist() == [[1, 0], [2, 1], [1, 2]]
    per_item = pairs.Draws(np.array([[0, 1]]), np.array([[3.0, 0.0]]))
    assert pairs.label(per_item, utilities).tolist() == [[0, 1]]


def test_split_is_a_partition_with_the_first_fifth_held_out() -> None:
    train, held_out = pairs.split(25, seed=42)
    order = np.random.default_rng(42).permutation(25)
    assert held_out.tolist() == order[:5].tolist()
    assert sorted([*train, *held_out]) == list(range(25))


def test_misspecified_weights_keep_zeros() -> None:
    noisy = pairs.misspecify(np.array([0.0, 1.0, -2.0]), sigma=0.3, seed=1)
    assert noisy[0] == 0.0
    assert noisy[1] != 1.0


def test_flip_swaps_about_the_share() -> None:
    rows = np.tile([[1, 0]], (4000, 1))
    swapped = pairs.flip(rows, share=0.25, rng=np.random.default_rng(0))
    assert abs((swapped[:, 0] == 0).mean() - 0.25) < 0.03


def test_bad_input_names_the_argument() -> None:
    with pytest.raises(ParameterError, match="pool=1"):
        pairs.draw(3, 1, seed=0)
    with pytest.raises(ParameterError, match="share is 2"):
        pairs.flip(np.zeros((1, 2), np.int64), share=2, rng=np.random.default_rng(0))

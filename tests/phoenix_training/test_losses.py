"""The losses against their definitions written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xfast.phoenix.config import ContinuousActionConfig, NormConfig
from xfast.phoenix.training import losses
from xfast.phoenix.training.optimizer import update_rows


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_all_posts_as_negatives_is_the_softmax() -> None:
    rng = np.random.default_rng(0)
    users, posts = unit(rng, 5, 8), unit(rng, 11, 8)
    target = np.array([0, 3, 3, 7, 10])
    allowed = np.arange(11) != target[:, None]
    weights = np.array([1, 1, 0, 1, 1], np.float32)
    logits = users @ posts.T / 0.1
    expected = -(logits[np.arange(5), target] - np.log(np.exp(logits).sum(1)))
    loss = losses.sampled_softmax(users, posts[target], posts, np.zeros(11), allowed, 0.1, weights)
    np.testing.assert_allclose(loss, np.average(expected, weights=weights), rtol=1e-5)


def test_log_q_correction_makes_the_partition_sum_unbiased() -> None:
    rng = np.random.default_rng(1)
    users, posts = unit(rng, 1, 8), unit(rng, 50, 8)
    q = rng.dirichlet(np.ones(50))
    other = np.arange(50) != 4
    exact = np.exp(users @ posts.T / 0.3)[0]
    sums = []
    loss_of = jax.jit(losses.sampled_softmax)
    for _ in range(3000):
        drawn, counts = np.unique(rng.choice(50, 40, p=q), return_counts=True)
        correction = np.full(50, 1e9, np.float32)
        correction[drawn] = np.log(40 * q[drawn]) - np.log(counts)
        loss = loss_of(users, posts[[4]], posts, correction, other[None], 0.3, np.ones(1))
        sums.append(np.exp(float(loss)) * exact[4])
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - exact.sum()) < 4 * error
    assert error < 0.02 * exact.sum()


def test_hard_negatives_only_add_where_allowed() -> None:
    rng = np.random.default_rng(2)
    users, posts, hard = unit(rng, 2, 4), unit(rng, 3, 4), rng.uniform(-1, 1, (2, 2)).astype(np.float32)
    args = (users, posts[:2], posts, np.zeros(3), np.array([[0, 1, 1], [1, 0, 1]]), 0.5, np.ones(2))
    plain = losses.sampled_softmax(*args)
    none = losses.sampled_softmax(*args, hard, np.zeros((2, 2)))
    some = losses.sampled_softmax(*args, hard, np.array([[1, 0], [0, 0]]))
    np.testing.assert_allclose(plain, none, rtol=1e-6)
    assert some > plain


def test_multi_label_loss_ignores_masked_columns_and_empty_examples() -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((4, 3)).astype(np.float32)
    labels = (rng.random((4, 3)) < 0.5).astype(np.float32)
    weights = np.array([[1, 1, 0], [2, 0, 0], [0, 0, 0], [1, 1, 1]], np.float32)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    bce = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    expected = (bce * weights).sum() / 3
    np.testing.assert_allclose(losses.multi_label_loss(logits, labels, weights), expected, rtol=1e-5)


def test_continuous_losses() -> None:
    prediction, target = jnp.array([0.2, 0.9]), jnp.array([0.0, 0.5])
    weights = jnp.array([1.0, 1.0])
    mae = ContinuousActionConfig(loss_weight=2.0, loss_type="mae")
    np.testing.assert_allclose(losses.continuous_loss(prediction, target, weights, mae), 2 * (0.2 + 0.4) / 2, rtol=1e-6)
    config = ContinuousActionConfig(loss_weight=1.0, loss_type="tweedie", tweedie_power=1.3)
    gradient = jax.grad(lambda p: losses.continuous_loss(p, target, weights, config))
    # Tweedie deviance is least where the prediction is the target.
    assert abs(float(gradient(jnp.array([0.2, 0.5]))[1])) < 1e-6
    assert float(gradient(prediction)[1]) > 0
    expected = 0.9**0.7 / 0.7 + 0.5 * 0.9**-0.3 / 0.3
    np.testing.assert_allclose(losses.tweedie(prediction, target, 1.3)[1], expected, rtol=1e-5)
    log = ContinuousActionConfig(norm_config=NormConfig(norm_scale=30, use_log=True))
    np.testing.assert_allclose(losses.normalised(jnp.array([0.0, 30.0, 99.0]), log), [0, 1, 1], rtol=1e-6)


def test_row_wise_adagrad() -> None:
    rows, squares = jnp.ones((3, 4)), jnp.array([0.0, 1.0, 0.0])
    gradient = jnp.array([[2.0] * 4, [1.0, -1, 1, -1], [0.0] * 4])
    new, state = update_rows(rows, squares, gradient, 0.1)
    np.testing.assert_allclose(state, [4, 2, 0])
    np.testing.assert_allclose(new[0], np.full(4, 1 - 0.1 * 2 / 2), rtol=1e-6)
    np.testing.assert_allclose(new[1], 1 - 0.1 * np.array([1, -1, 1, -1]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_array_equal(new[2], rows[2])


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_keeps_the_mean(rate: float) -> None:
    x = jnp.ones((200, 50))
    y = losses.dropout(jax.random.key(0), x, rate)
    assert abs(float(y.mean()) - 1) < 0.03
    assert abs(float((y == 0).mean()) - rate) < 0.03
    np.testing.assert_array_equal(losses.dropout(None, x, 0.5), x)

"""Trainers against oracles: finite differences, a plain Adam loop, scikit-learn, SciPy; vmapping changes nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.linear_model import LogisticRegression

from xfast.errors import ParameterError
from xfast.research import convergence, losses, pairs, space, synthetic, training
from xfast.research.environment import F64, Environment

SCHEDULE = training.Adam(epochs=3, batch=16)
MEMBERS = (
    losses.bradley_terry(),
    losses.margin(0.5),
    losses.calibrated(1.0),
    losses.constrained("user", 5.0),
)


def a_run(environment: Environment, n: int, seed: int, loss: losses.Loss) -> training.Run:
    utility = environment.features @ environment.stakeholders["user"]
    rows = pairs.label(pairs.draw(n, len(utility), seed=seed), utility)
    return training.Run(rows, loss, synthetic.calibration_targets(environment.features), space.initial_weights())


@pytest.fixture(scope="module")
def runs(small: Environment) -> list[training.Run]:
    return [a_run(small, n, seed, loss) for n in (20, 50) for seed, loss in enumerate(MEMBERS)]


@pytest.fixture(scope="module")
def fitted(small: Environment, runs: list[training.Run]) -> F64:
    return training.fit(small.features, runs, SCHEDULE)


def plain_adam(environment: Environment, run: training.Run) -> F64:
    """The published optimiser, written as a loop over mini-batches."""
    features = jnp.asarray(environment.features, jnp.float32)
    packed = jnp.asarray(losses.coefficients([run.loss])[0])
    targets = jnp.asarray(run.targets, jnp.float32)
    w = jnp.asarray(run.initial, jnp.float32)
    first, second, count = jnp.zeros_like(w), jnp.zeros_like(w), 0
    rng, gradient = np.random.default_rng(42), jax.jit(jax.grad(losses.value))
    for _ in range(SCHEDULE.epochs):
        order = rng.permutation(len(run.pairs))
        for start in range(0, len(order), SCHEDULE.batch):
            rows = run.pairs[order[start : start + SCHEDULE.batch]]
            slope = gradient(w, features[rows[:, 0]], features[rows[:, 1]], targets[rows], jnp.ones(len(rows)), packed)
            count += 1
            first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
            w = w - 0.01 * (first / (1 - 0.9**count)) / (jnp.sqrt(second / (1 - 0.999**count)) + 1e-8)
    return np.asarray(w, np.float64)


def test_fit_is_plain_adam(small: Environment, runs: list[training.Run], fitted: F64) -> None:
    np.testing.assert_allclose(fitted[2], plain_adam(small, runs[2]), atol=2e-5)


def test_results_do_not_depend_on_vmapping(small: Environment, runs: list[training.Run], fitted: F64) -> None:
    alone = training.fit(small.features, [runs[5]], SCHEDULE)
    np.testing.assert_allclose(alone[0], fitted[5], atol=2e-6)
    backwards = training.fit(small.features, runs[::-1], SCHEDULE)
    np.testing.assert_allclose(backwards[::-1], fitted, atol=2e-6)


def test_positive_diversity_has_no_gradient_at_the_start_and_harms_no_neighbour(
    small: Environment, runs: list[training.Run], fitted: F64
) -> None:
    broken = a_run(small, 20, 0, losses.constrained("society", 1.0))
    together = training.fit(small.features, [runs[0], broken], SCHEDULE)
    np.testing.assert_allclose(together[0], fitted[0], atol=2e-6)
    assert np.isnan(together[1]).all()


@pytest.mark.parametrize(
    "loss", [*MEMBERS, losses.Loss("spread", constraint="diversity", strength=3.0)], ids=lambda loss: loss.name
)
def test_gradient_is_the_slope(small: Environment, loss: losses.Loss) -> None:
    run = a_run(small, 12, 1, loss)
    assert run.targets is not None
    rng = np.random.default_rng(0)
    with jax.enable_x64():
        arguments = [
            jnp.asarray(small.features[run.pairs[:, 0]]),
            jnp.asarray(small.features[run.pairs[:, 1]]),
            jnp.asarray(run.targets[run.pairs]),
            jnp.ones(len(run.pairs)),
            jnp.asarray(losses.coefficients([loss])[0], jnp.float64),
        ]

        compiled = jax.jit(jax.value_and_grad(losses.value))

        def value(w: F64) -> float:
            return float(compiled(jnp.asarray(w), *arguments)[0])

        def slope(w: F64) -> F64:
            return np.asarray(compiled(jnp.asarray(w), *arguments)[1])

        assert check_grad(value, slope, rng.normal(size=18) * 0.05) < 1e-6


def test_newton_is_scikit_learns_logistic_regression(small: Environment) -> None:
    run = a_run(small, 200, 4, losses.bradley_terry())
    differences = small.features[run.pairs[:, 0]] - small.features[run.pairs[:, 1]]
    ours = convergence.fit(small.features, [run])[0]
    # Every difference is a "win"; logistic regression needs both classes, so each also appears mirrored.
    doubled = np.vstack([differences, -differences])
    wins = np.repeat([1, 0], len(differences))
    strength = 1.0 / (2 * 0.001 * len(doubled))
    oracle = LogisticRegression(C=strength, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(doubled, wins)
    np.testing.assert_allclose(ours, oracle.coef_[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [losses.margin(0.5), losses.calibrated(1.0)], ids=lambda loss: loss.name)
def test_converged_fit_has_no_slope_left(small: Environment, loss: losses.Loss) -> None:
    run = a_run(small, 100, 5, loss)
    assert run.targets is not None
    optimum = convergence.fit(small.features, [run])[0]
    with jax.enable_x64():
        slope = jax.grad(losses.value)(
            jnp.asarray(optimum),
            jnp.asarray(small.features[run.pairs[:, 0]]),
            jnp.asarray(small.features[run.pairs[:, 1]]),
            jnp.asarray(run.targets[run.pairs]),
            jnp.ones(len(run.pairs)),
            jnp.asarray(losses.coefficients([loss])[0], jnp.float64),
        )
    assert np.abs(np.asarray(slope)).max() < 1e-5


def test_weighted_newton_minimises_the_weighted_loss(small: Environment) -> None:
    run = a_run(small, 60, 6, losses.bradley_terry())
    differences = small.features[run.pairs[:, 0]] - small.features[run.pairs[:, 1]]
    weights = np.random.default_rng(1).uniform(0, 1, len(differences))
    share = weights / weights.sum()

    def value(w: F64) -> float:
        return float(share @ np.logaddexp(0, -differences @ w) + 0.01 * w @ w)

    oracle = minimize(value, np.zeros(18), method="BFGS", options={"gtol": 1e-8}).x
    ours = convergence.newton(differences, run.loss, l2=0.01, weights=weights)
    np.testing.assert_allclose(ours, oracle, atol=1e-4)


def test_steps_follow_the_pairs_unless_fixed() -> None:
    assert training.PUBLISHED.length(20) == 50
    assert training.PUBLISHED.length(1600) == 1250
    assert training.Adam(steps=1250).length(20) == 1250
    plan = training.batches(20, training.Adam(steps=7))
    assert plan.shape == (7, 64)
    assert sorted(plan[3][plan[3] >= 0]) == list(range(20))


def test_bad_input_names_the_argument(small: Environment, runs: list[training.Run]) -> None:
    with pytest.raises(ParameterError, match="run 0 has no pairs"):
        training.fit(small.features, [training.Run(np.empty((0, 2), np.int64))])
    with pytest.raises(ParameterError, match="needs calibration targets"):
        training.fit(small.features, [training.Run(runs[0].pairs, losses.calibrated())])
    with pytest.raises(ParameterError, match="l2 is 0"):
        convergence.fit(small.features, runs[:1], l2=0)
    with pytest.raises(ParameterError, match="rate must be > 0"):
        training.Adam(rate=0)


def test_hinge_is_the_limit_of_the_smooth_margin() -> None:
    delta = np.array([-1.0, 0.2, 0.5, 3.0])
    assert losses.hinge(delta) == pytest.approx((1.5 + 0.3) / 4)

"""Step-limited Adam exactly as published, vmapped over every run of an experiment in one compile (RESEARCH §3).

How far Adam gets depends on the number of pairs: 25 pairs make 50 steps, 2,000 make 1,250. That is an axis of its own
(early stopping), not a property of the losses; `xfast.research.convergence` has the fits that do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from xfast.errors import ParameterError
from xfast.research import losses
from xfast.research.environment import F64, I64

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
SHUFFLE_SEED = 42


@dataclass(frozen=True)
class Adam:
    """The published schedule; `steps` fixes the number of updates whatever the number of pairs."""

    rate: float = 0.01
    batch: int = 64
    epochs: int = 50
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.batch < 1 or self.epochs < 1 or (self.steps is not None and self.steps < 1):
            raise ParameterError(f"{self}: rate must be > 0; batch, epochs and steps must be >= 1")

    def length(self, n: int) -> int:
        """Updates made on `n` pairs."""
        return self.steps or self.epochs * -(-n // self.batch)


PUBLISHED = Adam()


@dataclass(frozen=True)
class Run:
    """One vector to train.

    Attributes
    ----------
    pairs
        ``[n, 2]`` (preferred, rejected) item rows.
    loss
        Member of the loss family.
    targets
        ``[I]`` calibration targets, needed when the loss calibrates.
    initial
        ``[D]`` start, or None for 0.1 everywhere.
    """

    pairs: I64
    loss: losses.Loss = field(default_factory=losses.bradley_terry)
    targets: F64 | None = None
    initial: F64 | None = None


def fit(features: F64, runs: Sequence[Run], schedule: Adam = PUBLISHED) -> F64:
    """Train all runs together.

    Parameters
    ----------
    features
        ``[I, D]`` item features shared by the runs.

    Returns
    -------
    ``[R, D]`` weights, float32 values held in float64. A run whose loss has no gradient somewhere comes back as NaN.

    Raises
    ------
    ParameterError
        A run has no pairs, or calibrates without targets.
    """
    if not runs:
        return np.empty((0, features.shape[1]))
    for number, run in enumerate(runs):
        if len(run.pairs) == 0:
            raise ParameterError(f"run {number} has no pairs; at least one is needed")
        if run.loss.calibration > 0 and run.targets is None:
            raise ParameterError(f"run {number} uses {run.loss.name}, which needs calibration targets per item")
    sizes = sorted({len(run.pairs) for run in runs})
    plans = [batches(size, schedule) for size in sizes]
    longest = max(len(plan) for plan in plans)
    plan = np.full((len(sizes), longest, schedule.batch), -1, np.int32)
    for row, each in enumerate(plans):
        plan[row, : len(each)] = each
    pairs = np.zeros((len(runs), sizes[-1], 2), np.int32)
    for row, run in enumerate(runs):
        pairs[row, : len(run.pairs)] = run.pairs
    calibrates = any(run.loss.calibration > 0 for run in runs)
    targets = np.zeros((len(runs), len(features) if calibrates else 1), np.float32)
    for row, run in enumerate(runs):
        if calibrates and run.targets is not None:
            targets[row] = run.targets
    start = [np.full(features.shape[1], 0.1) if run.initial is None else run.initial for run in runs]
    fitted = _train(
        jnp.asarray(features, jnp.float32),
        jnp.asarray(plan),
        jnp.asarray([sizes.index(len(run.pairs)) for run in runs]),
        jnp.asarray([schedule.length(len(run.pairs)) for run in runs]),
        jnp.asarray(pairs),
        jnp.asarray(targets),
        jnp.asarray(losses.coefficients([run.loss for run in runs])),
        jnp.asarray(np.stack(start), jnp.float32),
        jnp.float32(schedule.rate),
        calibrates=calibrates,
    )
    return np.asarray(fitted, np.float64)


@lru_cache(maxsize=64)
def batches(n: int, schedule: Adam) -> NDArray[np.int32]:
    """Row numbers of every mini-batch, ``[steps, batch]``, -1 for padding; every epoch permutes anew."""
    rng = np.random.default_rng(SHUFFLE_SEED)
    length, per_epoch = schedule.length(n), -(-n // schedule.batch)
    plan = np.full((-(-length // per_epoch), per_epoch * schedule.batch), -1, np.int32)
    for epoch in plan:
        epoch[:n] = rng.permutation(n)
    return plan.reshape(-1, schedule.batch)[:length]


def _train_one(
    features: jax.Array,
    plans: jax.Array,
    which: jax.Array,
    length: jax.Array,
    pairs: jax.Array,
    targets: jax.Array,
    packed: jax.Array,
    start: jax.Array,
    rate: jax.Array,
    *,
    calibrates: bool,
) -> jax.Array:
    """One run: scan over its plan, leaving the weights alone once its own steps are done."""
    gradient = jax.grad(losses.value)

    def update(
        state: tuple[jax.Array, jax.Array, jax.Array], step: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array], None]:
        w, first, second = state
        rows = plans[which, step]
        chosen = pairs[rows]
        aims = targets[chosen] if calibrates else jnp.zeros(chosen.shape, jnp.float32)
        weight = (rows >= 0).astype(jnp.float32)
        slope = gradient(w, features[chosen[:, 0]], features[chosen[:, 1]], aims, weight, packed)
        first_new = BETA1 * first + (1 - BETA1) * slope
        second_new = BETA2 * second + (1 - BETA2) * slope * slope
        count = step.astype(jnp.float32) + 1.0
        step_size = (first_new / (1 - BETA1**count)) / (jnp.sqrt(second_new / (1 - BETA2**count)) + EPSILON)
        active = step < length
        moved = (w - rate * step_size, first_new, second_new)
        return jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state), None

    state = (start, jnp.zeros_like(start), jnp.zeros_like(start))
    (w, _, _), _ = jax.lax.scan(update, state, jnp.arange(plans.shape[1]))
    return w


@jax.jit(static_argnames="calibrates")
def _train(*arguments: jax.Array, calibrates: bool) -> jax.Array:
    over_runs = (None, None, 0, 0, 0, 0, 0, 0, None)
    return jax.vmap(lambda *a: _train_one(*a, calibrates=calibrates), in_axes=over_runs)(*arguments)

"""The optimiser: AdamW on dense parameters, row-wise Adagrad on the rows of the hash tables that a batch touched.

Row-wise Adagrad keeps one number per row (the sum of the mean squares of its gradients), so its state is 1/D of a
table, and a row that no batch touches costs nothing. Both rates follow one schedule: linear warm-up, then a cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from xfast.phoenix.training.config import TrainConfig

__all__ = ["dense_optimizer", "relative_rate", "update_rows"]

EPSILON = 1e-10


def relative_rate(config: TrainConfig, total_steps: int) -> optax.Schedule:
    """Learning rate as a share of its peak, by step."""
    warmup = min(config.warmup_steps, max(total_steps // 2, 1))
    return optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, max(total_steps, warmup + 1), config.final_fraction)


def dense_optimizer(config: TrainConfig, total_steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW; only matrices decay, norm scales and the temperature do not."""
    rate = relative_rate(config, total_steps)

    def matrices(params: Mapping[str, Array]) -> dict[str, bool]:
        return {key: value.ndim >= 2 for key, value in params.items()}

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            lambda step: config.dense_learning_rate * rate(step),
            b2=config.adam_b2,
            weight_decay=config.weight_decay,
            mask=matrices,
        ),
    )


def update_rows(rows: Array, squares: Array, gradient: Array, rate: Any) -> tuple[Array, Array]:
    """One row-wise Adagrad step on gathered rows [n, D] with sums of squares [n].

    A row without gradient stays as it is, bit for bit.
    """
    squares = squares + jnp.mean(jnp.square(gradient), axis=-1)
    scale = rate * jax.lax.rsqrt(squares + EPSILON**2)
    return rows - jnp.where(squares > 0, scale, 0)[:, None] * gradient, squares

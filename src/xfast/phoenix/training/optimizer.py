"""The optimiser: AdamW on dense parameters, row-wise Adagrad on the rows of the hash tables that a batch touched.

Row-wise Adagrad keeps one number per row (the sum of the mean squares of its gradients), so its state is 1/D of a
table, and a row that no batch touches costs nothing. Both rates follow one schedule: linear warm-up, then a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from xfast.phoenix.training.config import TrainConfig

__all__ = ["DenseOptimizer", "relative_rate", "update_rows"]

EPSILON = 1e-10


def relative_rate(config: TrainConfig, total_steps: int, step: int) -> float:
    """Learning rate at a step as a share of its peak: linear warm-up, then half a cosine to ``final_fraction``."""
    warmup = min(config.warmup_steps, max(total_steps // 2, 1))
    if step < warmup:
        return step / warmup
    done = min((step - warmup) / max(total_steps - warmup, 1), 1.0)
    return config.final_fraction + (1 - config.final_fraction) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class DenseOptimizer:
    """AdamW without its rate, which is an argument of every step: clip by global norm, moments, decay of matrices.

    Norm scales and the temperature do not decay.
    """

    clip_norm: float
    b2: float
    weight_decay: float

    @classmethod
    def of(cls, config: TrainConfig) -> DenseOptimizer:
        """The one that a run asks for."""
        return cls(config.clip_norm, config.adam_b2, config.weight_decay)

    def _transformation(self) -> Any:
        def matrices(params: Mapping[str, Array]) -> dict[str, bool]:
            return {key: value.ndim >= 2 for key, value in params.items()}

        return optax.chain(
            optax.clip_by_global_norm(self.clip_norm),
            optax.scale_by_adam(b2=self.b2),
            optax.add_decayed_weights(self.weight_decay, mask=matrices),
        )

    def init(self, params: Mapping[str, Array]) -> Any:
        """State before the first step."""
        return self._transformation().init(params)

    def update(self, gradients: Any, state: Any, params: Any, rate: Array) -> tuple[Any, Any]:
        """Parameters and state after a step at that learning rate."""
        updates, state = self._transformation().update(gradients, state, params)
        return jax.tree.map(lambda value, change: value - rate * change, params, updates), state


def update_rows(rows: Array, squares: Array, gradient: Array, rate: Any) -> tuple[Array, Array]:
    """One row-wise Adagrad step on gathered rows [n, D] with sums of squares [n].

    A row without gradient stays as it is, bit for bit.
    """
    squares = squares + jnp.mean(jnp.square(gradient), axis=-1)
    scale = rate * jax.lax.rsqrt(squares + EPSILON**2)
    return rows - jnp.where(squares > 0, scale, 0)[:, None] * gradient, squares

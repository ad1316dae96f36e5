"""What the kernels do with the exact sums: scales, and optionally the gated gelu of the feed-forward layer."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from xfast.kernels.scaled_matmul.reference import dequantized


def gelu(x: Array) -> Array:
    """Tanh gelu, through exp of a non-positive number, which every backend lowers and nothing overflows."""
    # x * sigmoid(2 u)
    doubled = 1.5957691216057308 * x * (1.0 + 0.044715 * x * x)
    small = jnp.exp(-jnp.abs(doubled))
    return x * jnp.where(doubled >= 0, 1.0, small) / (1.0 + small)


def finish(sums: Sequence[Array], row_scale: Array, column_scales: Sequence[Array]) -> Array:
    """Dequantised sums of one product; of two, ``gelu(first) * second``."""
    products = [dequantized(one, row_scale, scale) for one, scale in zip(sums, column_scales, strict=True)]
    return products[0] if len(products) == 1 else gelu(products[0]) * products[1]

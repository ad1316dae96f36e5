"""The obvious version, in plain JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax


def dequantized(sums: Array, row_scale: Array, column_scale: Array) -> Array:
    """int32 sums [m, n] times the scales [m, 1] and [1, n]."""
    return sums.astype(jnp.float32) * (row_scale * column_scale)


def gated(gate: Array, linear: Array) -> Array:
    """``gelu(gate) * linear`` with the tanh gelu (PHOENIX §3.5)."""
    return jax.nn.gelu(gate, approximate=True) * linear


def scaled_matmul(x: Array, w: Array, row_scale: Array, column_scale: Array, gate: bool) -> Array:
    """See :func:`xfast.kernels.scaled_matmul.api.scaled_matmul`."""
    sums = lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32)
    product = dequantized(sums, row_scale, column_scale)
    if not gate:
        return product
    half = w.shape[1] // 2
    return gated(product[:, :half], product[:, half:])

"""The step that both streaming kernels share: one block of context keys folded into a running softmax."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from xfast.kernels.isolation_attention.reference import MASKED


def capped(dots: Array, multiplier: float, soft_cap: float) -> Array:
    """Attention logits from dot products (PHOENIX §3.3); tanh through exp, which every backend lowers."""
    doubled = jnp.exp(-2.0 * jnp.abs(dots) * (multiplier / soft_cap))
    return jnp.where(dots < 0, -soft_cap, soft_cap) * (1.0 - doubled) / (1.0 + doubled)


def start(
    query: Array, own_key: Array, own_value: Array, own_seen: Array, multiplier: float, soft_cap: float
) -> tuple[Array, Array, Array]:
    """Running maximum [c, 1], weight sum [c, 1] and weighted values [c, d] after a candidate's own key.

    ``own_seen`` [c, 1] is 1.0 where a candidate sees itself, else 0.0.
    """
    dot = jnp.sum(query.astype(jnp.float32) * own_key.astype(jnp.float32), axis=1, keepdims=True)
    top = jnp.where(own_seen > 0, capped(dot, multiplier, soft_cap), MASKED)
    return top, own_seen, own_value.astype(jnp.float32) * own_seen


def step(
    query: Array,
    keys: Array,
    values: Array,
    seen: Array,
    state: tuple[Array, Array, Array],
    multiplier: float,
    soft_cap: float,
) -> tuple[Array, Array, Array]:
    """Fold keys and values [n, d] in; ``seen`` [1, n] is 1.0 for valid context tokens, else 0.0."""
    top, total, mixed = state
    # By default accelerators multiply float32 with 8 to 10 bits.
    precision = lax.Precision.HIGHEST if query.dtype == jnp.float32 else None
    dots = lax.dot_general(
        query, keys, (((1,), (1,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )
    logits = jnp.where(seen > 0, capped(dots, multiplier, soft_cap), MASKED)
    higher = jnp.maximum(top, jnp.max(logits, axis=1, keepdims=True))
    shrink = jnp.exp(top - higher)
    # A row that has seen nothing yet has maximum MASKED, and exp(MASKED - MASKED) is 1: so the mask decides.
    weights = jnp.exp(logits - higher) * seen
    summed = lax.dot_general(
        weights.astype(values.dtype), values, (((1,), (0,)), ((), ())), precision=precision,
        preferred_element_type=jnp.float32,
    )  # fmt: skip
    return higher, total * shrink + jnp.sum(weights, axis=1, keepdims=True), mixed * shrink + summed


def finish(state: tuple[Array, Array, Array]) -> Array:
    """Weighted mean; zero for a row that saw nothing."""
    _, total, mixed = state
    return mixed / jnp.where(total > 0, total, 1.0)

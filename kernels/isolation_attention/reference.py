"""The obvious version, in plain JAX and float32: what the kernels are checked against."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

MASKED = -1e30


def isolation_attention(
    query: Array,
    keys: Array,
    values: Array,
    own_key: Array,
    own_value: Array,
    context_mask: Array,
    own_mask: Array,
    *,
    multiplier: float,
    soft_cap: float,
) -> Array:
    """See :func:`xfast.kernels.isolation_attention.api.isolation_attention`."""
    batch, count, heads, size = query.shape
    grouped = query.reshape(batch, count, keys.shape[2], -1, size).astype(jnp.float32)
    wide = [x.astype(jnp.float32) for x in (keys, values, own_key, own_value)]
    context = jnp.einsum("bckgd,bnkd->bckgn", grouped, wide[0], precision="highest")
    own = jnp.einsum("bckgd,bckd->bckg", grouped, wide[2], precision="highest")
    logits = soft_cap * jnp.tanh(jnp.concatenate([context, own[..., None]], axis=-1) * (multiplier / soft_cap))
    mask = jnp.concatenate(
        [jnp.broadcast_to(context_mask[:, None], (batch, count, keys.shape[1])), own_mask[..., None]], axis=-1
    )[:, :, None, None]
    weights = jnp.where(mask, jax.nn.softmax(jnp.where(mask, logits, MASKED), axis=-1), 0.0)
    mixed = jnp.einsum("bckgn,bnkd->bckgd", weights[..., :-1], wide[1], precision="highest")
    mixed = mixed + weights[..., -1:] * wide[3][:, :, :, None]
    return mixed.astype(query.dtype).reshape(batch, count, heads, size)

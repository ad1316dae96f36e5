"""Validates, pads to the kernels' blocks, and chooses an implementation."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from xfast.errors import ParameterError
from xfast.kernels import platforms
from xfast.kernels.isolation_attention import pallas_mosaic_gpu, pallas_tpu, pallas_triton, reference
from xfast.kernels.platforms import Implementation, Platform

__all__ = ["isolation_attention"]

SOFT_CAP = 30.0  # PHOENIX §3.3


def _pad(x: Array, axis: int, size: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, widths)


def _round_up(size: int, block: int) -> int:
    return -(-max(size, 1) // block) * block


def obstacle(implementation: Implementation, size: int, dtype: DTypeLike) -> str | None:
    """Why an implementation cannot take heads of ``size`` in ``dtype``, or None."""
    if implementation == "xla":
        return None
    module: Any = {"mosaic_tpu": pallas_tpu, "mosaic_gpu": pallas_mosaic_gpu, "triton": pallas_triton}[implementation]
    reason: str | None = module.obstacle(size, dtype)
    return reason


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
    soft_cap: float = SOFT_CAP,
    implementation: Implementation | None = None,
    platform: Platform | None = None,
    interpret: Any = False,
) -> Array:
    """Attend from every candidate to the valid context tokens and to itself (PHOENIX §3.3, §3.7).

    Parameters
    ----------
    query : [B, C, H, d]
        RoPE applied; query head ``k * (H / K) + g`` reads key head ``k``.
    keys, values : [B, N, K, d]
        Of the context.
    own_key, own_value : [B, C, K, d]
        Of the candidates.
    context_mask : bool [B, N]
        Which context tokens are valid; holes are legal.
    own_mask : bool [B, C]
        Which candidates see themselves (the valid ones).
    multiplier, soft_cap
        ``logits = soft_cap * tanh(q.k * multiplier / soft_cap)``.
    implementation : {"xla", "mosaic_tpu", "mosaic_gpu", "triton"}, optional
        None picks the best that runs on the platform.
    platform : {"cpu", "tpu", "gpu", "hopper"}, optional
        What to compile for; None for JAX's default device.
    interpret
        Run a kernel in Pallas's interpreter: True, or the parameters of a platform's simulator.

    Returns
    -------
    [B, C, H, d] in the query's dtype; zero for a candidate that sees nothing.

    Raises
    ------
    ParameterError
        Shapes or dtypes that do not fit together, or an unknown implementation or platform.
    NotImplementedError
        A named implementation that cannot run, with the reason.
    """
    batch, count, heads, size = query.shape
    context, kv_heads = keys.shape[1:3]
    expected = {
        "keys": (keys, (batch, context, kv_heads, size)),
        "values": (values, (batch, context, kv_heads, size)),
        "own_key": (own_key, (batch, count, kv_heads, size)),
        "own_value": (own_value, (batch, count, kv_heads, size)),
        "context_mask": (context_mask, (batch, context)),
        "own_mask": (own_mask, (batch, count)),
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ParameterError(f"{name} has shape {array.shape}, must be {shape}")
    for name in ("keys", "values", "own_key", "own_value"):
        if expected[name][0].dtype != query.dtype:
            raise ParameterError(f"{name} has dtype {expected[name][0].dtype}, must be the query's, {query.dtype}")
    if not (math.isfinite(soft_cap) and soft_cap > 0):
        raise ParameterError(f"soft_cap is {soft_cap!r}, must be a positive number")
    if heads % kv_heads:
        raise ParameterError(f"query has {heads} heads, must be a multiple of the {kv_heads} key heads")
    chosen = platforms.choose(implementation, platform, interpret, lambda one: obstacle(one, size, query.dtype))
    if chosen == "xla":
        return reference.isolation_attention(
            query, keys, values, own_key, own_value, context_mask, own_mask, multiplier=multiplier, soft_cap=soft_cap
        )
    blocks: dict[str, Any] = {}
    if chosen == "mosaic_tpu":
        module: Any = pallas_tpu
        # Sublanes come in eights (sixteens for 16-bit types), lanes of the mask in 128s.
        padded_count = _round_up(count, module.BLOCK_CANDIDATES if count > module.BLOCK_CANDIDATES else 16)
        padded_context, padded_size = _round_up(context, module.BLOCK_CONTEXT), size
    elif chosen == "mosaic_gpu":
        module, padded_size = pallas_mosaic_gpu, pallas_mosaic_gpu.padded_size(size)
        padded_count = _round_up(count, module.BLOCK_CANDIDATES)
        padded_context = _round_up(context, module.BLOCK_CONTEXT)
    else:
        module, padded_size = pallas_triton, pallas_triton.padded_size(size)
        block_candidates, block_context = pallas_triton.blocks(count, context, size, query.dtype)
        padded_count, padded_context = _round_up(count, block_candidates), _round_up(context, block_context)
        blocks = {"block_candidates": block_candidates, "block_context": block_context}

    def arrange(x: Array, length: int) -> Array:
        return _pad(_pad(x, 1, length), 3, padded_size).transpose(0, 2, 1, 3)

    mixed = module.isolation_attention(
        arrange(query, padded_count),
        arrange(keys, padded_context),
        arrange(values, padded_context),
        arrange(own_key, padded_count),
        arrange(own_value, padded_count),
        _pad(context_mask, 1, padded_context).astype(jnp.float32)[:, None],
        _pad(own_mask, 1, padded_count).astype(jnp.float32)[..., None],
        multiplier=multiplier,
        soft_cap=soft_cap,
        interpret=interpret,
        **blocks,
    )
    return mixed.transpose(0, 2, 1, 3)[:, :count, :, :size]

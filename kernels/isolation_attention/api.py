"""Validates, pads to the kernels' blocks, and chooses an implementation."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from xfast.errors import ParameterError
from xfast.kernels.isolation_attention import pallas_tpu, pallas_triton, reference

__all__ = ["Implementation", "isolation_attention"]

Implementation = Literal["xla", "mosaic_tpu", "triton"]
SOFT_CAP = 30.0  # PHOENIX §3.3


def _pad(x: Array, axis: int, size: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, widths)


def _round_up(size: int, block: int) -> int:
    return -(-size // block) * block


def _power_of_two(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


def _choose() -> Implementation:
    return {"tpu": "mosaic_tpu", "gpu": "triton"}.get(jax.default_backend(), "xla")  # type: ignore[return-value]


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
    implementation : {"xla", "mosaic_tpu", "triton"}, optional
        None picks the best for the default backend.
    interpret
        Run a kernel in Pallas's interpreter: True, or ``pltpu.InterpretParams(...)`` for ``mosaic_tpu``.

    Returns
    -------
    [B, C, H, d] in the query's dtype; zero for a candidate that sees nothing.

    Raises
    ------
    ParameterError
        Shapes that do not fit together, or an unknown implementation.
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
    if heads % kv_heads:
        raise ParameterError(f"query has {heads} heads, must be a multiple of the {kv_heads} key heads")
    chosen = implementation or _choose()
    if chosen == "xla":
        return reference.isolation_attention(
            query, keys, values, own_key, own_value, context_mask, own_mask, multiplier=multiplier, soft_cap=soft_cap
        )
    if chosen == "mosaic_tpu":
        module: Any = pallas_tpu
        # Sublanes come in eights (sixteens for 16-bit types), lanes of the mask in 128s.
        padded_count = _round_up(count, module.BLOCK_CANDIDATES if count > module.BLOCK_CANDIDATES else 16)
        padded_context, padded_size = _round_up(context, module.BLOCK_CONTEXT), size
    elif chosen == "triton":
        module = pallas_triton
        padded_count = _round_up(count, module.BLOCK_CANDIDATES) if count > 16 else 16
        padded_context = _round_up(context, module.BLOCK_CONTEXT) if context > 16 else 16
        padded_count = _round_up(padded_count, min(module.BLOCK_CANDIDATES, _power_of_two(padded_count, 16)))
        padded_size = _power_of_two(size, 16)
    else:
        raise ParameterError(f"implementation is {chosen!r}, must be xla, mosaic_tpu or triton")

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
    )
    return mixed.transpose(0, 2, 1, 3)[:, :count, :, :size]

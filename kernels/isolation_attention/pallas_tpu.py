"""TPU (Mosaic): the context streams through VMEM as the last grid dimension, so any history fits."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.typing import DTypeLike

from xfast.kernels.isolation_attention import online

BLOCK_CANDIDATES = 128
BLOCK_CONTEXT = 128
VMEM_BYTES = 14 << 20  # of the 16 MiB that a kernel gets by default; lowering does not check it


def obstacle(size: int, dtype: DTypeLike) -> str | None:
    """Why heads of ``size`` in ``dtype`` cannot run, or None."""
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        return f"operands are {jnp.dtype(dtype)}, must be float32 or bfloat16"
    # Query, own key and value, result, keys and values, each twice (one arrives while the other is used); three sums.
    lanes = -(-size // 128) * 128
    rows = 4 * BLOCK_CANDIDATES + 2 * BLOCK_CONTEXT
    needed = 2 * rows * lanes * jnp.dtype(dtype).itemsize + BLOCK_CANDIDATES * (lanes + 256) * 4
    if needed > VMEM_BYTES:
        return f"heads of {size} in {jnp.dtype(dtype)} need {needed:,} bytes of VMEM, at most {VMEM_BYTES:,}"
    return None


def _kernel(
    query: Any, keys: Any, values: Any, own_key: Any, own_value: Any, seen: Any, own_seen: Any, out: Any,
    top: Any, total: Any, mixed: Any, *, multiplier: float, soft_cap: float,
) -> None:  # fmt: skip
    block = pl.program_id(3)

    @pl.when(block == 0)
    def _() -> None:
        top[...], total[...], mixed[...] = online.start(
            query[...], own_key[...], own_value[...], own_seen[...], multiplier, soft_cap
        )

    state = (top[...], total[...], mixed[...])
    top[...], total[...], mixed[...] = online.step(
        query[...], keys[...], values[...], seen[...], state, multiplier, soft_cap
    )

    @pl.when(block == pl.num_programs(3) - 1)
    def _() -> None:
        out[...] = online.finish((top[...], total[...], mixed[...])).astype(out.dtype)


def isolation_attention(
    query: Array, keys: Array, values: Array, own_key: Array, own_value: Array, seen: Array, own_seen: Array,
    *, multiplier: float, soft_cap: float, interpret: Any = False,
) -> Array:  # fmt: skip
    """Heads-major operands: query [B, H, C, d], keys and values [B, K, N, d], own ones [B, K, C, d].

    ``seen`` [B, 1, N] and ``own_seen`` [B, C, 1] are 1.0 or 0.0; C and N are multiples of the block sizes. Returns
    [B, H, C, d].
    """
    batch, heads, count, size = query.shape
    group = heads // keys.shape[1]
    bc, bn = min(BLOCK_CANDIDATES, count), min(BLOCK_CONTEXT, keys.shape[2])

    def kv_head(h: Any) -> Any:
        # Truncating division: floor division would ask the backend for a sign, which needs the device to be present.
        return lax.div(h, group)

    candidate = pl.BlockSpec((None, None, bc, size), lambda b, h, i, j: (b, h, i, 0))
    own = pl.BlockSpec((None, None, bc, size), lambda b, h, i, j: (b, kv_head(h), i, 0))
    context = pl.BlockSpec((None, None, bn, size), lambda b, h, i, j: (b, kv_head(h), j, 0))
    call = pl.pallas_call(
        functools.partial(_kernel, multiplier=multiplier, soft_cap=soft_cap),
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
        grid=(batch, heads, count // bc, keys.shape[2] // bn),
        in_specs=[
            candidate,
            context,
            context,
            own,
            own,
            pl.BlockSpec((None, 1, bn), lambda b, h, i, j: (b, 0, j)),
            pl.BlockSpec((None, bc, 1), lambda b, h, i, j: (b, i, 0)),
        ],
        out_specs=candidate,
        scratch_shapes=[
            pltpu.VMEM((bc, 1), jnp.float32),
            pltpu.VMEM((bc, 1), jnp.float32),
            pltpu.VMEM((bc, size), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="isolation_attention",
    )
    return call(query, keys, values, own_key, own_value, seen, own_seen)

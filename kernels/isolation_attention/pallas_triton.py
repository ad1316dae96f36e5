"""GPU through Triton: one program per block of candidates, a loop over blocks of context. Sizes are powers of two."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton
from jax.typing import DTypeLike

from xfast.kernels.isolation_attention import online

LARGEST_BLOCK = 64
SMALLEST_BLOCK = 16  # of a tensor-core product
STAGES = 2
# What a block may use on every GPU that Triton supports (99 KiB on compute capability 8.6 and 8.9).
SHARED_BYTES = 99 * 1024


def _power_of_two(size: int) -> int:
    return max(SMALLEST_BLOCK, 1 << (size - 1).bit_length())


def padded_size(size: int) -> int:
    """The head size as a power of two."""
    return _power_of_two(size)


def _shared_bytes(block: int, size: int, dtype: DTypeLike) -> int:
    # The query's block, and keys and values of the blocks in flight.
    return (1 + 2 * STAGES) * block * padded_size(size) * jnp.dtype(dtype).itemsize


def obstacle(size: int, dtype: DTypeLike) -> str | None:
    """Why heads of ``size`` in ``dtype`` cannot run, or None."""
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16, jnp.float16):
        return f"operands are {jnp.dtype(dtype)}, must be float32, bfloat16 or float16"
    needed = _shared_bytes(SMALLEST_BLOCK, size, dtype)
    if needed > SHARED_BYTES:
        return f"heads of {size} in {jnp.dtype(dtype)} need {needed:,} bytes of shared memory, at most {SHARED_BYTES:,}"
    return None


def blocks(count: int, context: int, size: int, dtype: DTypeLike) -> tuple[int, int]:
    """Candidates and context tokens per block: the largest that shared memory holds, no larger than needed."""
    most = LARGEST_BLOCK
    while most > SMALLEST_BLOCK and _shared_bytes(most, size, dtype) > SHARED_BYTES:
        most //= 2
    return min(most, _power_of_two(count)), min(most, _power_of_two(context))


def _kernel(
    query: Any, keys: Any, values: Any, own_key: Any, own_value: Any, seen: Any, own_seen: Any, out: Any,
    *, block: int, multiplier: float, soft_cap: float,
) -> None:  # fmt: skip
    rows = query[...]

    def body(j: Any, state: Any) -> Any:
        part = pl.ds(j * block, block)
        return online.step(rows, keys[part, :], values[part, :], seen[:, part], state, multiplier, soft_cap)

    state = online.start(rows, own_key[...], own_value[...], own_seen[...], multiplier, soft_cap)
    state = lax.fori_loop(0, keys.shape[0] // block, body, state)
    out[...] = online.finish(state).astype(out.dtype)


def isolation_attention(
    query: Array, keys: Array, values: Array, own_key: Array, own_value: Array, seen: Array, own_seen: Array,
    *, block_candidates: int, block_context: int, multiplier: float, soft_cap: float, interpret: Any = False,
) -> Array:  # fmt: skip
    """Operands as for :mod:`~xfast.kernels.isolation_attention.pallas_tpu`, multiples of the given blocks."""
    batch, heads, count, size = query.shape
    group, context = heads // keys.shape[1], keys.shape[2]
    bc = block_candidates

    def kv_head(h: Any) -> Any:
        # Truncating division: floor division would ask the backend for a sign, which needs the device to be present.
        return lax.div(h, group)

    candidate = pl.BlockSpec((None, None, bc, size), lambda b, h, i: (b, h, i, 0))
    own = pl.BlockSpec((None, None, bc, size), lambda b, h, i: (b, kv_head(h), i, 0))
    whole = pl.BlockSpec((None, None, context, size), lambda b, h, i: (b, kv_head(h), 0, 0))
    call = pl.pallas_call(
        functools.partial(_kernel, block=block_context, multiplier=multiplier, soft_cap=soft_cap),
        out_shape=jax.ShapeDtypeStruct(query.shape, query.dtype),
        grid=(batch, heads, count // bc),
        in_specs=[
            candidate,
            whole,
            whole,
            own,
            own,
            pl.BlockSpec((None, 1, context), lambda b, h, i: (b, 0, 0)),
            pl.BlockSpec((None, bc, 1), lambda b, h, i: (b, i, 0)),
        ],
        out_specs=candidate,
        compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=STAGES),
        interpret=interpret,
        name="isolation_attention",
    )
    return call(query, keys, values, own_key, own_value, seen, own_seen)

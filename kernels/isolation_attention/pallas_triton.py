"""GPU through Triton: one program per block of candidates, a loop over blocks of context. Sizes are powers of two."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

from xfast.kernels.isolation_attention import online

BLOCK_CANDIDATES = 64
BLOCK_CONTEXT = 64


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
    *, multiplier: float, soft_cap: float, interpret: Any = False,
) -> Array:  # fmt: skip
    """Operands as for :mod:`~xfast.kernels.isolation_attention.pallas_tpu`."""
    batch, heads, count, size = query.shape
    group, context = heads // keys.shape[1], keys.shape[2]
    bc, bn = min(BLOCK_CANDIDATES, count), min(BLOCK_CONTEXT, context)

    def kv_head(h: Any) -> Any:
        # Truncating division: floor division would ask the backend for a sign, which needs the device to be present.
        return lax.div(h, group)

    candidate = pl.BlockSpec((None, None, bc, size), lambda b, h, i: (b, h, i, 0))
    own = pl.BlockSpec((None, None, bc, size), lambda b, h, i: (b, kv_head(h), i, 0))
    whole = pl.BlockSpec((None, None, context, size), lambda b, h, i: (b, kv_head(h), 0, 0))
    call = pl.pallas_call(
        functools.partial(_kernel, block=bn, multiplier=multiplier, soft_cap=soft_cap),
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
        compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="isolation_attention",
    )
    return call(query, keys, values, own_key, own_value, seen, own_seen)

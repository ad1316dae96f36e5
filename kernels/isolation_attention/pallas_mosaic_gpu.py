"""Hopper GPUs (Mosaic): warpgroup matrix products, the context streaming through a ring in shared memory.

One warpgroup per block of 64 candidates. TMA copies of the next blocks of keys and values run while this one is
multiplied; nothing of the context stays, so any history fits. Weights go through shared memory instead of staying in
registers: the interpreter that checks this kernel on a machine without the device multiplies shared memory only.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike

from xfast.kernels import hopper
from xfast.kernels.isolation_attention import online

BLOCK_CANDIDATES = 64  # rows of one warpgroup product
BLOCK_CONTEXT = 64
MOST_STAGES = 4
WIDEST_PRODUCT = 256  # columns; with these, one stage needs 168 KiB of shared memory


def shared_bytes(size: int, stages: int) -> int:
    """Shared memory of one block, all of it 16 bits wide: query, own key and value, the ring, the weights."""
    rows = 3 * BLOCK_CANDIDATES + 2 * stages * BLOCK_CONTEXT
    return 2 * (rows * size + BLOCK_CANDIDATES * BLOCK_CONTEXT)


def stages_that_fit(size: int, blocks: int) -> int:
    """Blocks of context in flight: as many as shared memory holds, at most ``MOST_STAGES``; 0 if not even one fits."""
    most = min(MOST_STAGES, blocks)
    return next((n for n in range(most, 0, -1) if shared_bytes(size, n) <= hopper.SHARED_BYTES), 0)


def obstacle(size: int, dtype: DTypeLike) -> str | None:
    """Why heads of ``size`` in ``dtype`` cannot run, or None."""
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return f"operands are {jnp.dtype(dtype)}, must be bfloat16 or float16 (products of float32 would lose 13 bits)"
    size = padded_size(size)
    if size > WIDEST_PRODUCT:
        return f"heads of {size} are wider than a warpgroup product, at most {WIDEST_PRODUCT}"
    return None


def padded_size(size: int) -> int:
    """The head size that fits a swizzle of 32, 64 or 128 bytes."""
    return next((width for width in (16, 32) if size <= width), -(-size // 64) * 64)


def _kernel(
    query: Any, keys: Any, values: Any, own_key: Any, own_value: Any, seen: Any, own_seen: Any, out: Any,
    query_s: Any, own_key_s: Any, own_value_s: Any, keys_s: Any, values_s: Any, weights_s: Any,
    own_loaded: Any, keys_loaded: Any, values_loaded: Any,
    *, group: int, stages: int, multiplier: float, soft_cap: float, interpret: bool,
) -> None:  # fmt: skip
    b, h, i = (lax.axis_index(name) for name in ("b", "h", "i"))
    kv = lax.div(h, group)
    rows = pl.ds(i * BLOCK_CANDIDATES, BLOCK_CANDIDATES)
    blocks = values.shape[2] // BLOCK_CONTEXT
    by_row, by_column = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)

    def fetch(j: Any, slot: Any) -> None:
        part = pl.ds(j * BLOCK_CONTEXT, BLOCK_CONTEXT)
        plgpu.copy_gmem_to_smem(keys.at[b, kv, :, part], keys_s.at[slot], keys_loaded.at[slot])
        plgpu.copy_gmem_to_smem(values.at[b, kv, part], values_s.at[slot], values_loaded.at[slot])

    plgpu.copy_gmem_to_smem(query.at[b, h, rows], query_s, own_loaded)
    plgpu.copy_gmem_to_smem(own_key.at[b, kv, rows], own_key_s, own_loaded)
    plgpu.copy_gmem_to_smem(own_value.at[b, kv, rows], own_value_s, own_loaded)
    for j in range(stages):
        fetch(j, j)
    plgpu.barrier_wait(own_loaded)

    # A candidate's own key starts the running softmax (online.start, for vectors that live in a layout).
    visible = hopper.vector(own_seen, (b, rows), by_row, interpret=interpret)
    dot = jnp.sum(query_s[...].astype(jnp.float32) * own_key_s[...].astype(jnp.float32), axis=1)
    top = jnp.where(visible > 0, online.capped(dot, multiplier, soft_cap), online.MASKED)
    mixed = own_value_s[...].astype(jnp.float32)
    mixed = mixed * lax.broadcast_in_dim(visible, mixed.shape, [0])

    def fold(j: Any, state: Any) -> Any:
        top, total, mixed = state
        slot = lax.rem(j, stages)
        plgpu.barrier_wait(keys_loaded.at[slot])

        def products(sums: Any) -> Any:
            plgpu.wgmma(sums, query_s, keys_s.at[slot])
            return sums[...]

        dots = pl.run_scoped(products, plgpu.ACC((BLOCK_CANDIDATES, BLOCK_CONTEXT), jnp.float32))
        part = hopper.vector(seen, (b, pl.ds(j * BLOCK_CONTEXT, BLOCK_CONTEXT)), by_column, interpret=interpret)
        mask = lax.broadcast_in_dim(part, dots.shape, [1])
        logits = jnp.where(mask > 0, online.capped(dots, multiplier, soft_cap), online.MASKED)
        higher = jnp.maximum(top, jnp.max(logits, axis=1))
        shrink = jnp.exp(top - higher)
        # As in online.step: the mask decides, because exp(MASKED - MASKED) is 1.
        weights = jnp.exp(logits - lax.broadcast_in_dim(higher, logits.shape, [0])) * mask
        weights_s[...] = weights.astype(weights_s.dtype)
        plgpu.commit_smem()
        plgpu.barrier_wait(values_loaded.at[slot])

        def summed(sums: Any) -> Any:
            plgpu.wgmma(sums, weights_s, values_s.at[slot])
            return sums[...]

        mixture = pl.run_scoped(summed, plgpu.ACC(mixed.shape, jnp.float32))

        @pl.when(j + stages < blocks)
        def _() -> None:
            fetch(j + stages, slot)

        shrunk = mixed * lax.broadcast_in_dim(shrink, mixed.shape, [0])
        return higher, total * shrink + jnp.sum(weights, axis=1), shrunk + mixture

    _, total, mixed = lax.fori_loop(0, blocks, fold, (top, visible, mixed))
    total = jnp.where(total > 0, total, 1.0)
    query_s[...] = (mixed / lax.broadcast_in_dim(total, mixed.shape, [0])).astype(query_s.dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(query_s, out.at[b, h, rows])
    plgpu.wait_smem_to_gmem(0)


def isolation_attention(
    query: Array, keys: Array, values: Array, own_key: Array, own_value: Array, seen: Array, own_seen: Array,
    *, multiplier: float, soft_cap: float, interpret: Any = False,
) -> Array:  # fmt: skip
    """Operands as for :mod:`~xfast.kernels.isolation_attention.pallas_tpu`, in bfloat16 or float16."""
    batch, heads, count, size = query.shape
    blocks = keys.shape[2] // BLOCK_CONTEXT
    stages = stages_that_fit(size, blocks)
    transforms = hopper.tiled(size, query.dtype)

    def shared(*shape: int) -> Any:
        return plgpu.SMEM(shape, query.dtype, transforms=transforms)

    call = plgpu.kernel(
        functools.partial(
            _kernel, group=heads // keys.shape[1], stages=stages, multiplier=multiplier, soft_cap=soft_cap,
            interpret=bool(interpret),
        ),
        out_type=jax.ShapeDtypeStruct(query.shape, query.dtype),
        grid=(batch, heads, count // BLOCK_CANDIDATES),
        grid_names=("b", "h", "i"),
        scratch_types=[
            shared(BLOCK_CANDIDATES, size),
            shared(BLOCK_CANDIDATES, size),
            shared(BLOCK_CANDIDATES, size),
            shared(stages, size, BLOCK_CONTEXT),
            shared(stages, BLOCK_CONTEXT, size),
            shared(BLOCK_CANDIDATES, BLOCK_CONTEXT),  # both operands of a product need the same swizzle
            plgpu.Barrier(num_arrivals=3),
            plgpu.Barrier(num_barriers=stages),
            plgpu.Barrier(num_barriers=stages),
        ],
        interpret=hopper.interpreter(interpret),
        kernel_name="isolation_attention",
    )  # fmt: skip
    # Keys go in transposed: that is how the first product reads them, and the interpreter transposes nothing.
    return call(query, keys.swapaxes(2, 3), values, own_key, own_value, seen[:, 0], own_seen[..., 0])

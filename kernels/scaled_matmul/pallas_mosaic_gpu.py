"""GPU of the Hopper generation (Mosaic): s8 x s8 -> s32 warpgroup products, tiles streaming through shared memory.

One warpgroup per tile of 64 rows. TMA copies of the next tiles run while this one is multiplied.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from xfast.kernels import hopper
from xfast.kernels.scaled_matmul import epilogue
from xfast.kernels.scaled_matmul.tiles import Tiles

MOST_STAGES = 4


def tiles(rows: int, inner: int, columns: int, gate: bool) -> Tiles:
    """64 rows are one warpgroup product; with a gate two sums of half the width take the same registers."""
    return Tiles(64, 128, 64 if gate else 128)


def _kernel(
    x: Any, w: Any, row_scale: Any, column_scale: Any, out: Any, x_s: Any, w_s: Any, out_s: Any, loaded: Any,
    *, tiles: Tiles, halves: int, interpret: bool,
) -> None:  # fmt: skip
    i, j = lax.axis_index("i"), lax.axis_index("j")
    rows = pl.ds(i * tiles.rows, tiles.rows)
    steps, stages = x.shape[1] // tiles.inner, x_s.shape[0]
    columns = [pl.ds(half * out.shape[1] + j * tiles.columns, tiles.columns) for half in range(halves)]

    def fetch(k: Any, slot: Any) -> None:
        inner = pl.ds(k * tiles.inner, tiles.inner)
        plgpu.copy_gmem_to_smem(x.at[rows, inner], x_s.at[slot], loaded.at[slot])
        for half, part in enumerate(columns):
            source = w.at[inner, part] if interpret else w.at[part, inner]
            plgpu.copy_gmem_to_smem(source, w_s.at[slot * halves + half], loaded.at[slot])

    for k in range(stages):
        fetch(k, k)

    def multiply(*sums: Any) -> list[Array]:
        def step(k: Any, _: None) -> None:
            slot = lax.rem(k, stages)
            plgpu.barrier_wait(loaded.at[slot])
            for half, total in enumerate(sums):
                operand = w_s.at[slot * halves + half]
                plgpu.wgmma(total, x_s.at[slot], operand if interpret else plgpu.transpose_ref(operand, (1, 0)))
            plgpu.wgmma_wait(0)

            @pl.when(k + stages < steps)
            def _() -> None:
                fetch(k + stages, slot)

        lax.fori_loop(0, steps, step, None)
        return [total[...] for total in sums]

    sums = pl.run_scoped(multiply, *[plgpu.ACC((tiles.rows, tiles.columns), jnp.int32)] * halves)
    shape = sums[0].shape
    by_row, by_column = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)
    row = lax.broadcast_in_dim(hopper.vector(row_scale, (rows,), by_row, interpret=interpret), shape, [0])
    scales = [
        lax.broadcast_in_dim(hopper.vector(column_scale, (part,), by_column, interpret=interpret), shape, [1])
        for part in columns
    ]
    out_s[...] = epilogue.finish(sums, row, scales)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(out_s, out.at[rows, columns[0]])
    plgpu.wait_smem_to_gmem(0)


def scaled_matmul(
    x: Array, w: Array, row_scale: Array, column_scale: Array, gate: bool, *, tiles: Tiles, interpret: Any = False
) -> Array:
    """Operands as for :mod:`~xfast.kernels.scaled_matmul.pallas_triton`, but w is [N, K], as int8 products read it."""
    (rows, inner), halves = x.shape, 2 if gate else 1
    columns = w.shape[0] // halves
    stages = min(MOST_STAGES, inner // tiles.inner)
    w_tile = (tiles.inner, tiles.columns) if interpret else (tiles.columns, tiles.inner)
    call = plgpu.kernel(
        functools.partial(_kernel, tiles=tiles, halves=halves, interpret=bool(interpret)),
        out_type=jax.ShapeDtypeStruct((rows, columns), jnp.float32),
        grid=(rows // tiles.rows, columns // tiles.columns),
        grid_names=("i", "j"),
        scratch_types=[
            plgpu.SMEM((stages, tiles.rows, tiles.inner), jnp.int8, transforms=hopper.tiled(tiles.inner, jnp.int8)),
            plgpu.SMEM((stages * halves, *w_tile), jnp.int8, transforms=hopper.tiled(w_tile[1], jnp.int8)),
            plgpu.SMEM((tiles.rows, tiles.columns), jnp.float32),
            plgpu.Barrier(num_arrivals=1 + halves, num_barriers=stages),
        ],
        interpret=hopper.interpreter(interpret),
        kernel_name="scaled_matmul",
    )
    # The interpreter transposes no operand of a product, so it gets the weights the other way round.
    return call(x, w.T if interpret else w, row_scale[:, 0], column_scale[0])

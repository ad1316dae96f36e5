"""TPU (Mosaic): the inner dimension streams through VMEM as the last grid dimension, exact int32 sums stay there."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from xfast.kernels.scaled_matmul import epilogue
from xfast.kernels.scaled_matmul.tiles import Tiles


def tiles(rows: int, inner: int, columns: int, gate: bool) -> Tiles:
    """Tiles for these sizes: int8 registers are 32 x 128."""
    return Tiles(min(128, -(-rows // 32) * 32), 512 if inner > 256 else 128, 128)


def _kernel(x: Any, row_scale: Any, *rest: Any, halves: int) -> None:
    *pairs, out = rest[: 2 * halves + 1]
    sums = rest[2 * halves + 1 :]
    step = pl.program_id(2)

    @pl.when(step == 0)
    def _() -> None:
        for total in sums:
            total[...] = jnp.zeros(total.shape, jnp.int32)

    for total, w in zip(sums, pairs[::2], strict=True):
        total[...] += lax.dot_general(x[...], w[...], (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32)

    @pl.when(step == pl.num_programs(2) - 1)
    def _() -> None:
        scales = [scale[...] for scale in pairs[1::2]]
        out[...] = epilogue.finish([total[...] for total in sums], row_scale[...], scales)


def scaled_matmul(
    x: Array, w: Array, row_scale: Array, column_scale: Array, gate: bool, *, tiles: Tiles, interpret: Any = False
) -> Array:
    """Operands as for :mod:`~xfast.kernels.scaled_matmul.pallas_triton`."""
    rows, inner = x.shape
    halves = 2 if gate else 1
    columns = w.shape[1] // halves
    specs = [
        pl.BlockSpec((tiles.rows, tiles.inner), lambda i, j, k: (i, k)),
        pl.BlockSpec((tiles.rows, 1), lambda i, j, k: (i, 0)),
    ]
    for half in range(halves):
        shift = half * (columns // tiles.columns)
        specs += [
            pl.BlockSpec((tiles.inner, tiles.columns), lambda i, j, k, shift=shift: (k, j + shift)),
            pl.BlockSpec((1, tiles.columns), lambda i, j, k, shift=shift: (0, j + shift)),
        ]
    call = pl.pallas_call(
        functools.partial(_kernel, halves=halves),
        out_shape=jax.ShapeDtypeStruct((rows, columns), jnp.float32),
        grid=(rows // tiles.rows, columns // tiles.columns, inner // tiles.inner),
        in_specs=specs,
        out_specs=pl.BlockSpec((tiles.rows, tiles.columns), lambda i, j, k: (i, j)),
        scratch_shapes=[pltpu.VMEM((tiles.rows, tiles.columns), jnp.int32)] * halves,
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="scaled_matmul",
    )
    return call(x, row_scale, *[w, column_scale] * halves)

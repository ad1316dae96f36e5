"""GPU through Triton: one program per tile of the result, a loop over the inner dimension with exact int32 sums."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as pltriton

from xfast.kernels.scaled_matmul import epilogue
from xfast.kernels.scaled_matmul.tiles import Tiles


def tiles(rows: int, inner: int, columns: int, gate: bool) -> Tiles:
    """Tiles for these sizes: powers of two, at least what an int8 tensor-core product takes."""
    return Tiles(64 if rows > 32 else 32, 64, 64)


def _sums(x: Any, w: Any, block: int) -> Array:
    def body(j: Any, total: Array) -> Array:
        part = pl.ds(j * block, block)
        return total + lax.dot_general(
            x[:, part], w[part, :], (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32
        )

    return lax.fori_loop(0, x.shape[1] // block, body, jnp.zeros((x.shape[0], w.shape[1]), jnp.int32))


def _kernel(x: Any, row_scale: Any, *rest: Any, block: int) -> None:
    *pairs, out = rest
    weights, scales = pairs[::2], pairs[1::2]
    out[...] = epilogue.finish([_sums(x, w, block) for w in weights], row_scale[...], [scale[...] for scale in scales])


def scaled_matmul(
    x: Array, w: Array, row_scale: Array, column_scale: Array, gate: bool, *, tiles: Tiles, interpret: Any = False
) -> Array:
    """x [M, K] and w [K, N] int8, multiples of their tiles (with ``gate``, N / 2 is). f32 [M, N], or [M, N / 2]."""
    rows, inner = x.shape
    halves = 2 if gate else 1
    columns = w.shape[1] // halves
    specs = [
        pl.BlockSpec((tiles.rows, inner), lambda i, j: (i, 0)), pl.BlockSpec((tiles.rows, 1), lambda i, j: (i, 0))
    ]  # fmt: skip
    for half in range(halves):

        def index(i: Any, j: Any, shift: int = half * (columns // tiles.columns)) -> tuple[Any, Any]:
            return 0, j + shift

        specs += [pl.BlockSpec((inner, tiles.columns), index), pl.BlockSpec((1, tiles.columns), index)]
    call = pl.pallas_call(
        functools.partial(_kernel, block=tiles.inner),
        out_shape=jax.ShapeDtypeStruct((rows, columns), jnp.float32),
        grid=(rows // tiles.rows, columns // tiles.columns),
        in_specs=specs,
        out_specs=pl.BlockSpec((tiles.rows, tiles.columns), lambda i, j: (i, j)),
        compiler_params=pltriton.CompilerParams(num_warps=4, num_stages=2),
        interpret=interpret,
        name="scaled_matmul",
    )
    return call(x, row_scale, *[w, column_scale] * halves)

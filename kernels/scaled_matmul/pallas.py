"""The kernel for TPU (Mosaic) and for GPU through Triton: a loop over the inner dimension with exact int32 sums."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from xfast.kernels.scaled_matmul.reference import dequantized


def _gelu(x: Array) -> Array:
    # x * sigmoid(2 u), through exp of a non-positive number, which every backend lowers and nothing overflows.
    doubled = 1.5957691216057308 * x * (1.0 + 0.044715 * x * x)
    small = jnp.exp(-jnp.abs(doubled))
    return x * jnp.where(doubled >= 0, 1.0, small) / (1.0 + small)


def _sums(x: Any, w: Any, block: int) -> Array:
    def body(j: Any, total: Array) -> Array:
        part = pl.ds(j * block, block)
        return total + lax.dot_general(
            x[:, part], w[part, :], (((1,), (0,)), ((), ())), preferred_element_type=jnp.int32
        )

    return lax.fori_loop(0, x.shape[1] // block, body, jnp.zeros((x.shape[0], w.shape[1]), jnp.int32))


def _kernel(x: Any, w: Any, row_scale: Any, column_scale: Any, out: Any, *, block: int) -> None:
    out[...] = dequantized(_sums(x, w, block), row_scale[...], column_scale[...])


def _gated_kernel(x: Any, w: Any, v: Any, row_scale: Any, w_scale: Any, v_scale: Any, out: Any, *, block: int) -> None:
    gate = dequantized(_sums(x, w, block), row_scale[...], w_scale[...])
    linear = dequantized(_sums(x, v, block), row_scale[...], v_scale[...])
    out[...] = _gelu(gate) * linear


def scaled_matmul(
    x: Array, w: Array, row_scale: Array, column_scale: Array, gate: bool,
    *, block_rows: int, block_columns: int, block_inner: int, compiler_params: Any, interpret: Any,
) -> Array:  # fmt: skip
    """x [M, K] and w [K, N] int8, multiples of their blocks (with ``gate``, N / 2 is). f32 [M, N], or [M, N / 2]."""
    rows, inner = x.shape
    columns = w.shape[1] // 2 if gate else w.shape[1]
    shift = columns // block_columns  # where the linear half begins, in blocks
    x_spec = pl.BlockSpec((block_rows, inner), lambda i, j: (i, 0))
    row_spec = pl.BlockSpec((block_rows, 1), lambda i, j: (i, 0))

    def w_spec(offset: int) -> pl.BlockSpec:
        return pl.BlockSpec((inner, block_columns), lambda i, j: (0, j + offset))

    def scale_spec(offset: int) -> pl.BlockSpec:
        return pl.BlockSpec((1, block_columns), lambda i, j: (0, j + offset))

    kernel = functools.partial(_gated_kernel if gate else _kernel, block=block_inner)
    if gate:
        specs = [x_spec, w_spec(0), w_spec(shift), row_spec, scale_spec(0), scale_spec(shift)]
        operands = [x, w, w, row_scale, column_scale, column_scale]
    else:
        specs = [x_spec, w_spec(0), row_spec, scale_spec(0)]
        operands = [x, w, row_scale, column_scale]
    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((rows, columns), jnp.float32),
        grid=(rows // block_rows, columns // block_columns),
        in_specs=specs,
        out_specs=pl.BlockSpec((block_rows, block_columns), lambda i, j: (i, j)),
        compiler_params=compiler_params,
        interpret=interpret,
        name="scaled_matmul",
    )
    return call(*operands)

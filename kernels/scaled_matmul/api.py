"""Validates, pads to the kernels' blocks, and chooses an implementation."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as pltriton

from xfast.errors import ParameterError
from xfast.kernels.scaled_matmul import pallas, reference

__all__ = ["Implementation", "quantize_columns", "quantize_rows", "scaled_matmul"]

Implementation = Literal["xla", "mosaic_tpu", "triton"]


def _quantize(x: Array, axis: int) -> tuple[Array, Array]:
    scale = jnp.max(jnp.abs(x), axis=axis, keepdims=True).astype(jnp.float32) / 127.0
    return jnp.round(x / jnp.where(scale > 0, scale, 1.0)).astype(jnp.int8), scale


def quantize_rows(x: Array) -> tuple[Array, Array]:
    """Activations [M, K] to int8 and one scale per row [M, 1], from the row's largest magnitude."""
    return _quantize(x, 1)


def quantize_columns(w: Array) -> tuple[Array, Array]:
    """Weights [K, N] to int8 and one scale per output column [1, N]."""
    return _quantize(w, 0)


def _round_up(size: int, block: int) -> int:
    return -(-size // block) * block


def scaled_matmul(
    x: Array,
    w: Array,
    row_scale: Array,
    column_scale: Array,
    *,
    gate: bool = False,
    implementation: Implementation | None = None,
    interpret: Any = False,
) -> Array:
    """Return ``(x @ w) * row_scale * column_scale`` with exact int32 sums, float32.

    Parameters
    ----------
    x : int8 [M, K]
    w : int8 [K, N]
    row_scale : f32 [M, 1]
    column_scale : f32 [1, N]
    gate
        The columns are two halves a, b and the result is ``gelu(a) * b`` [M, N / 2] (PHOENIX §3.5).
    implementation : {"xla", "mosaic_tpu", "triton"}, optional
        None picks the best for the default backend.
    interpret
        Run a kernel in Pallas's interpreter.

    Raises
    ------
    ParameterError
        Operands that are not int8, shapes that do not fit together, or an unknown implementation.
    """
    if x.dtype != jnp.int8 or w.dtype != jnp.int8:
        raise ParameterError(f"x and w have dtypes {x.dtype} and {w.dtype}, must be int8")
    (rows, inner), columns = x.shape, w.shape[1]
    if w.shape[0] != inner or row_scale.shape != (rows, 1) or column_scale.shape != (1, columns):
        raise ParameterError(
            f"x, w, row_scale, column_scale have shapes {x.shape}, {w.shape}, {row_scale.shape}, {column_scale.shape}, "
            f"must be (M, K), (K, N), (M, 1), (1, N)"
        )
    if gate and columns % 2:
        raise ParameterError(f"w has {columns} columns, must be even with gate=True")
    chosen = implementation or {"tpu": "mosaic_tpu", "gpu": "triton"}.get(jax.default_backend(), "xla")
    if chosen == "xla":
        return reference.scaled_matmul(x, w, row_scale, column_scale, gate)
    if chosen == "mosaic_tpu":
        # int8 tiles are 32 x 128.
        block_rows, block_columns, block_inner = min(128, _round_up(rows, 32)), 128, 128
        params: Any = pltpu.CompilerParams(dimension_semantics=("parallel", "parallel"))
    elif chosen == "triton":
        block_rows, block_columns, block_inner = 64 if rows > 32 else 32, 64, 64
        params = pltriton.CompilerParams(num_warps=4, num_stages=2)
    else:
        raise ParameterError(f"implementation is {chosen!r}, must be xla, mosaic_tpu or triton")

    def fit(array: Array, height: int, width: int) -> Array:
        return jnp.pad(array, ((0, height - array.shape[0]), (0, width - array.shape[1])))

    tall, deep = _round_up(rows, block_rows), _round_up(inner, block_inner)
    halves = 2 if gate else 1
    wide = _round_up(columns // halves, block_columns)
    split = [slice(i * columns // halves, (i + 1) * columns // halves) for i in range(halves)]
    product = pallas.scaled_matmul(
        fit(x, tall, deep),
        jnp.concatenate([fit(w[:, part], deep, wide) for part in split], axis=1),
        fit(row_scale, tall, 1),
        jnp.concatenate([fit(column_scale[:, part], 1, wide) for part in split], axis=1),
        gate,
        block_rows=block_rows,
        block_columns=block_columns,
        block_inner=block_inner,
        compiler_params=params,
        interpret=interpret,
    )
    return product[:rows, : columns // halves]

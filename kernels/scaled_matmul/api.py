"""Validates, pads to the kernels' blocks, and chooses an implementation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from xfast.errors import ParameterError
from xfast.kernels import platforms
from xfast.kernels.platforms import Implementation, Platform
from xfast.kernels.scaled_matmul import pallas_mosaic_gpu, pallas_tpu, pallas_triton, reference

__all__ = ["quantize_columns", "quantize_rows", "scaled_matmul"]

LONGEST_SUM = 131_071  # 128 * 128 * 131,071 < 2**31: products of int8 that int32 holds, whatever the values


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
    return -(-max(size, 1) // block) * block


def scaled_matmul(
    x: Array,
    w: Array,
    row_scale: Array,
    column_scale: Array,
    *,
    gate: bool = False,
    w_transposed: bool = False,
    implementation: Implementation | None = None,
    platform: Platform | None = None,
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
    w_transposed
        ``w`` is [N, K]: Hopper's products read it so, and weights stored that way are not transposed in every call.
    implementation : {"xla", "mosaic_tpu", "mosaic_gpu", "triton"}, optional
        None picks the best that runs on the platform.
    platform : {"cpu", "tpu", "gpu", "hopper"}, optional
        What to compile for; None for JAX's default device.
    interpret
        Run a kernel in Pallas's interpreter: True, or the parameters of a platform's simulator.

    Raises
    ------
    ParameterError
        Operands that are not int8, shapes that do not fit together, sums that int32 might not hold, or an unknown
        implementation or platform.
    NotImplementedError
        A named implementation that cannot run, with the reason.
    """
    if x.dtype != jnp.int8 or w.dtype != jnp.int8:
        raise ParameterError(f"x and w have dtypes {x.dtype} and {w.dtype}, must be int8")
    (rows, inner), columns = x.shape, w.shape[0 if w_transposed else 1]
    if w.size != inner * columns or row_scale.shape != (rows, 1) or column_scale.shape != (1, columns):
        raise ParameterError(
            f"x, w, row_scale, column_scale have shapes {x.shape}, {w.shape}, {row_scale.shape}, {column_scale.shape}, "
            f"must be (M, K), {'(N, K)' if w_transposed else '(K, N)'}, (M, 1), (1, N)"
        )
    if inner > LONGEST_SUM:
        raise ParameterError(f"x has {inner:,} columns, must be at most {LONGEST_SUM:,} for exact sums in int32")
    if gate and columns % 2:
        raise ParameterError(f"w has {columns} columns, must be even with gate=True")
    chosen = platforms.choose(implementation, platform, interpret, lambda _: None)
    if chosen == "xla":
        return reference.scaled_matmul(x, w.T if w_transposed else w, row_scale, column_scale, gate)
    modules: dict[Implementation, Any] = {
        "mosaic_tpu": pallas_tpu, "mosaic_gpu": pallas_mosaic_gpu, "triton": pallas_triton
    }  # fmt: skip
    halves = 2 if gate else 1
    tiles = modules[chosen].tiles(rows, inner, columns, gate)
    tall, deep = _round_up(rows, tiles.rows), _round_up(inner, tiles.inner)
    width, wide = columns // halves, _round_up(columns // halves, tiles.columns)

    def fit(array: Array, *shape: int) -> Array:
        return jnp.pad(array, [(0, wanted - size) for size, wanted in zip(array.shape, shape, strict=True)])

    def fit_columns(array: Array, axis: int, *shape: int) -> Array:
        parts = jnp.split(array, halves, axis)
        return jnp.concatenate([fit(part, *shape) for part in parts], axis=axis)

    if (chosen == "mosaic_gpu") != w_transposed:
        w = w.T
    weights = fit_columns(w, 0, wide, deep) if chosen == "mosaic_gpu" else fit_columns(w, 1, deep, wide)
    product: Array = modules[chosen].scaled_matmul(
        fit(x, tall, deep), weights, fit(row_scale, tall, 1), fit_columns(column_scale, 1, 1, wide), gate,
        tiles=tiles, interpret=interpret,
    )  # fmt: skip
    return product[:rows, :width]

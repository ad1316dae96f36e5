"""Pallas kernels: interpreted answers equal the reference; they lower for TPU and CUDA on a machine with neither."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental.pallas import tpu as pltpu

from xfast.errors import ParameterError
from xfast.kernels.isolation_attention import isolation_attention
from xfast.kernels.isolation_attention import shapes as attention_shapes
from xfast.kernels.scaled_matmul import quantize_columns, quantize_rows, scaled_matmul
from xfast.kernels.scaled_matmul import shapes as matmul_shapes

KERNELS = ["mosaic_tpu", "triton"]
PLATFORM = {"mosaic_tpu": "tpu", "triton": "cuda"}


def _attention_inputs(shape: attention_shapes.Shape, dtype: Any = np.float32) -> tuple[Any, ...]:
    rng = np.random.default_rng(shape.context)
    b, c, n, h, k, d = shape
    sizes = [(b, c, h, d), (b, n, k, d), (b, n, k, d), (b, c, k, d), (b, c, k, d)]
    arrays = [jnp.asarray(2 * rng.standard_normal(size), dtype) for size in sizes]
    return (*arrays, jnp.asarray(rng.random((b, n)) < 0.7), jnp.asarray(rng.random((b, c)) < 0.8))


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("shape", attention_shapes.ODD[:2], ids=str)
def test_attention_equals_the_reference(shape: attention_shapes.Shape, implementation: Any) -> None:
    inputs = _attention_inputs(shape)
    expected = isolation_attention(*inputs, multiplier=0.5, implementation="xla")
    got = isolation_attention(*inputs, multiplier=0.5, implementation=implementation, interpret=True)
    np.testing.assert_allclose(got, expected, atol=3e-5)


def test_a_candidate_that_sees_nothing_gets_zero() -> None:
    *arrays, context, own = _attention_inputs(attention_shapes.ODD[0])
    for implementation in ("xla", *KERNELS):
        got = isolation_attention(
            *arrays, context & False, own & False, multiplier=0.5, implementation=implementation, interpret=True
        )  # type: ignore[arg-type]
        assert not np.asarray(got).any()


def test_tpu_kernel_has_no_races() -> None:
    inputs = _attention_inputs(attention_shapes.ODD[0])
    expected = isolation_attention(*inputs, multiplier=0.5, implementation="xla")
    pltpu.reset_tpu_interpret_mode_state()
    got = isolation_attention(
        *inputs, multiplier=0.5, implementation="mosaic_tpu", interpret=pltpu.InterpretParams(detect_races=True)
    )
    np.testing.assert_allclose(got, expected, atol=3e-5)
    assert not interpret_pallas_call.races.races_found


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("model", attention_shapes.MODELS)
def test_attention_lowers(model: str, dtype: Any, implementation: Any) -> None:
    b, c, n, h, k, d = attention_shapes.MODELS[model]
    sizes = [(b, c, h, d), (b, n, k, d), (b, n, k, d), (b, c, k, d), (b, c, k, d)]
    inputs = [jax.ShapeDtypeStruct(size, dtype) for size in sizes]
    masks = [jax.ShapeDtypeStruct(size, jnp.bool_) for size in ((b, n), (b, c))]
    call = jax.jit(lambda *x: isolation_attention(*x, multiplier=0.125, implementation=implementation))
    text = call.trace(*inputs, *masks).lower(lowering_platforms=(PLATFORM[implementation],)).as_text()
    assert ("tpu_custom_call" if implementation == "mosaic_tpu" else "triton") in text


def test_attention_refuses_shapes_that_do_not_fit() -> None:
    inputs = list(_attention_inputs(attention_shapes.ODD[0]))
    inputs[5] = inputs[5][:, :-1]
    with pytest.raises(ParameterError, match=r"context_mask has shape \(2, 4\), must be \(2, 5\)"):
        isolation_attention(*inputs, multiplier=1.0)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("shape", matmul_shapes.ODD[:2], ids=str)
def test_matmul_equals_the_reference(shape: matmul_shapes.Shape, implementation: Any) -> None:
    rng = np.random.default_rng(shape.inner)
    x, row_scale = quantize_rows(jnp.asarray(rng.standard_normal((shape.rows, shape.inner)), jnp.float32))
    w, column_scale = quantize_columns(jnp.asarray(rng.standard_normal((shape.inner, shape.columns)), jnp.float32))
    expected = scaled_matmul(x, w, row_scale, column_scale, gate=shape.gated, implementation="xla")
    got = scaled_matmul(x, w, row_scale, column_scale, gate=shape.gated, implementation=implementation, interpret=True)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize("model", matmul_shapes.MODELS)
def test_matmul_lowers(model: str, implementation: Any) -> None:
    rows, inner, columns, gated = matmul_shapes.MODELS[model]
    inputs = [jax.ShapeDtypeStruct(size, jnp.int8) for size in ((rows, inner), (inner, columns))]
    scales = [jax.ShapeDtypeStruct(size, jnp.float32) for size in ((rows, 1), (1, columns))]
    call = jax.jit(lambda *x: scaled_matmul(*x, gate=gated, implementation=implementation))
    text = call.trace(*inputs, *scales).lower(lowering_platforms=(PLATFORM[implementation],)).as_text()
    assert "custom_call" in text


def test_quantisation_is_symmetric_and_zero_stays_zero() -> None:
    x = jnp.array([[0.0, 0.0], [1.0, -2.0]])
    q, scale = quantize_rows(x)
    np.testing.assert_array_equal(q, [[0, 0], [64, -127]])
    np.testing.assert_allclose(q * scale, [[0, 0], [1.007874, -2]], rtol=1e-5)

"""Pallas kernels: interpreted answers equal the reference; they lower for TPU and CUDA on a machine with neither."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call as tpu_simulator
from jax._src.pallas.mosaic_gpu.interpret import interpret_pallas_call as gpu_simulator
from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from xfast.errors import ParameterError
from xfast.kernels import check, platforms
from xfast.kernels.isolation_attention import isolation_attention, pallas_mosaic_gpu, pallas_triton
from xfast.kernels.isolation_attention import shapes as attention_shapes
from xfast.kernels.isolation_attention.api import obstacle
from xfast.kernels.scaled_matmul import quantize_rows, scaled_matmul
from xfast.kernels.scaled_matmul import shapes as matmul_shapes

TARGETS = {"mosaic_tpu": "tpu_custom_call", "mosaic_gpu": "mosaic_gpu", "triton": "triton"}


def _dtypes(implementation: Any) -> list[Any]:
    return [dtype for dtype in (jnp.float32, jnp.bfloat16) if obstacle(implementation, 32, dtype) is None]


ATTENTION = [
    pytest.param(implementation, shape, dtype, id=f"{implementation}-{tuple(shape)}-{jnp.dtype(dtype)}")
    for implementation in check.KERNELS
    for i, shape in enumerate(attention_shapes.ODD)
    for dtype in _dtypes(implementation)
    # Every shape once; the second type at one shape only.
    if dtype == _dtypes(implementation)[0] or i == 1
]


@pytest.mark.parametrize(("implementation", "shape", "dtype"), ATTENTION)
def test_attention_equals_the_reference(shape: attention_shapes.Shape, dtype: Any, implementation: Any) -> None:
    found = check.compare_attention("odd", shape, dtype, implementation, "interpreted")
    assert found.failure is None


def test_a_candidate_that_sees_nothing_gets_zero() -> None:
    *arrays, context, own = check.attention_inputs(attention_shapes.Shape(1, 1, 1, 1, 1, 16), jnp.bfloat16)
    for implementation in ("xla", "mosaic_gpu", "triton"):  # the TPU's arithmetic is Triton's
        got = isolation_attention(
            *arrays, context & False, own & False, multiplier=0.5, implementation=implementation, interpret=True
        )
        assert not np.asarray(got, np.float32).any()


@pytest.mark.parametrize("implementation", check.KERNELS)
@pytest.mark.parametrize("shape", matmul_shapes.ODD, ids=str)
def test_matmul_equals_the_reference(shape: matmul_shapes.Shape, implementation: Any) -> None:
    assert check.compare_matmul("odd", shape, implementation, "interpreted").failure is None


def test_matmul_takes_weights_either_way_and_the_largest_sums() -> None:
    inner = 256
    x, w = jnp.full((2, inner), -128, jnp.int8), jnp.full((inner, 2), -128, jnp.int8)
    scales = (jnp.ones((2, 1)), jnp.ones((1, 2)))
    for implementation in ("xla", "mosaic_gpu"):
        for transposed in (False, True):
            got = scaled_matmul(
                x, w.T if transposed else w, *scales, w_transposed=transposed, implementation=implementation,
                interpret=True,
            )  # fmt: skip
            np.testing.assert_array_equal(got, np.full((2, 2), 128 * 128 * inner))


# --- races -----------------------------------------------------------------------------------------------------------


@contextmanager
def _detecting_races(implementation: str) -> Iterator[Any]:
    """The simulator of a platform, looking for races; its state is global and survives a failure."""
    tpu = implementation == "mosaic_tpu"
    reset = pltpu.reset_tpu_interpret_mode_state if tpu else gpu_simulator.reset_gpu_interpret_mode_state
    reset()
    yield pltpu.InterpretParams(detect_races=True) if tpu else InterpretGPUParams(detect_races=True)
    reset()


def _races_found(implementation: str) -> bool:
    if implementation == "mosaic_tpu":
        return bool(tpu_simulator.races.races_found)
    return bool(gpu_simulator.get_races().races_found)


@pytest.mark.parametrize("implementation", ["mosaic_tpu", "mosaic_gpu"])
def test_attention_has_no_races(implementation: Any) -> None:
    # Six blocks of context on the GPU, so that the ring is refilled; several programs on both.
    inputs = check.attention_inputs(attention_shapes.Shape(1, 3, 330, 2, 1, 16), jnp.bfloat16)
    expected = isolation_attention(*inputs, multiplier=0.5, implementation="xla")
    with _detecting_races(implementation) as simulator:
        got = isolation_attention(*inputs, multiplier=0.5, implementation=implementation, interpret=simulator)
        error = np.abs(np.asarray(got, np.float32) - np.asarray(expected, np.float32)).max()
        assert error <= check.attention_tolerance(inputs)
        assert not _races_found(implementation)


@pytest.mark.parametrize("implementation", ["mosaic_tpu", "mosaic_gpu"])
def test_matmul_has_no_races(implementation: Any) -> None:
    inputs = check.matmul_inputs(matmul_shapes.Shape(3, 1100, 12, True))
    expected = scaled_matmul(*inputs, gate=True, implementation="xla")
    with _detecting_races(implementation) as simulator:
        got = scaled_matmul(*inputs, gate=True, implementation=implementation, interpret=simulator)
        np.testing.assert_allclose(got, expected, atol=check.matmul_tolerance(expected))
        assert not _races_found(implementation)


@pytest.mark.parametrize("waits", [True, False])
def test_the_detector_finds_a_planted_race_on_tpu(waits: bool) -> None:
    def kernel(x: Any, out: Any, buffer: Any, semaphore: Any) -> None:
        copy = pltpu.make_async_copy(x, buffer, semaphore)
        copy.start()
        if waits:
            copy.wait()
        doubled = buffer[...] * 2.0
        if not waits:
            copy.wait()
        buffer[...] = doubled
        pltpu.sync_copy(buffer, out)

    with _detecting_races("mosaic_tpu") as simulator:
        hbm = pl.BlockSpec(memory_space=pltpu.HBM)
        call = pl.pallas_call(
            kernel,
            out_shape=jax.ShapeDtypeStruct((8, 128), jnp.float32),
            in_specs=[hbm],
            out_specs=hbm,
            scratch_shapes=[pltpu.VMEM((8, 128), jnp.float32), pltpu.SemaphoreType.DMA],
            interpret=simulator,
        )
        jax.block_until_ready(call(jnp.ones((8, 128))))
        assert _races_found("mosaic_tpu") == (not waits)


@pytest.mark.parametrize("waits", [True, False])
def test_the_detector_finds_a_planted_race_on_hopper(waits: bool) -> None:
    def kernel(x: Any, out: Any, buffer: Any, result: Any, loaded: Any) -> None:
        plgpu.copy_gmem_to_smem(x, buffer, loaded)
        if waits:
            plgpu.barrier_wait(loaded)
        result[...] = buffer[...] * 2.0
        if not waits:
            plgpu.barrier_wait(loaded)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(result, out)
        plgpu.wait_smem_to_gmem(0)

    with _detecting_races("mosaic_gpu") as simulator:
        call = plgpu.kernel(
            kernel,
            out_type=jax.ShapeDtypeStruct((64, 64), jnp.float32),
            scratch_types=[plgpu.SMEM((64, 64), jnp.float32), plgpu.SMEM((64, 64), jnp.float32), plgpu.Barrier()],
            interpret=simulator,
        )
        jax.block_until_ready(call(jnp.ones((64, 64))))
        assert _races_found("mosaic_gpu") == (not waits)


# --- lowering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", check.KERNELS)
@pytest.mark.parametrize("model", attention_shapes.MODELS)
def test_attention_lowers(model: str, implementation: Any) -> None:
    for dtype in _dtypes(implementation):
        assert TARGETS[implementation] in check.lower_attention(attention_shapes.MODELS[model], dtype, implementation)


@pytest.mark.parametrize("implementation", check.KERNELS)
@pytest.mark.parametrize("model", matmul_shapes.MODELS)
def test_matmul_lowers(model: str, implementation: Any) -> None:
    assert TARGETS[implementation] in check.lower_matmul(matmul_shapes.MODELS[model], implementation)


@pytest.mark.parametrize("implementation", check.KERNELS)
def test_any_history_fits(implementation: Any) -> None:
    """Nothing of the context is resident: 100,000 tokens lower, and need the memory of a few blocks."""
    shape = attention_shapes.Shape(1, 8, 100_000, 2, 1, 128)
    assert TARGETS[implementation] in check.lower_attention(shape, jnp.bfloat16, implementation)
    if implementation == "mosaic_gpu":
        assert pallas_mosaic_gpu.stages_that_fit(128, 100_000 // 64) == 4
    if implementation == "triton":
        assert pallas_triton.blocks(8, 100_000, 128, jnp.bfloat16) == (16, 64)


# --- choice and errors -----------------------------------------------------------------------------------------------


def _chosen(platform: Any, dtype: Any, size: int = 32) -> str:
    return platforms.choose(None, platform, False, lambda one: obstacle(one, size, dtype))


def test_none_chooses_the_best_that_can() -> None:
    assert _chosen("cpu", jnp.float32) == "xla"
    assert _chosen("tpu", jnp.float32) == "mosaic_tpu"
    assert _chosen("gpu", jnp.bfloat16) == "triton"
    assert _chosen("hopper", jnp.bfloat16) == "mosaic_gpu"
    assert _chosen("hopper", jnp.float32) == "triton"  # products of float32 would lose bits
    assert _chosen("hopper", jnp.float32, 2048) == "xla"
    assert _chosen("tpu", jnp.float32, 8192) == "xla"
    assert _chosen(None, jnp.float32) == "xla"  # tests run on a CPU


@pytest.mark.parametrize(
    ("implementation", "size", "dtype", "platform", "reason"),
    [
        ("mosaic_tpu", 32, jnp.float32, None, "it runs on tpu, this is cpu"),
        ("mosaic_gpu", 32, jnp.bfloat16, "gpu", "it runs on hopper, this is gpu"),
        ("triton", 32, jnp.bfloat16, "tpu", "it runs on gpu or hopper, this is tpu"),
        ("mosaic_gpu", 32, jnp.float32, "hopper", "operands are float32, must be bfloat16 or float16"),
        ("mosaic_gpu", 320, jnp.bfloat16, "hopper", "heads of 320 are wider than a warpgroup product, at most 256"),
        ("triton", 1024, jnp.float32, "gpu", "need 327,680 bytes of shared memory, at most 101,376"),
        ("mosaic_tpu", 8192, jnp.float32, "tpu", "bytes of VMEM"),
    ],
)
def test_a_named_one_that_cannot_run_says_why(
    implementation: Any, size: int, dtype: Any, platform: Any, reason: str
) -> None:
    inputs = check.attention_inputs(attention_shapes.Shape(1, 1, 1, 1, 1, size), dtype)
    with pytest.raises(NotImplementedError, match=f"implementation='{implementation}': .*{reason}"):
        isolation_attention(*inputs, multiplier=1.0, implementation=implementation, platform=platform)
    if dtype == jnp.bfloat16 and size == 32:
        product = check.matmul_inputs(matmul_shapes.Shape(1, 1, 1, False))
        with pytest.raises(NotImplementedError, match=reason):
            scaled_matmul(*product, implementation=implementation, platform=platform)


def test_bad_arguments_are_named() -> None:
    inputs = list(check.attention_inputs(attention_shapes.ODD[0], jnp.float32))

    def refuses(message: str, **options: Any) -> None:
        with pytest.raises(ParameterError, match=message):
            isolation_attention(*inputs, **{"multiplier": 1.0, **options})

    refuses("implementation is 'cuda', must be xla, mosaic_tpu, mosaic_gpu or triton", implementation="cuda")
    refuses("platform is 'npu', must be cpu, tpu, gpu or hopper", platform="npu")
    refuses("soft_cap is 0.0, must be a positive number", soft_cap=0.0)
    short, inputs[5] = inputs[5], inputs[5][:, :-1]
    refuses(r"context_mask has shape \(2, 4\), must be \(2, 5\)")
    inputs[5], inputs[2] = short, inputs[2].astype(jnp.bfloat16)
    refuses("values has dtype bfloat16, must be the query's, float32")
    x, w, row_scale, column_scale = check.matmul_inputs(matmul_shapes.Shape(2, 3, 5, False))
    with pytest.raises(ParameterError, match="w has 5 columns, must be even with gate=True"):
        scaled_matmul(x, w, row_scale, column_scale, gate=True)
    with pytest.raises(ParameterError, match=r"must be \(M, K\), \(K, N\), \(M, 1\), \(1, N\)"):
        scaled_matmul(x, w[:2], row_scale, column_scale)
    with pytest.raises(ParameterError, match=r"dtypes float32 and int8, must be int8"):
        scaled_matmul(x.astype(jnp.float32), w, row_scale, column_scale)
    long = jnp.zeros((1, 131_072), jnp.int8)
    with pytest.raises(ParameterError, match="x has 131,072 columns, must be at most 131,071"):
        scaled_matmul(long, long.T, jnp.ones((1, 1)), jnp.ones((1, 1)))


def test_quantisation_is_symmetric_and_zero_stays_zero() -> None:
    x = jnp.array([[0.0, 0.0], [1.0, -2.0]])
    q, scale = quantize_rows(x)
    np.testing.assert_array_equal(q, [[0, 0], [64, -127]])
    np.testing.assert_allclose(q * scale, [[0, 0], [1.007874, -2]], rtol=1e-5)


def test_a_broken_kernel_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check reports wrong numbers and exceptions of one kernel, and goes on with the others."""
    monkeypatch.setattr(check, "KERNELS", ("mosaic_gpu", "triton"))
    monkeypatch.setattr(attention_shapes, "MODELS", {"tiny": attention_shapes.Shape(1, 1, 1, 1, 1, 16)})
    monkeypatch.setattr(attention_shapes, "ODD", [])
    monkeypatch.setattr(matmul_shapes, "MODELS", {})
    monkeypatch.setattr(matmul_shapes, "ODD", matmul_shapes.ODD[:1])
    monkeypatch.setattr(pallas_mosaic_gpu, "stages_that_fit", lambda *_: 1 // 0)
    from xfast.kernels.scaled_matmul import epilogue

    monkeypatch.setattr(epilogue, "gelu", lambda x: x)
    findings = list(check.check("cpu"))
    assert {f.implementation for f in findings} == set(check.KERNELS)
    broken = {(f.operation, f.implementation): f.failure for f in findings if f.failure}
    assert broken["attention", "mosaic_gpu"].startswith("ZeroDivisionError")  # type: ignore[union-attr]
    assert all("differs from the reference by" in str(broken["matmul", name]) for name in check.KERNELS)
    assert ("attention", "triton") not in broken

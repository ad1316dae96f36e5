"""The whole check of the kernels: what the device runs, compared and timed; the rest interpreted and lowered.

``xfast doctor --kernels`` prints it; the tests go through the same functions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from xfast.kernels import platforms
from xfast.kernels.isolation_attention import isolation_attention
from xfast.kernels.isolation_attention import shapes as attention_shapes
from xfast.kernels.isolation_attention.api import obstacle
from xfast.kernels.platforms import Implementation, Platform
from xfast.kernels.scaled_matmul import quantize_columns, quantize_rows, scaled_matmul
from xfast.kernels.scaled_matmul import shapes as matmul_shapes

__all__ = ["Finding", "attention_inputs", "attention_tolerance", "check", "lower_attention", "lower_matmul"]

KERNELS: tuple[Implementation, ...] = ("mosaic_tpu", "mosaic_gpu", "triton")
# What a kernel lowers for; Triton is the way for GPUs before and after Hopper.
LOWERS_FOR: dict[Implementation, Platform] = {"mosaic_tpu": "tpu", "mosaic_gpu": "hopper", "triton": "gpu"}
# Error of an attention output, relative to the largest value: rounding of weights and result, for float32 of sums.
RELATIVE = {"float32": 2.0**-17, "bfloat16": 2.0**-7, "float16": 2.0**-10}
MULTIPLIER = 0.125
TIMED = 7
How = Literal["ran", "interpreted", "lowered"]


@dataclass(frozen=True)
class Finding:
    """One line of the check."""

    operation: str
    shape: str
    implementation: Implementation
    how: How
    error: float | None = None
    """Largest difference to the reference."""
    milliseconds: float | None = None
    """Median of a few calls."""
    xla_milliseconds: float | None = None
    """The same of the reference, jitted."""
    failure: str | None = None


def attention_inputs(shape: attention_shapes.Shape, dtype: DTypeLike, seed: int = 0) -> tuple[Any, ...]:
    """Random operands of :func:`isolation_attention`, masks with holes."""
    rng = np.random.default_rng(seed)
    b, c, n, h, k, d = shape
    sizes = [(b, c, h, d), (b, n, k, d), (b, n, k, d), (b, c, k, d), (b, c, k, d)]
    arrays = [jnp.asarray(2 * rng.standard_normal(size), dtype) for size in sizes]
    return (*arrays, jnp.asarray(rng.random((b, n)) < 0.7), jnp.asarray(rng.random((b, c)) < 0.8))


def attention_tolerance(inputs: tuple[Any, ...]) -> float:
    """How far an implementation may be from the reference on these operands."""
    largest = max(float(jnp.abs(inputs[i]).max()) for i in (2, 4))
    return RELATIVE[str(inputs[0].dtype)] * largest


def matmul_inputs(shape: matmul_shapes.Shape, seed: int = 0) -> tuple[Any, ...]:
    """Random operands of :func:`scaled_matmul`."""
    rng = np.random.default_rng(seed)
    x, row_scale = quantize_rows(jnp.asarray(rng.standard_normal((shape.rows, shape.inner)), jnp.float32))
    w, column_scale = quantize_columns(jnp.asarray(rng.standard_normal((shape.inner, shape.columns)), jnp.float32))
    return x, w, row_scale, column_scale


def matmul_tolerance(expected: Any) -> float:
    """Sums are exact, so only the epilogue may differ: a few roundings of its products."""
    return 2.0**-20 * float(np.abs(expected).max(initial=1.0))


def lower_attention(shape: attention_shapes.Shape, dtype: DTypeLike, implementation: Implementation) -> str:
    """The kernel lowered for its platform on any machine, as text."""
    b, c, n, h, k, d = shape
    sizes = [(b, c, h, d), (b, n, k, d), (b, n, k, d), (b, c, k, d), (b, c, k, d)]
    inputs = [jax.ShapeDtypeStruct(size, dtype) for size in sizes]
    masks = [jax.ShapeDtypeStruct(size, jnp.bool_) for size in ((b, n), (b, c))]
    platform = LOWERS_FOR[implementation]
    call = jax.jit(
        lambda *x: isolation_attention(*x, multiplier=MULTIPLIER, implementation=implementation, platform=platform)
    )
    return str(call.trace(*inputs, *masks).lower(lowering_platforms=(platforms.lowers_as(platform),)).as_text())


def lower_matmul(shape: matmul_shapes.Shape, implementation: Implementation) -> str:
    """As :func:`lower_attention`."""
    inputs = [jax.ShapeDtypeStruct(s, jnp.int8) for s in ((shape.rows, shape.inner), (shape.inner, shape.columns))]
    scales = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((shape.rows, 1), (1, shape.columns))]
    platform = LOWERS_FOR[implementation]
    call = jax.jit(lambda *x: scaled_matmul(*x, gate=shape.gated, implementation=implementation, platform=platform))
    return str(call.trace(*inputs, *scales).lower(lowering_platforms=(platforms.lowers_as(platform),)).as_text())


def _median_milliseconds(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())
    samples = []
    for _ in range(TIMED):
        start = time.perf_counter()
        jax.block_until_ready(call())
        samples.append(1e3 * (time.perf_counter() - start))
    return sorted(samples)[TIMED // 2]


def _compare(
    operation: str, shape: str, implementation: Implementation, how: How,
    call: Callable[[Implementation, Any], Callable[[], Any]], tolerance: Callable[[Any], float],
) -> Finding:  # fmt: skip
    expected = np.asarray(call("xla", False)(), np.float32)
    kernel = call(implementation, how == "interpreted")
    error = float(np.abs(np.asarray(kernel(), np.float32) - expected).max(initial=0.0))
    allowed = tolerance(expected)
    # `not <=`, so that NaN fails.
    failure = None if error <= allowed else f"differs from the reference by {error:.2g}, allowed {allowed:.2g}"
    if how == "interpreted":
        return Finding(operation, shape, implementation, how, error, failure=failure)
    mine, xla = _median_milliseconds(kernel), _median_milliseconds(call("xla", False))
    return Finding(operation, shape, implementation, how, error, mine, xla, failure)


def compare_attention(
    name: str, shape: attention_shapes.Shape, dtype: DTypeLike, implementation: Implementation, how: How
) -> Finding:
    """Run or interpret the attention on random operands, and the reference beside it."""
    inputs = attention_inputs(shape, dtype)

    def call(chosen: Implementation, interpret: Any) -> Callable[[], Any]:
        function = jax.jit(
            lambda *x: isolation_attention(*x, multiplier=MULTIPLIER, implementation=chosen, interpret=interpret)
        )
        return lambda: function(*inputs)

    label = f"{name}, {jnp.dtype(dtype)}"
    return _compare("attention", label, implementation, how, call, lambda _: attention_tolerance(inputs))


def compare_matmul(name: str, shape: matmul_shapes.Shape, implementation: Implementation, how: How) -> Finding:
    """As :func:`compare_attention`."""
    inputs = matmul_inputs(shape)

    def call(chosen: Implementation, interpret: Any) -> Callable[[], Any]:
        function = jax.jit(lambda *x: scaled_matmul(*x, gate=shape.gated, implementation=chosen, interpret=interpret))
        return lambda: function(*inputs)

    return _compare("matmul", name, implementation, how, call, matmul_tolerance)


def _guarded(operation: str, shape: str, implementation: Implementation, how: How, run: Callable[[], Any]) -> Finding:
    """A finding, or the exception as one: a broken kernel must not hide the others."""
    try:
        found = run()
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Finding(operation, shape, implementation, how, failure=reason[:300])
    return found if isinstance(found, Finding) else Finding(operation, shape, implementation, how)


def check(platform: Platform | None = None) -> Iterator[Finding]:
    """Everything that this machine can check, one finding at a time.

    An implementation that runs on the default device runs at every named shape, model sizes and odd ones, against the
    reference, timed. Another one is interpreted at the smallest odd shapes and lowered at the model sizes.
    """
    here = platform or platforms.current()
    for implementation in KERNELS:
        runs = here in platforms.runs_on(implementation)
        dtypes = [d for d in (jnp.float32, jnp.bfloat16) if obstacle(implementation, 32, d) is None]
        cases: list[tuple[str, str, How, Callable[[], Any]]] = []
        odd = {f"odd {tuple(shape)}": shape for shape in attention_shapes.ODD}
        for name, shape in {**attention_shapes.MODELS, **odd}.items():
            for dtype in dtypes:
                label = f"{name}, {jnp.dtype(dtype)}"
                if runs or (name in odd and shape in attention_shapes.ODD[:2]):
                    how: How = "ran" if runs else "interpreted"
                    cases.append((
                        "attention", label, how,
                        lambda n=name, s=shape, d=dtype, i=implementation, h=how: compare_attention(n, s, d, i, h),
                    ))  # fmt: skip
                elif name not in odd:
                    cases.append((
                        "attention", label, "lowered",
                        lambda s=shape, d=dtype, i=implementation: lower_attention(s, d, i),
                    ))  # fmt: skip
        odd_products = {f"odd {tuple(shape)}": shape for shape in matmul_shapes.ODD}
        for name, product in {**matmul_shapes.MODELS, **odd_products}.items():
            if runs or (name in odd_products and product in matmul_shapes.ODD[:2]):
                how = "ran" if runs else "interpreted"
                cases.append((
                    "matmul", name, how,
                    lambda n=name, s=product, i=implementation, h=how: compare_matmul(n, s, i, h),
                ))  # fmt: skip
            elif name not in odd_products:
                cases.append(("matmul", name, "lowered", lambda s=product, i=implementation: lower_matmul(s, i)))
        for operation, label, how, run in cases:
            yield _guarded(operation, label, implementation, how, run)

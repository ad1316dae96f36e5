"""What the Mosaic kernels for Hopper GPUs share: shared memory, layouts, loads, the interpreter."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike

# Of the 227 KiB of a block (CUDA programming guide, compute capability 9.0); barriers and reductions take some.
SHARED_BYTES = 227 * 1024 - 4096


def tiled(width: int, dtype: DTypeLike) -> tuple[Any, ...]:
    """Transforms of a shared array with ``width`` columns that warpgroup products read."""
    bits = jnp.dtype(dtype).itemsize * 8
    swizzle = plgpu.find_swizzle(width * bits)
    return plgpu.TilingTransform((8, swizzle * 8 // bits)), plgpu.SwizzleTransform(swizzle)


def vector(ref: Any, index: Any, layout: Any, *, interpret: bool) -> Any:
    """Part of an array in global memory, in a layout that broadcasts; the interpreter knows no layouts."""
    return ref[index] if interpret else plgpu.load(ref, index, layout=layout, optimized=False)


def interpreter(interpret: Any) -> Any:
    """Pallas's parameters for interpreting: False is none, True the default ones."""
    if interpret is True:
        # The simulator of barriers, copies and warpgroup products on a CPU; JAX has no public name for it yet.
        from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

        return InterpretGPUParams()
    return interpret or None

"""A weight matrix in eight bits that the JAX model multiplies with through the int8 kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.phoenix.quantization import quantize_columns

__all__ = ["Int8Weight", "int8_layers"]

F32 = npt.NDArray[np.float32]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Weight:
    """int8 values with a scale per output column; activations are quantised per token as they come."""

    values: Array
    """[in, out]; [out, in] with ``transposed``"""
    scale: Array
    """[1, out] f32"""
    gated: bool = field(metadata={"static": True})
    """Two halves side by side: the product is ``gelu(first) * second``, as the feed-forward layer wants."""
    transposed: bool = field(metadata={"static": True})
    implementation: Literal["xla", "mosaic_tpu", "mosaic_gpu", "triton"] | None = field(metadata={"static": True})
    interpret: bool = field(metadata={"static": True})

    def multiply(self, x: Array) -> Array:
        """Products [..., out] f32 of x [..., in]."""
        from xfast.kernels.scaled_matmul import quantize_rows, scaled_matmul

        values, scale = quantize_rows(x.reshape(-1, x.shape[-1]).astype(jnp.float32))
        product: Array = scaled_matmul(
            values, self.values, scale, self.scale, gate=self.gated, w_transposed=self.transposed,
            implementation=self.implementation, interpret=self.interpret,
        )  # fmt: skip
        return product.reshape(*x.shape[:-1], -1)


def int8_layers(params: Mapping[str, F32], implementation: Any, interpret: bool) -> dict[str, Int8Weight]:
    """The matrices of all layers; the two halves of the gate are one, under the key of the first (``linear/w``).

    Files that :func:`~xfast.phoenix.quantization.quantize_tower` wrote give their own integers again.
    """
    from xfast.kernels import platforms

    transposed = platforms.current() == "hopper" and not interpret
    weights: dict[str, Int8Weight] = {}
    for key in (key for key in params if key.endswith("/w") and not key.endswith("linear_v/w")):
        gated = key.endswith("linear/w") and "multi_head_attention" not in key
        parts = [key, key.removesuffix("linear/w") + "linear_v/w"] if gated else [key]
        halves = [quantize_columns(np.asarray(params[part], np.float32)) for part in parts]
        values = np.concatenate([half.values for half in halves], axis=1)
        scale = np.concatenate([half.scale for half in halves], axis=1).astype(np.float32)
        stored = jnp.asarray(np.ascontiguousarray(values.T) if transposed else values)
        weights[key] = Int8Weight(stored, jnp.asarray(scale), gated, transposed, implementation, interpret)
    return weights

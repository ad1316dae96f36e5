"""The Pallas kernels against the same operation in plain XLA, at the model sizes that the tests lower.

On a CPU only the reference runs (the interpreter is no measure of anything); on a GPU or TPU the implementation that
`implementation=None` takes stands beside it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xfast.kernels import check, platforms
from xfast.kernels.isolation_attention import isolation_attention
from xfast.kernels.isolation_attention import shapes as attention
from xfast.kernels.scaled_matmul import scaled_matmul
from xfast.kernels.scaled_matmul import shapes as matmul


class Attention:
    """Candidates against a context."""

    params = (tuple(attention.MODELS), ("float32", "bfloat16"))
    param_names = ("shape", "dtype")
    timeout = 300.0

    def setup(self, shape: str, dtype: str) -> None:
        self.inputs = check.attention_inputs(attention.MODELS[shape], dtype)
        self.calls = {
            name: jax.jit(lambda *x, name=name: isolation_attention(*x, multiplier=0.125, implementation=name))
            for name in ("xla", None)
        }
        self.exact = jax.jit(
            lambda *x: isolation_attention(
                *(one.astype(jnp.float32) for one in x[:5]), *x[5:], multiplier=0.125, implementation="xla"
            )
        )
        for call in (*self.calls.values(), self.exact):
            jax.block_until_ready(call(*self.inputs))

    def time_best(self, shape: str, dtype: str) -> None:
        jax.block_until_ready(self.calls[None](*self.inputs))

    def time_rival_xla(self, shape: str, dtype: str) -> None:
        jax.block_until_ready(self.calls["xla"](*self.inputs))

    def track_largest_error(self, shape: str, dtype: str) -> float:
        got, exact = self.calls[None](*self.inputs), self.exact(*self.inputs)
        return float(np.abs(np.asarray(got, np.float32) - np.asarray(exact)).max())


class Matmul:
    """int8 products with fused scales, beside float32 ones of the same sizes."""

    params = (tuple(matmul.MODELS),)
    param_names = ("shape",)
    timeout = 300.0

    def setup(self, shape: str) -> None:
        self.shape = matmul.MODELS[shape]
        self.inputs = check.matmul_inputs(self.shape)
        self.call = jax.jit(lambda *x: scaled_matmul(*x, gate=self.shape.gated))
        x, w, row_scale, column_scale = self.inputs
        self.dense: Any = (x * row_scale, w * column_scale)
        self.rival = jax.jit(self._float32)
        jax.block_until_ready((self.call(*self.inputs), self.rival(*self.dense)))

    def _float32(self, x: jax.Array, w: jax.Array) -> jax.Array:
        product = jnp.matmul(x, w)
        if not self.shape.gated:
            return product
        gate, linear = jnp.split(product, 2, axis=1)
        return jax.nn.gelu(gate, approximate=True) * linear

    def time_best(self, shape: str) -> None:
        jax.block_until_ready(self.call(*self.inputs))

    def time_rival_float32(self, shape: str) -> None:
        jax.block_until_ready(self.rival(*self.dense))

    def track_implementation(self, shape: str) -> float:
        """0 xla, 1 mosaic_tpu, 2 mosaic_gpu, 3 triton: what `time_best` ran."""
        chosen = platforms.choose(None, None, False, lambda _: None)
        return float(platforms.IMPLEMENTATIONS.index(chosen))

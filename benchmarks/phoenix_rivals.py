"""What one gets from the model with ``jax.jit`` and care, at the same inputs and outputs as the native engine.

``plain`` is the full uncached pass, ``cached`` the same split in two, in float32 and bfloat16, and ``int8`` scores with
int8 products (weights per output column, activations per token) and bfloat16 attention against bfloat16 keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xfast.phoenix import cached, model
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.engines.xla import candidate_inputs, context_inputs
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.layout import layer_prefix

Call = Callable[[], Any]


def _quantised(w: Any) -> tuple[jax.Array, jax.Array]:
    scale = np.abs(w).max(axis=0) / 127
    return jnp.asarray(np.rint(w / scale).astype(np.int8)), jnp.asarray(scale, jnp.float32)


def _int8_matmul(x: jax.Array, weight: tuple[jax.Array, jax.Array]) -> jax.Array:
    scale = jnp.max(jnp.abs(x), axis=-1, keepdims=True) / 127
    whole = jnp.rint(x / scale).astype(jnp.int8)
    dims = (((x.ndim - 1,), (0,)), ((), ()))
    product = jax.lax.dot_general(whole, weight[0], dims, preferred_element_type=jnp.int32)
    return product.astype(jnp.float32) * scale * weight[1]


def _score_int8(params: Any, weights: Any, config: Any, cache: Any, some: Any, positions: Any) -> Any:
    h = model.candidate_tokens(params, config, some)
    for layer in range(config.num_layers):
        at = layer_prefix(layer)
        x = model.rms_norm(h, params[at + "rms_norm/scale"])

        def project(name: str, heads: int, x: Any = x, at: str = at) -> Any:
            product = _int8_matmul(x, weights[f"{at}multi_head_attention/{name}/w"])
            return product.reshape(*x.shape[:-1], heads, config.key_size)

        query = model.rope(project("query", config.num_heads), positions).astype(jnp.bfloat16)
        key = model.rope(project("key", config.num_kv_heads), positions).astype(jnp.bfloat16)
        value = project("value", config.num_kv_heads).astype(jnp.bfloat16)
        mixed = cached._attend_context_and_self(config, query, key, value, cache, layer, some.valid, None)
        out = _int8_matmul(mixed.astype(jnp.float32), weights[at + "multi_head_attention/linear/w"])
        h = h + model.rms_norm(out, params[at + "rms_norm_1/scale"])
        x = model.rms_norm(h, params[at + "rms_norm_2/scale"])
        gate = jax.nn.gelu(_int8_matmul(x, weights[at + "linear/w"]), approximate=True)
        ffn = _int8_matmul(gate * _int8_matmul(x, weights[at + "linear_v/w"]), weights[at + "linear_1/w"])
        h = h + model.rms_norm(ffn, params[at + "rms_norm_3/scale"])
    return model.heads(params, h)


class Rivals:
    """Compiled rivals for one model and viewer; every call waits for its result."""

    def __init__(self, tower: Tower, viewer: ContextFeatures) -> None:
        self._tower, self._config = tower, tower.config
        self._viewer, self._positions = jax.tree.map(
            jnp.asarray, context_inputs(viewer, len(viewer.valid), self._config.emb_size, ip=False)
        )
        self._params = {
            dtype: {
                key: jnp.asarray(value, dtype if key.endswith("/w") else jnp.float32)
                for key, value in tower.params.items()
            }
            for dtype in (jnp.float32, jnp.bfloat16)
        }
        self._caches: dict[Any, Any] = {}

    def _waiting(self, function: Any, *arguments: Any) -> Call:
        jitted = jax.jit(function)
        return lambda: jax.block_until_ready(jitted(*arguments))

    def _list(self, some: CandidateFeatures) -> Any:
        return jax.tree.map(jnp.asarray, candidate_inputs([some], len(some), 1))

    def encode(self, dtype: Any) -> Call:
        """Keys and values of the viewer."""
        return self._waiting(
            lambda p, v, at: cached.encode_context(p, self._config, v, at, dtype),
            self._params[dtype], self._viewer, self._positions,
        )  # fmt: skip

    def user_vector(self, dtype: Any) -> Call:
        """The retrieval tower's user vector."""
        return self._waiting(
            lambda p, v, at: cached.user_vector(p, self._config, v, at, dtype),
            self._params[dtype], self._viewer, self._positions,
        )  # fmt: skip

    def plain(self, some: CandidateFeatures, dtype: Any) -> Call:
        """The uncached pass."""
        inputs, _ = self._list(some)
        return self._waiting(
            lambda p, v, c: model.ranker(p, self._config, v, c, None, dtype), self._params[dtype], self._viewer, inputs
        )

    def eager(self, some: CandidateFeatures, dtype: Any) -> Call:
        """The uncached pass, operation by operation."""
        inputs, _ = self._list(some)
        return lambda: jax.block_until_ready(
            model.ranker(self._params[dtype], self._config, self._viewer, inputs, None, dtype)
        )

    def _cache(self, dtype: Any) -> Any:
        if dtype not in self._caches:
            self._caches[dtype] = self.encode(dtype)()
        return self._caches[dtype]

    def cached(self, some: CandidateFeatures, dtype: Any) -> Call:
        """Candidates against keys and values."""
        inputs, positions = self._list(some)
        return self._waiting(
            lambda p, k, c, at: cached.score_candidates(p, self._config, k, c, at, dtype),
            self._params[dtype], self._cache(dtype), inputs, positions,
        )  # fmt: skip

    def int8(self, some: CandidateFeatures) -> Call:
        """Candidates against keys and values, int8 products."""
        inputs, positions = self._list(some)
        weights = {key: _quantised(value) for key, value in self._tower.params.items() if key.endswith("/w")}
        return self._waiting(
            lambda p, w, k, c, at: _score_int8(p, w, self._config, k, c, at),
            self._params[jnp.float32], weights, self._cache(jnp.bfloat16), inputs, positions,
        )  # fmt: skip

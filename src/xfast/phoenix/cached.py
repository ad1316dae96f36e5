"""The ranker split in two: encode a context once, then score any candidates against its keys and values.

Exact, because no context token ever attends to a candidate (PHOENIX §3.7): the context's keys and values of each layer
do not depend on the candidates, and a candidate needs nothing of the context but these (§9 items 2, 3, 5). Tokens that
nobody can see may be left out as long as the others keep their positions (§9 item 4). docs/phoenix.md has the maths.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from xfast.phoenix import model
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.layout import layer_prefix
from xfast.phoenix.model import MASKED, CandidateInputs, ContextInputs, Params, RankerOutput

__all__ = ["ContextCache", "Kernel", "encode_context", "score_candidates", "user_vector"]


class Kernel(NamedTuple):
    """Which Pallas kernel runs the candidates' attention."""

    implementation: Literal["xla", "mosaic_tpu", "mosaic_gpu", "triton"] | None
    """None for the best on the default device"""
    interpret: bool


class ContextCache(NamedTuple):
    """Keys (RoPE applied) and values of a context, per layer."""

    keys: Array
    """[L, B, N, K, d]"""
    values: Array
    """[L, B, N, K, d]"""
    valid: Array
    """[B, N] bool"""


def encode_context(
    params: Params, config: PhoenixConfig, context: ContextInputs, positions: Array, dtype: DTypeLike = jnp.float32
) -> ContextCache:
    """Run the context through the layers and keep keys and values; the last layer needs no more than these.

    ``positions`` [B, 1+S] are the original ones of the tokens that are here.
    """
    h = model.context_tokens(params, config, "ranker", context, dtype).astype(dtype)
    valid = jnp.concatenate([context.user_valid[:, None], context.valid], axis=1)
    mask = model.context_mask(valid, config.context_attention)
    keys, values = [], []
    for layer in range(config.num_layers):
        x = model.rms_norm(h, params[layer_prefix(layer) + "rms_norm/scale"])
        query, key, value = model.project_qkv(params, config, layer, x, positions)
        keys.append(key)
        values.append(value)
        if layer + 1 < config.num_layers:
            h = model.close_layer(params, layer, h, model.attend(config, query, key, value, mask))
    return ContextCache(jnp.stack(keys), jnp.stack(values), valid)


def _attend_context_and_self(
    config: PhoenixConfig,
    query: Array,
    key: Array,
    value: Array,
    cache: ContextCache,
    layer: int,
    valid: Array,
    kernel: Kernel | None,
) -> Array:
    """Attention of candidates over the context's keys and their own one, [B, C, H*d]."""
    batch, count = query.shape[:2]
    if kernel is not None:
        from xfast.kernels.isolation_attention import isolation_attention

        mixed: Array = isolation_attention(
            query, cache.keys[layer], cache.values[layer], key, value, cache.valid, valid,
            multiplier=config.attn_output_multiplier, implementation=kernel.implementation, interpret=kernel.interpret,
        )  # fmt: skip
        return mixed.reshape(batch, count, -1)
    dtype = query.dtype
    grouped = query.reshape(batch, count, config.num_kv_heads, -1, config.key_size)
    context = jnp.einsum(
        "bckgd,bnkd->bkgcn", grouped, cache.keys[layer], precision="highest", preferred_element_type=jnp.float32
    )
    own = jnp.einsum("bckgd,bckd->bkgc", grouped, key, precision="highest", preferred_element_type=jnp.float32)
    dots = jnp.concatenate([context, own[..., None]], axis=-1).astype(dtype)
    mask = jnp.concatenate(
        [jnp.broadcast_to(cache.valid[:, None, :], (batch, count, cache.valid.shape[1])), valid[..., None]], axis=-1
    )
    logits = jnp.where(mask[:, None, None], model.scaled_logits(dots, config), MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(dtype)
    mixed = jnp.einsum(
        "bkgcn,bnkd->bckgd",
        weights[..., :-1],
        cache.values[layer],
        precision="highest",
        preferred_element_type=jnp.float32,
    )
    self_weight = jnp.moveaxis(weights[..., -1], 3, 1)[..., None].astype(jnp.float32)
    mixed = mixed + self_weight * value[:, :, :, None, :].astype(jnp.float32)
    return mixed.astype(dtype).reshape(batch, count, -1)


def score_candidates(
    params: Params,
    config: PhoenixConfig,
    cache: ContextCache,
    candidates: CandidateInputs,
    positions: Array,
    dtype: DTypeLike = jnp.float32,
    kernel: Kernel | None = None,
) -> RankerOutput:
    """Score candidates [B, C] at RoPE ``positions`` [B, C] against encoded contexts.

    ``kernel`` runs the attention in :mod:`xfast.kernels`; None leaves it to XLA.

    Equals :func:`xfast.phoenix.model.ranker` on the same tokens, but for one row that means nothing: an empty slot
    (invalid candidate) without any valid context, which the full pass averages over all tokens.
    """
    h = model.candidate_tokens(params, config, candidates, dtype).astype(dtype)
    for layer in range(config.num_layers):
        x = model.rms_norm(h, params[layer_prefix(layer) + "rms_norm/scale"])
        query, key, value = model.project_qkv(params, config, layer, x, positions)
        mixed = _attend_context_and_self(config, query, key, value, cache, layer, candidates.valid, kernel)
        h = model.close_layer(params, layer, h, mixed)
    return model.heads(params, h)


def user_vector(
    params: Params, config: PhoenixConfig, context: ContextInputs, positions: Array, dtype: DTypeLike = jnp.float32
) -> tuple[Array, Array]:
    """:func:`xfast.phoenix.model.user_tower` of tokens that keep the given ``positions`` [B, 1+S]."""
    tokens = model.context_tokens(params, config, "retrieval", context, dtype).astype(dtype)
    valid = jnp.concatenate([context.user_valid[:, None], context.valid], axis=1)
    mask = model.context_mask(valid, config.context_attention)
    return model.pool(model.transformer(params, config, tokens, positions, mask), valid)

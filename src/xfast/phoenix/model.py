"""The Phoenix transformer in plain functional JAX: the definition that every engine is checked against.

Parameters are one flat dict with the published keys (:mod:`xfast.phoenix.layout`). Embedding rows come in as arguments
(:class:`ContextInputs`, :class:`CandidateInputs`), so that a trainer can differentiate with respect to the rows it
gathered and update tables sparsely, and a server can gather from memory-mapped tables.

Everything here is a pure function of arrays; a :class:`~xfast.phoenix.config.PhoenixConfig` and a dtype are static.
Shapes: B batch, S history slots, C candidate slots, D embedding size, T tokens, A actions, H query heads, K key heads,
d head size. Section numbers are PHOENIX's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.int8_weight import Int8Weight
from xfast.phoenix.layout import RANKER, RETRIEVAL, TOWER_1, TOWER_2, TowerName, layer_prefix

__all__ = [
    "CandidateInputs",
    "ContextInputs",
    "RankerOutput",
    "attend",
    "candidate_tokens",
    "candidate_tower",
    "context_mask",
    "context_positions",
    "context_tokens",
    "feed_forward",
    "heads",
    "project_qkv",
    "ranker",
    "ranker_mask",
    "ranker_tokens",
    "rms_norm",
    "transformer",
    "user_tower",
]

Params = Mapping[str, Any]
MASKED = -1e30
SOFT_CAP = 30.0
NORM_EPSILON = 1e-5
ROPE_BASE = 10_000.0
DWELL_COLUMN = 1


class ContextInputs(NamedTuple):
    """User and history, with embedding rows already gathered (zeros where the hash is 0)."""

    user_embeddings: Any
    """[B, n_user, D] f32"""
    user_valid: Any
    """[B] bool: hash 0 of the user is not 0"""
    post_embeddings: Any
    """[B, S, n_item, D] f32"""
    author_embeddings: Any
    """[B, S, n_author, D] f32"""
    valid: Any
    """[B, S] bool: hash 0 of the post is not 0"""
    actions: Any
    """[B, S, A] f32"""
    product_surface: Any
    """[B, S] i32"""
    dwell: Any
    """[B, S] f32, seconds (column 1 of the continuous actions); the ranker alone reads it"""
    ip_embeddings: Any = None
    """[B, n_ip, D] f32 or None; read where ``num_ip_hashes`` > 0"""


class CandidateInputs(NamedTuple):
    """Candidates of the ranker, with embedding rows already gathered."""

    post_embeddings: Any
    """[B, C, n_item, D] f32"""
    author_embeddings: Any
    """[B, C, n_author, D] f32"""
    valid: Any
    """[B, C] bool"""
    product_surface: Any
    """[B, C] i32"""
    age_bucket: Any
    """[B, C] i32, :func:`xfast.phoenix.features.post_age_bucket`"""


class RankerOutput(NamedTuple):
    """What the ranker predicts."""

    logits: Array
    """[B, C, A]"""
    continuous: Array
    """[B, C, n_continuous] in (0, 1), normalised units"""


# --- tokens (§2) -----------------------------------------------------------------------------------------------------


def _matmul(x: Array, w: Array | Int8Weight, dtype: DTypeLike) -> Array:
    """``x @ w`` with operands in ``dtype``, accumulated in float32 and rounded to ``dtype`` (§6)."""
    if isinstance(w, Int8Weight):
        return w.multiply(x).astype(dtype)
    product = jnp.matmul(x.astype(dtype), w.astype(dtype), precision="highest", preferred_element_type=jnp.float32)
    return product.astype(dtype)


def _table_rows(table: Array, index: Array) -> Array:
    """Rows of a small table; a zero vector for an index outside it (§2.3)."""
    inside = (index >= 0) & (index < table.shape[0])
    rows = table[jnp.clip(index, 0, table.shape[0] - 1)]
    return jnp.where(inside[..., None], rows, 0)


def _flat(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)


def _action_vector(table: Array, actions: Array) -> Array:
    """Present actions add their row, absent ones subtract it; no action at all gives zero (§2.2)."""
    vector = _matmul(2.0 * actions - 1.0, table, jnp.float32)
    return jnp.where(jnp.any(actions != 0, axis=-1, keepdims=True), vector, 0)


def _dwell_vector(params: Params, config: PhoenixConfig, dwell: Array) -> Array:
    """§2.4"""
    norm = config.continuous_config(DWELL_COLUMN).norm_config
    clipped = jnp.clip(dwell.astype(jnp.float32), 0.0, norm.norm_scale)
    scaled = jnp.log1p(clipped) / jnp.log1p(norm.norm_scale) if norm.use_log else clipped / norm.norm_scale
    hidden = jax.nn.gelu(scaled[..., None] * params[RANKER + "history_dwell_time_proj1"][0], approximate=True)
    return _matmul(hidden, params[RANKER + "history_dwell_time_proj2"], jnp.float32)


def context_tokens(
    params: Params, config: PhoenixConfig, tower: TowerName, context: ContextInputs, dtype: DTypeLike = jnp.float32
) -> Array:
    """Token rows of user and history, [B, 1+S, D] f32 (§2.1, §2.6). The retrieval tower has no dwell and no IP part."""
    prefix = RANKER if tower == "ranker" else RETRIEVAL
    user = _matmul(_flat(context.user_embeddings), params[prefix + "proj_mat_1"], jnp.float32)
    if tower == "ranker" and config.num_ip_hashes > 0 and context.ip_embeddings is not None:
        user = user + jnp.sum(context.ip_embeddings, axis=-2)
    parts = [
        _flat(context.post_embeddings),
        _flat(context.author_embeddings),
        _action_vector(params[prefix + "action_projection"], context.actions).astype(dtype),
        _table_rows(params[prefix + "product_surface_embedding_table"], context.product_surface).astype(dtype),
    ]
    if tower == "ranker":
        parts.append(_dwell_vector(params, config, context.dwell).astype(dtype))
    joined = jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=-1)
    history = _matmul(joined, params[prefix + "proj_mat_3"], jnp.float32)
    return jnp.concatenate([user[..., None, :], history], axis=-2)


def candidate_tokens(
    params: Params, config: PhoenixConfig, candidates: CandidateInputs, dtype: DTypeLike = jnp.float32
) -> Array:
    """Token rows of the ranker's candidates, [B, C, D] f32 (§2.6)."""
    parts = [
        _flat(candidates.post_embeddings),
        _flat(candidates.author_embeddings),
        _table_rows(params[RANKER + "product_surface_embedding_table"], candidates.product_surface).astype(dtype),
        _table_rows(params[RANKER + "post_age_embedding_table"], candidates.age_bucket).astype(dtype),
    ]
    joined = jnp.concatenate([part.astype(jnp.float32) for part in parts], axis=-1)
    return _matmul(joined, params[RANKER + "proj_mat_2"], jnp.float32)


# --- transformer (§3) ------------------------------------------------------------------------------------------------


def rms_norm(x: Array, scale: Array) -> Array:
    """``scale * x / sqrt(mean(x**2) + 1e-5)`` in float32, back in x's dtype (§3.2)."""
    wide = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (scale * (wide * jax.lax.rsqrt(variance + NORM_EPSILON))).astype(x.dtype)


def rope(x: Array, positions: Array) -> Array:
    """Rotate feature pairs (i, i + d/2) of x [..., T, heads, d] by ``position * 10000**(-2i/d)`` (§3.4)."""
    half = x.shape[-1] // 2
    frequencies = ROPE_BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions.astype(jnp.float32)[..., None, None] * frequencies
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def project_qkv(params: Params, config: PhoenixConfig, layer: int, x: Array, positions: Array) -> tuple[Array, ...]:
    """Queries [..., T, H, d], keys and values [..., T, K, d] of normalised tokens x, RoPE applied (§3.3)."""
    at = layer_prefix(layer) + "multi_head_attention/"

    def project(name: str, num_heads: int) -> Array:
        return _matmul(x, params[at + name + "/w"], x.dtype).reshape(*x.shape[:-1], num_heads, config.key_size)

    query, key, value = (
        project("query", config.num_heads), project("key", config.num_kv_heads), project("value", config.num_kv_heads)
    )  # fmt: skip
    return rope(query, positions), rope(key, positions), value


def scaled_logits(logits: Array, config: PhoenixConfig) -> Array:
    """Attention logits from dot products: times the multiplier, soft-capped at 30, float32 (§3.3)."""
    return SOFT_CAP * jnp.tanh(logits.astype(jnp.float32) * (config.attn_output_multiplier / SOFT_CAP))


def attend(config: PhoenixConfig, query: Array, key: Array, value: Array, mask: Array) -> Array:
    """Attention of query [B, T, H, d] over key and value [B, N, K, d] where ``mask`` [B, T, N]: [B, T, H*d].

    Query head ``kv * (H/K) + g`` reads key head ``kv``. A row whose mask is all false averages over all N values.
    """
    batch, tokens = query.shape[:2]
    grouped = query.reshape(batch, tokens, config.num_kv_heads, -1, config.key_size)
    dots = jnp.einsum(
        "btkgd,bnkd->bkgtn", grouped, key, precision="highest", preferred_element_type=jnp.float32
    ).astype(query.dtype)
    logits = jnp.where(mask[:, None, None], scaled_logits(dots, config), MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(query.dtype)
    mixed = jnp.einsum("bkgtn,bnkd->btkgd", weights, value, precision="highest", preferred_element_type=jnp.float32)
    return mixed.astype(query.dtype).reshape(batch, tokens, -1)


def attention_output(params: Params, layer: int, mixed: Array) -> Array:
    """Output projection of the attention heads [..., H*d] -> [..., D]."""
    return _matmul(mixed, params[layer_prefix(layer) + "multi_head_attention/linear/w"], mixed.dtype)


def feed_forward(params: Params, layer: int, x: Array) -> Array:
    """``(gelu(x W_linear) * (x W_linear_v)) W_linear_1`` with the tanh gelu (§3.5)."""
    at = layer_prefix(layer)
    gate = _matmul(x, params[at + "linear/w"], x.dtype)
    if isinstance(params[at + "linear/w"], Int8Weight):  # holds both halves; gated in the kernel
        hidden = gate
    else:
        hidden = jax.nn.gelu(gate, approximate=True) * _matmul(x, params[at + "linear_v/w"], x.dtype)
    return _matmul(hidden, params[at + "linear_1/w"], x.dtype)


def close_layer(params: Params, layer: int, h: Array, mixed: Array) -> Array:
    """The layer after its attention: output projection, residual, feed-forward, residual (§3.1)."""
    at = layer_prefix(layer)
    h = h + rms_norm(attention_output(params, layer, mixed), params[at + "rms_norm_1/scale"])
    ffn = feed_forward(params, layer, rms_norm(h, params[at + "rms_norm_2/scale"]))
    return h + rms_norm(ffn, params[at + "rms_norm_3/scale"])


def transformer(params: Params, config: PhoenixConfig, tokens: Array, positions: Array, mask: Array) -> Array:
    """All layers over tokens [B, T, D] at ``positions`` [B, T] with ``mask`` [B, T, T]; no final norm (§3.6)."""
    h = tokens
    for layer in range(config.num_layers):
        x = rms_norm(h, params[layer_prefix(layer) + "rms_norm/scale"])
        query, key, value = project_qkv(params, config, layer, x, positions)
        h = close_layer(params, layer, h, attend(config, query, key, value, mask))
    return h


def context_mask(valid: Array, attention: Literal["causal", "bidirectional"]) -> Array:
    """[B, T, T]: which keys a context token sees, from ``valid`` [B, T] (§3.7; bidirectional is ours)."""
    size = valid.shape[-1]
    seen = valid[:, None, :]
    if attention == "causal":
        return seen & jnp.tri(size, dtype=bool)
    return jnp.broadcast_to(seen, (*valid.shape, size))


def ranker_mask(config: PhoenixConfig, context_valid: Array, candidate_valid: Array) -> Array:
    """[B, T, T] of context [B, N] and candidates [B, C]: these see the valid context and themselves, nobody sees them
    (§3.7).
    """
    batch, count, start = *candidate_valid.shape, context_valid.shape[1]
    own = jnp.eye(count, dtype=bool) & candidate_valid[:, None, :]
    seen = jnp.broadcast_to(context_valid[:, None, :], (batch, count, start))
    top = jnp.concatenate(
        [context_mask(context_valid, config.context_attention), jnp.zeros((batch, start, count), bool)], axis=2
    )
    return jnp.concatenate([top, jnp.concatenate([seen, own], axis=2)], axis=1)


def context_positions(config: PhoenixConfig, tower: TowerName, valid: Any) -> Any:
    """RoPE positions [B, 1+S] of user and history from their validity [B, 1+S] (§3.8).

    By default the slot number, padding included. Right-anchored (ranker only): history slot i sits at
    ``(1+S) - n + i`` where n counts the valid history tokens; the user and invalid tokens sit at 0.
    """
    slots = jnp.arange(valid.shape[-1])
    if tower != "ranker" or not config.right_anchored_rope:
        return jnp.broadcast_to(slots, valid.shape)
    count = jnp.sum(valid[:, 1:], axis=-1, keepdims=True)
    anchored = valid.shape[-1] - count + (slots - 1)
    return jnp.where(valid & (slots > 0), anchored, 0)


# --- ranker (§4) and retrieval (§5) ----------------------------------------------------------------------------------


def ranker_tokens(
    params: Params,
    config: PhoenixConfig,
    context: ContextInputs,
    candidates: CandidateInputs,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Array, Array]:
    """Return the token matrix [B, 1+S+C, D] and its validity [B, 1+S+C]."""
    tokens = jnp.concatenate(
        [
            context_tokens(params, config, "ranker", context, dtype),
            candidate_tokens(params, config, candidates, dtype),
        ],
        axis=1,
    )
    valid = jnp.concatenate([context.user_valid[:, None], context.valid, candidates.valid], axis=1)
    return tokens.astype(dtype), valid


def heads(params: Params, h: Array) -> RankerOutput:
    """Final norm and output heads of candidate rows h [..., C, D] (§4)."""
    y = rms_norm(h, params[RANKER + "rms_norm/scale"]).astype(jnp.float32)
    logits = _matmul(y, params[RANKER + "unembeddings"], jnp.float32)
    continuous = jax.nn.sigmoid(_matmul(y, params[RANKER + "continuous_unembeddings"], jnp.float32))
    return RankerOutput(logits.astype(h.dtype), continuous.astype(h.dtype))


def ranker(
    params: Params,
    config: PhoenixConfig,
    context: ContextInputs,
    candidates: CandidateInputs,
    slots: Array | None = None,
    dtype: DTypeLike = jnp.float32,
) -> RankerOutput:
    """Score candidates in one full pass over context and candidates (§3, §4).

    Parameters
    ----------
    params, config
        The model.
    context, candidates
        Gathered inputs.
    slots : [B, C] i32, optional
        Candidate slots, which set the default RoPE positions (``1 + S + slot``); the index if absent.
    dtype
        float32, the parity target, or bfloat16 with the published casts (§6).
    """
    tokens, valid = ranker_tokens(params, config, context, candidates, dtype)
    batch, total, start = tokens.shape[0], tokens.shape[1], 1 + context.valid.shape[1]
    context_valid, candidate_valid = valid[:, :start], valid[:, start:]
    if config.right_anchored_rope:
        candidate_positions = jnp.where(candidate_valid, start, 0)
    else:
        if slots is None:
            slots = jnp.broadcast_to(jnp.arange(total - start), (batch, total - start))
        candidate_positions = start + slots
    positions = jnp.concatenate([context_positions(config, "ranker", context_valid), candidate_positions], axis=1)
    mask = ranker_mask(config, context_valid, candidate_valid)
    return heads(params, transformer(params, config, tokens, positions, mask)[:, start:])


def pool(h: Array, valid: Array) -> tuple[Array, Array]:
    """Mean of the valid rows of h [B, T, D], as a unit vector [B, D] f32, and its length before that [B, 1] (§5)."""
    kept = jnp.where(valid[..., None], h.astype(jnp.float32), 0)
    mean = kept.sum(axis=1) / jnp.maximum(valid.sum(axis=1, keepdims=True), 1)
    return unit_length(mean), jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(mean), axis=-1, keepdims=True), 1e-12))


def unit_length(x: Array) -> Array:
    """``x / sqrt(max(|x|**2, 1e-12))`` in float32 (§5)."""
    wide = x.astype(jnp.float32)
    return wide / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(wide), axis=-1, keepdims=True), 1e-12))


def user_tower(
    params: Params, config: PhoenixConfig, context: ContextInputs, dtype: DTypeLike = jnp.float32
) -> tuple[Array, Array]:
    """Retrieval user vector [B, D] f32 of unit length, and its length before normalising [B, 1] (§5)."""
    tokens = context_tokens(params, config, "retrieval", context, dtype).astype(dtype)
    valid = jnp.concatenate([context.user_valid[:, None], context.valid], axis=1)
    positions = context_positions(config, "retrieval", valid)
    return pool(transformer(params, config, tokens, positions, context_mask(valid, config.context_attention)), valid)


def candidate_tower(params: Params, config: PhoenixConfig, post_embeddings: Array, author_embeddings: Array) -> Array:
    """Retrieval candidate vectors [..., D] f32 of unit length, from rows [..., n_item, D] and [..., n_author, D] (§5).

    With ``enable_linear_proj`` two projections with SiLU between them (mode A), else the mean over hashes (mode B).
    """
    rows = jnp.concatenate([post_embeddings, author_embeddings], axis=-2).astype(jnp.float32)
    if not config.enable_linear_proj:
        return unit_length(jnp.mean(rows, axis=-2))
    hidden = jax.nn.silu(_matmul(_flat(rows), params[TOWER_1], jnp.float32))
    return unit_length(_matmul(hidden, params[TOWER_2], jnp.float32))

"""Both towers as they are trained: the model of :mod:`xfast.phoenix.model` at many anchors at once, with dropout.

A causal context never sees what follows, so the state after k tokens is that of a history of k tokens: one pass over a
window gives the user vectors of all its prefixes (a running mean over tokens, PHOENIX §5), and its keys and values
serve ranker candidates that follow any prefix. Without dropout this is the served model exactly, with one exception:
a right-anchored prefix puts its user token at 0 (§3.8), here the whole window does, so candidates of inner anchors see
the user from nearer than when serving. Relative positions within the history, and of candidates to it, are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from xfast.phoenix import model
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.layout import TowerName, layer_prefix
from xfast.phoenix.training.losses import dropout

__all__ = ["Rates", "ranker_at_anchors", "user_vectors_at_anchors"]

Params = Mapping[str, Array]


class Rates(NamedTuple):
    """Dropout rates of a run (:class:`~xfast.phoenix.training.config.TrainConfig`)."""

    embedding: float = 0.0
    residual: float = 0.0
    user: float = 0.0


NO_DROPOUT = Rates()


class _Keys:
    """A stream of dropout keys; none where the pass is deterministic."""

    def __init__(self, key: Array | None) -> None:
        self._key = key
        self._count = 0

    def __call__(self) -> Array | None:
        if self._key is None:
            return None
        self._count += 1
        return jax.random.fold_in(self._key, self._count)


def _drop_context(inputs: model.ContextInputs, rates: Rates, keys: _Keys) -> model.ContextInputs:
    user = dropout(keys(), inputs.user_embeddings, rates.embedding)
    key = keys()
    if key is not None and rates.user > 0:
        # Not rescaled: an unknown user is a zero vector when serving, not a weaker one.
        known = jax.random.bernoulli(key, 1 - rates.user, (user.shape[0], 1, 1))
        user = jnp.where(known, user, 0)
    return inputs._replace(
        user_embeddings=user,
        post_embeddings=dropout(keys(), inputs.post_embeddings, rates.embedding),
        author_embeddings=dropout(keys(), inputs.author_embeddings, rates.embedding),
    )


def _close(params: Params, layer: int, h: Array, mixed: Array, rate: float, keys: _Keys) -> Array:
    """:func:`xfast.phoenix.model.close_layer` with dropout on both branches."""
    at = layer_prefix(layer)
    branch = model.rms_norm(model.attention_output(params, layer, mixed), params[at + "rms_norm_1/scale"])
    h = h + dropout(keys(), branch, rate)
    ffn = model.feed_forward(params, layer, model.rms_norm(h, params[at + "rms_norm_2/scale"]))
    return h + dropout(keys(), model.rms_norm(ffn, params[at + "rms_norm_3/scale"]), rate)


def _context(
    params: Params, config: PhoenixConfig, tower: TowerName, inputs: model.ContextInputs, rates: Rates, keys: _Keys
) -> tuple[Array, Array, list[tuple[Array, Array]]]:
    """Hidden states of the context [B, T, D], its validity [B, T], and the keys and values of every layer."""
    inputs = _drop_context(inputs, rates, keys)
    h = model.context_tokens(params, config, tower, inputs)
    valid = jnp.concatenate([inputs.user_valid[:, None], inputs.valid], axis=1)
    positions = model.context_positions(config, tower, valid)
    mask = model.context_mask(valid, config.context_attention)
    batch, tokens, size = h.shape
    # Flat rows: XLA's CPU matrix product is up to twice as fast on [B*T, D] as on [B, T, D].
    h, flat = h.reshape(-1, size), positions.reshape(-1)
    cache = []
    for layer in range(config.num_layers):
        x = model.rms_norm(h, params[layer_prefix(layer) + "rms_norm/scale"])
        projected = model.project_qkv(params, config, layer, x, flat)
        query, key, value = (part.reshape(batch, tokens, *part.shape[1:]) for part in projected)
        cache.append((key, value))
        mixed = model.attend(config, query, key, value, mask)
        h = _close(params, layer, h, mixed.reshape(batch * tokens, -1), rates.residual, keys)
    return h.reshape(batch, tokens, size), valid, cache


def user_vectors_at_anchors(
    params: Params,
    config: PhoenixConfig,
    inputs: model.ContextInputs,
    anchors: Array,
    rates: Rates = NO_DROPOUT,
    key: Array | None = None,
) -> Array:
    """Retrieval user vectors [B, K, D] of unit length, each of the prefix with ``anchors`` [B, K] history tokens.

    With bidirectional attention every anchor must be the window's end.
    """
    h, valid, _ = _context(params, config, "retrieval", inputs, rates, _Keys(key))
    kept = jnp.where(valid[..., None], h, 0)
    # The mean's divisor does not change the direction.
    return model.unit_length(jnp.take_along_axis(jnp.cumsum(kept, axis=1), anchors[..., None], axis=1))


def ranker_at_anchors(
    params: Params,
    config: PhoenixConfig,
    inputs: model.ContextInputs,
    candidates: model.CandidateInputs,
    anchors: Array,
    rates: Rates = NO_DROPOUT,
    key: Array | None = None,
) -> model.RankerOutput:
    """Outputs for candidates [B, K] that see the user, the first ``anchors`` [B, K] history tokens, and themselves.

    A candidate's RoPE position is the one after its last visible token, so a window may hold candidates of many
    moments. Needs right-anchored RoPE, where that is the served position (PHOENIX §3.8).
    """
    keys = _Keys(key)
    _, valid, cache = _context(params, config, "ranker", inputs, rates, keys)
    candidates = candidates._replace(
        post_embeddings=dropout(keys(), candidates.post_embeddings, rates.embedding),
        author_embeddings=dropout(keys(), candidates.author_embeddings, rates.embedding),
    )
    h = model.candidate_tokens(params, config, candidates)
    batch, count, size = h.shape
    tokens = valid.shape[1]
    history = jnp.sum(valid[:, 1:], axis=1, keepdims=True)
    positions = jnp.where(candidates.valid, tokens - history + anchors, 0).reshape(-1)
    seen = valid[:, None, :] & (jnp.arange(tokens) <= anchors[..., None])
    h = h.reshape(-1, size)
    for layer, (context_key, context_value) in enumerate(cache):
        x = model.rms_norm(h, params[layer_prefix(layer) + "rms_norm/scale"])
        projected = model.project_qkv(params, config, layer, x, positions)
        query, own_key, own_value = (part.reshape(batch, count, *part.shape[1:]) for part in projected)
        mixed = _attend_from_candidates(
            config, query, (context_key, context_value), (own_key, own_value), seen, candidates.valid
        )
        h = _close(params, layer, h, mixed.reshape(batch * count, -1), rates.residual, keys)
    return model.heads(params, h.reshape(batch, count, size))


def _attend_from_candidates(
    config: PhoenixConfig,
    query: Array,
    context: tuple[Array, Array],
    own: tuple[Array, Array],
    seen: Array,
    valid: Array,
) -> Array:
    """Attention of candidates over the context tokens they see and themselves, [B, C, H*d].

    The one extra key is a column, not a C x C block that would be masked but for its diagonal.
    """
    batch, count = query.shape[:2]
    grouped = query.reshape(batch, count, config.num_kv_heads, -1, config.key_size)
    dots = jnp.einsum("bckgd,bnkd->bkgcn", grouped, context[0], precision="highest")
    self_dots = jnp.einsum("bckgd,bckd->bkgc", grouped, own[0], precision="highest")[..., None]
    logits = model.scaled_logits(jnp.concatenate([dots, self_dots], axis=-1), config)
    mask = jnp.concatenate([seen, valid[..., None]], axis=-1)[:, None, None]
    weights = jax.nn.softmax(jnp.where(mask, logits, model.MASKED), axis=-1)
    mixed = jnp.einsum("bkgcn,bnkd->bckgd", weights[..., :-1], context[1], precision="highest")
    mixed += weights[..., -1].transpose(0, 3, 1, 2)[..., None] * own[1][:, :, :, None]
    return mixed.reshape(batch, count, -1)

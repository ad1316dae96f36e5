"""The ranker and the user tower once more: float64 NumPy, loops over tokens and heads, straight from the spec."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfast.phoenix import PhoenixConfig, Tower
from xfast.phoenix.features import CandidateFeatures, ContextFeatures


def _gelu(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _norm(x: Any, scale: Any) -> Any:
    return scale * x / np.sqrt((x**2).mean() + 1e-5)


def _rope(x: Any, position: int) -> Any:
    half = len(x) // 2
    out = np.empty(len(x))
    for i in range(half):
        angle = position * 10000.0 ** (-2 * i / len(x))
        out[i] = x[i] * np.cos(angle) - x[i + half] * np.sin(angle)
        out[i + half] = x[i + half] * np.cos(angle) + x[i] * np.sin(angle)
    return out


def _row(table: Any, index: int) -> Any:
    return table[index].astype(float) if 0 <= index < len(table) else np.zeros(table.shape[1])


def _context_tokens(tower: Tower, prefix: str, f: ContextFeatures) -> list[Any]:
    p, config = tower.params, tower.config
    user = f.user_embeddings.astype(float).ravel() @ p[prefix + "proj_mat_1"]
    if tower.name == "ranker" and config.num_ip_hashes > 0 and f.ip_embeddings is not None:
        user = user + f.ip_embeddings.astype(float).sum(axis=0)
    tokens = [user]
    norm = config.continuous_action_config.norm_config
    for i in range(len(f.valid)):
        actions = f.actions[i].astype(float)
        vector = (2 * actions - 1) @ p[prefix + "action_projection"] * float((actions != 0).any())
        parts = [f.post_embeddings[i].ravel(), f.author_embeddings[i].ravel(), vector]
        parts.append(_row(p[prefix + "product_surface_embedding_table"], int(f.product_surface[i])))
        if tower.name == "ranker":
            value = np.clip(float(f.dwell[i]), 0, norm.norm_scale)
            value = np.log1p(value) / np.log1p(norm.norm_scale) if norm.use_log else value / norm.norm_scale
            hidden = _gelu(value * p[prefix + "history_dwell_time_proj1"].astype(float)[0])
            parts.append(hidden @ p[prefix + "history_dwell_time_proj2"])
        tokens.append(np.concatenate(parts) @ p[prefix + "proj_mat_3"])
    return tokens


def _transformer(tower: Tower, tokens: list[Any], positions: list[int], visible: Any) -> list[Any]:
    config: PhoenixConfig = tower.config
    h = [token.copy() for token in tokens]
    d, heads, groups = config.key_size, config.num_heads, config.num_heads // config.num_kv_heads
    for layer in range(config.num_layers):
        w = {
            key.removeprefix(f"transformer/decoder_layer_{layer}/"): value.astype(float)
            for key, value in tower.params.items()
            if key.startswith(f"transformer/decoder_layer_{layer}/")
        }
        x = [_norm(t, w["rms_norm/scale"]) for t in h]
        q, k, v = ([t @ w[f"multi_head_attention/{name}/w"] for t in x] for name in ("query", "key", "value"))
        out = []
        for i in range(len(h)):
            mixed = []
            for head in range(heads):
                kv = head // groups
                query = _rope(q[i][head * d : head * d + d], positions[i])
                logits = np.array([query @ _rope(k[j][kv * d : kv * d + d], positions[j]) for j in range(len(h))])
                logits = 30 * np.tanh(logits * config.attn_output_multiplier / 30)
                logits = np.where(visible[i], logits, -1e30)
                weights = np.exp(logits - logits.max())
                weights /= weights.sum()
                mixed.append(sum(weights[j] * v[j][kv * d : kv * d + d] for j in range(len(h))))
            attention = np.concatenate(mixed) @ w["multi_head_attention/linear/w"]
            t = h[i] + _norm(attention, w["rms_norm_1/scale"])
            y = _norm(t, w["rms_norm_2/scale"])
            ffn = (_gelu(y @ w["linear/w"]) * (y @ w["linear_v/w"])) @ w["linear_1/w"]
            out.append(t + _norm(ffn, w["rms_norm_3/scale"]))
        h = out
    return h


def rank(tower: Tower, context: ContextFeatures, candidates: CandidateFeatures) -> tuple[Any, Any]:
    """Logits [C, A] and continuous outputs [C, n], from features with every slot (``compact=False``)."""
    p, prefix, config = tower.params, "phoenix_model/", tower.config
    tokens = _context_tokens(tower, prefix, context)
    start = len(tokens)
    for i in range(len(candidates)):
        parts = [candidates.post_embeddings[i].ravel(), candidates.author_embeddings[i].ravel()]
        parts.append(_row(p[prefix + "product_surface_embedding_table"], int(candidates.product_surface[i])))
        parts.append(_row(p[prefix + "post_age_embedding_table"], int(candidates.age_bucket[i])))
        tokens.append(np.concatenate(parts) @ p[prefix + "proj_mat_2"])
    valid = [context.user_valid, *context.valid, *candidates.valid]
    visible = np.zeros((len(tokens), len(tokens)), bool)
    for i in range(len(tokens)):
        for j in range(len(tokens)):
            earlier = j <= i or config.context_attention == "bidirectional"
            visible[i, j] = valid[j] and ((j < start and earlier) if i < start else (j < start or j == i))
    if config.right_anchored_rope:
        n = sum(valid[1:start])
        positions = [0] + [start - n + i if valid[1 + i] else 0 for i in range(start - 1)]
        positions += [start if v else 0 for v in valid[start:]]
    else:
        positions = [*range(start), *map(int, candidates.positions)]
    h = _transformer(tower, tokens, positions, visible)[start:]
    y = np.array([_norm(t, p[prefix + "rms_norm/scale"]) for t in h])
    return y @ p[prefix + "unembeddings"], 1 / (1 + np.exp(-(y @ p[prefix + "continuous_unembeddings"])))


def user_vector(tower: Tower, context: ContextFeatures) -> tuple[Any, float]:
    """Unit vector [D] and its former length."""
    tokens = _context_tokens(tower, "phoenix_retrieval_model/", context)
    valid = [context.user_valid, *context.valid]
    size = len(tokens)
    bidirectional = tower.config.context_attention == "bidirectional"
    visible = np.array([[valid[j] and (bidirectional or j <= i) for j in range(size)] for i in range(size)])
    h = _transformer(tower, tokens, list(range(size)), visible)
    pooled = sum((t for t, v in zip(h, valid, strict=True) if v), np.zeros(tower.config.emb_size)) / max(sum(valid), 1)
    length = float(np.sqrt(max((pooled**2).sum(), 1e-12)))
    return pooled / length, length

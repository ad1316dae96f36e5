"""Names and shapes of the dense parameters, as the published files spell them (PHOENIX §7, "Artifact layout")."""

from __future__ import annotations

from typing import Literal

from xfast.phoenix.config import PhoenixConfig

__all__ = ["LOG_TEMPERATURE", "RANKER", "RETRIEVAL", "TowerName", "layer_prefix", "param_shapes"]

TowerName = Literal["ranker", "retrieval"]
RANKER = "phoenix_model/"
RETRIEVAL = "phoenix_retrieval_model/"
TOWER_1 = RETRIEVAL + "~build_candidate_representation/candidate_tower/candidate_tower_projection_1"
TOWER_2 = RETRIEVAL + "~build_candidate_representation/candidate_tower/candidate_tower_projection_2"
#: In every published retrieval file, read by the published command line, part of no formula.
LOG_TEMPERATURE = "~/log_temperature"


def layer_prefix(layer: int) -> str:
    """Key prefix of a transformer layer."""
    return f"transformer/decoder_layer_{layer}/"


def param_shapes(config: PhoenixConfig, tower: TowerName) -> dict[str, tuple[int, ...]]:
    """Shapes of all dense parameters of a tower, by published key.

    ``~/log_temperature`` is not listed: the published command line wants it, the model does not.
    """
    d = config.emb_size
    items = config.num_item_hashes + config.num_author_hashes
    prefix = RANKER if tower == "ranker" else RETRIEVAL
    shapes: dict[str, tuple[int, ...]] = {
        prefix + "action_projection": (config.num_actions, d),
        prefix + "product_surface_embedding_table": (config.product_surface_vocab_size, d),
        prefix + "proj_mat_1": (config.num_user_hashes * d, d),
    }
    if tower == "ranker":
        shapes |= {
            prefix + "proj_mat_2": ((items + 2) * d, d),
            prefix + "proj_mat_3": ((items + 3) * d, d),
            prefix + "history_dwell_time_proj1": (1, config.continuous_action_hidden_dim),
            prefix + "history_dwell_time_proj2": (config.continuous_action_hidden_dim, d),
            prefix + "post_age_embedding_table": (config.num_age_buckets, d),
            prefix + "rms_norm/scale": (d,),
            prefix + "unembeddings": (d, config.num_actions),
            prefix + "continuous_unembeddings": (d, config.num_continuous_actions),
        }
    else:
        shapes[prefix + "proj_mat_3"] = ((items + 2) * d, d)
        if config.enable_linear_proj:
            shapes |= {TOWER_1: (items * d, 2 * d), TOWER_2: (2 * d, d)}
    query, keys, ffn = config.num_heads * config.key_size, config.num_kv_heads * config.key_size, config.ffn_size
    for layer in range(config.num_layers):
        at = layer_prefix(layer)
        shapes |= {
            at + "multi_head_attention/query/w": (d, query),
            at + "multi_head_attention/key/w": (d, keys),
            at + "multi_head_attention/value/w": (d, keys),
            at + "multi_head_attention/linear/w": (query, d),
            at + "linear/w": (d, ffn),
            at + "linear_v/w": (d, ffn),
            at + "linear_1/w": (ffn, d),
        }
        shapes |= {f"{at}{norm}/scale": (d,) for norm in ("rms_norm", "rms_norm_1", "rms_norm_2", "rms_norm_3")}
    return shapes

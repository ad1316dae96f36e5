from __future__ import annotations

import json
from typing import Any

import pytest

from xfast.errors import ConfigurationError
from xfast.phoenix.config import ContinuousActionConfig, HashFamily, NormConfig, PhoenixConfig

PUBLISHED: dict[str, Any] = {
    "emb_size": 128, "key_size": 32, "num_heads": 4, "num_layers": 4, "num_actions": 19, "history_seq_len": 127,
    "candidate_seq_len": 64, "num_user_hashes": 2, "num_item_hashes": 2, "num_author_hashes": 2,
    "user_vocab_size": 1000000, "item_vocab_size": 1000000, "author_vocab_size": 1000000,
    "product_surface_vocab_size": 16, "post_age_granularity_mins": 60,
    "hash_params": {
        "user_hash_scales": [196742702, 1852108266], "user_biases": [1935840681, 167407236],
        "user_modulus": 2859568897,
        "item_hash_scales": [2161410491, 1754358832], "item_biases": [1935840681, 167407236],
        "item_modulus": 2361375383,
        "author_hash_scales": [371965780, 328930218], "author_biases": [139686260, 37755056],
        "author_modulus": 631860353,
    },
}  # fmt: skip


def test_published_file_means_the_published_model_and_comes_back_unchanged() -> None:
    config = PhoenixConfig.from_json(PUBLISHED)
    assert config.to_json() == PUBLISHED
    assert (config.num_kv_heads, config.widening_factor, config.attn_output_multiplier) == (4, 2.0, 0.125)
    assert config.enable_linear_proj
    assert not config.right_anchored_rope
    assert config.num_ip_hashes == 0
    assert config.vocabulary.name == "proto"
    assert (config.ffn_size, config.num_age_buckets) == (176, 82)
    minimal = {k: v for k, v in PUBLISHED.items() if not k.startswith(("product_surface", "post_age"))}
    assert PhoenixConfig.from_json(json.dumps(minimal)) == config


def test_our_keys_make_the_round_trip() -> None:
    config = PhoenixConfig.from_json(PUBLISHED).replace(
        num_actions=49, right_anchored_rope=True, num_kv_heads=2, context_attention="bidirectional", use_log=True,
        norm_scale=60.0, widening_factor=2.5, attn_output_multiplier=0.2, enable_linear_proj=False,
        continuous_action_configs={"2": {"loss_type": "tweedie", "loss_weight": 0.5, "norm_config": {"norm_scale": 9}}},
        mask_neg_feedback_on_negatives=False,
    )  # fmt: skip
    assert PhoenixConfig.from_json(json.dumps(config.to_json())) == config
    assert config.continuous_action_config.norm_config == NormConfig(60.0, True)
    assert config.continuous_config(1) == config.continuous_action_config
    assert config.continuous_config(2) == ContinuousActionConfig(0.5, "tweedie", 1.5, NormConfig(9))
    assert hash(config) == hash(PhoenixConfig.from_json(config.to_json()))
    named = config.replace(num_actions=2, actions=["favorite", None])
    assert PhoenixConfig.from_json(json.dumps(named.to_json())).actions == ("favorite", None)


def test_unknown_keys_of_a_file_survive_but_unknown_overrides_do_not() -> None:
    config = PhoenixConfig.from_json(PUBLISHED | {"wandb": {"run": 7}})
    assert config.to_json()["wandb"] == {"run": 7}
    assert config == PhoenixConfig.from_json(PUBLISHED)
    with pytest.raises(ConfigurationError, match="config_overrides is 'right_anchored', must be one of"):
        config.replace(right_anchored=True)


def test_more_query_heads_bring_more_key_heads_unless_they_were_chosen() -> None:
    config = PhoenixConfig.from_json(PUBLISHED)
    assert config.replace(num_heads=8).num_kv_heads == 8
    assert config.replace(num_kv_heads=2).replace(num_heads=8).num_kv_heads == 2
    assert config.replace(item_hash=HashFamily((3,), (4,), 5), num_item_hashes=1).item_hash.modulus == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emb_size": 0}, "emb_size is 0, must be an integer in 1"),
        ({"emb_size": 16.0}, r"emb_size is 16\.0"),
        ({"num_layers": True}, "num_layers is True"),
        ({"key_size": 31}, "key_size is 31, must be even"),
        ({"num_kv_heads": 3}, "num_kv_heads is 3, must be a divisor of num_heads"),
        ({"user_vocab_size": 1}, "user_vocab_size is 1"),
        ({"num_item_hashes": 3}, "num_item_hashes is 3, must be at most the 2 functions"),
        ({"post_age_granularity_mins": 0}, "post_age_granularity_mins is 0"),
        ({"attn_output_multiplier": float("nan")}, "attn_output_multiplier is nan"),
        ({"context_attention": "full"}, "context_attention is 'full', must be 'causal' or 'bidirectional'"),
        ({"right_anchored_rope": 1}, "right_anchored_rope is 1, must be true or false"),
        ({"num_ip_hashes": -1}, "num_ip_hashes is -1"),
        ({"norm_scale": 0}, "norm_scale is 0, must be a positive number"),
        ({"actions": ["favorite"]}, "actions is .*, must be a vocabulary name or a list of num_actions"),
        ({"actions": 3}, "actions is 3"),
        ({"continuous_action_config": {"loss": 1}}, "continuous_action_config is 'loss', must be made of the keys"),
        ({"continuous_action_configs": {"9": {}}}, "continuous_action_configs is 9, must be a column in 0 .. 7"),
        ({"continuous_action_configs": {"x": {}}}, "must be keyed by column numbers"),
        ({"continuous_action_config": {"tweedie_power": 2}}, "tweedie_power is 2, must be between 1 and 2"),
        ({"hash_params": None}, "hash_params is None, must be an object"),
    ],
)
def test_bad_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PhoenixConfig.from_json(PUBLISHED).replace(**change)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("user_modulus", 0, "hash_params of user: modulus is 0, must be in 1"),
        ("item_biases", [1], "hash_params of item: biases is .*, must be as many as scales"),
        ("author_hash_scales", "x", "hash_params.author_hash_scales is 'x', must be a list"),
        ("author_biases", [1.5, 2], "biases is .*, must be a list of 64-bit integers"),
    ],
)
def test_bad_hash_constants_are_named(key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PhoenixConfig.from_json(PUBLISHED | {"hash_params": PUBLISHED["hash_params"] | {key: value}})


def test_missing_keys_are_named() -> None:
    for key in ("emb_size", "hash_params", "item_vocab_size"):
        with pytest.raises(ConfigurationError, match=f"{key} is None, must be"):
            PhoenixConfig.from_json({k: v for k, v in PUBLISHED.items() if k != key})
    with pytest.raises(ConfigurationError, match=r"hash_params\.item_modulus is None, must be given"):
        params = {k: v for k, v in PUBLISHED["hash_params"].items() if k != "item_modulus"}
        PhoenixConfig.from_json(PUBLISHED | {"hash_params": params})
    with pytest.raises(ConfigurationError, match="not valid JSON"):
        PhoenixConfig.from_json("{")
    with pytest.raises(ConfigurationError, match="the configuration is a list"):
        PhoenixConfig.from_json("[]")

"""Random models and requests for tests; weights are scaled so that attention, soft cap and gates all matter."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfast.phoenix import Candidates, EmbeddingTables, Engagements, PhoenixConfig, Tower
from xfast.phoenix.config import HashFamily
from xfast.phoenix.layout import LOG_TEMPERATURE, TowerName, param_shapes

FAMILY = HashFamily((196742702, 1852108266, 371965781), (1935840681, 167407236, 37755056), 2859568897)


def tiny_config(**changes: Any) -> PhoenixConfig:
    """D 8, 2 layers of 2 heads, 6 history slots, 5 candidate slots, 7 actions."""
    sizes: dict[str, Any] = {
        "emb_size": 8, "key_size": 4, "num_heads": 2, "num_layers": 2, "num_actions": 7, "history_seq_len": 6,
        "candidate_seq_len": 5, "num_user_hashes": 2, "num_item_hashes": 2, "num_author_hashes": 2,
        "user_vocab_size": 31, "item_vocab_size": 41, "author_vocab_size": 37, "product_surface_vocab_size": 5,
    }  # fmt: skip
    config = PhoenixConfig(**sizes, user_hash=FAMILY, item_hash=FAMILY, author_hash=FAMILY)
    return config.replace(**changes) if changes else config


def mini_config(**changes: Any) -> PhoenixConfig:
    """The published mini model's sizes, with small tables."""
    return tiny_config(
        **{
            "emb_size": 128, "key_size": 32, "num_heads": 4, "num_layers": 4, "num_actions": 19,
            "history_seq_len": 127, "candidate_seq_len": 64, "user_vocab_size": 500, "item_vocab_size": 500,
            "author_vocab_size": 500, "product_surface_vocab_size": 16, **changes,
        }
    )  # fmt: skip


def random_tower(config: PhoenixConfig, name: TowerName = "ranker", seed: int = 0) -> Tower:
    """A tower with random weights."""
    rng = np.random.default_rng(seed)
    params = {}
    for key, shape in param_shapes(config, name).items():
        if key.endswith("scale"):
            params[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
            continue
        gain = 2.5 if "/query/" in key or "/key/" in key else 1.0
        fan_in = shape[0] if key.endswith("/w") or "proj" in key else 4
        params[key] = (gain * rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)
    if name == "retrieval":
        params[LOG_TEMPERATURE] = np.float32(-1.5).reshape(())
    tables = [
        rng.normal(size=(vocab, config.emb_size)).astype(np.float32)
        for vocab in (config.user_vocab_size, config.item_vocab_size, config.author_vocab_size)
    ]
    return Tower(name, config, params, EmbeddingTables(*tables))


def random_engagements(config: PhoenixConfig, rng: np.random.Generator, valid: Any = None, **given: Any) -> Engagements:
    """A viewer whose history slots are valid where ``valid`` says (all by default)."""
    valid = np.ones(config.history_seq_len, bool) if valid is None else np.asarray(valid, bool)
    size = len(valid)
    fields: dict[str, Any] = {
        "user_id": int(rng.integers(1, 2**62)),
        "post_ids": np.where(valid, rng.integers(1, 2**62, size), 0),
        "author_ids": rng.integers(0, 2**62, size),
        "actions": (rng.random((size, config.num_actions)) < 0.3).astype(np.float32),
        "product_surface": rng.integers(-2, config.product_surface_vocab_size + 2, size),
        "continuous": rng.uniform(-5, 50, (size, 8)).astype(np.float32),
    }
    return Engagements(**{**fields, **given})


def random_candidates(config: PhoenixConfig, rng: np.random.Generator, count: int, **given: Any) -> Candidates:
    """Valid candidates with surfaces and times, some of them out of range or unknown."""
    now = 1_700_000_000
    fields: dict[str, Any] = {
        "post_ids": rng.integers(1, 2**62, count),
        "author_ids": rng.integers(0, 2**62, count),
        "product_surface": rng.integers(-2, config.product_surface_vocab_size + 2, count),
        "impression_ts": np.where(rng.random(count) < 0.2, 0, now),
        "created_ts": now - rng.integers(-7200, 400_000, count),
    }
    return Candidates(**{**fields, **given})

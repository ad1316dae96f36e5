"""Models, requests and operation counts of the measurements. Weights are random: time does not depend on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xfast.phoenix.artifacts import EmbeddingTables, Tower
from xfast.phoenix.config import HashFamily, PhoenixConfig
from xfast.phoenix.features import CandidateFeatures, Candidates, ContextFeatures, Engagements
from xfast.phoenix.layout import TowerName, param_shapes

ROWS = 20_000
FAMILY = HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897)


def config(history: int, **changes: Any) -> PhoenixConfig:
    """The published mini's sizes with another history length."""
    base = PhoenixConfig(
        emb_size=128, key_size=32, num_heads=4, num_layers=4, num_actions=19, history_seq_len=history,
        candidate_seq_len=64, num_user_hashes=2, num_item_hashes=2, num_author_hashes=2, user_vocab_size=ROWS,
        item_vocab_size=ROWS, author_vocab_size=ROWS, user_hash=FAMILY, item_hash=FAMILY, author_hash=FAMILY,
    )  # fmt: skip
    return base.replace(**changes) if changes else base


def long_config() -> PhoenixConfig:
    """The long history of PERFORMANCE §1: 12 layers, D 512, 8/4 heads of 64, 1,023 engagements."""
    return config(
        1023, emb_size=512, key_size=64, num_heads=8, num_kv_heads=4, num_layers=12, widening_factor=4.0,
        user_vocab_size=2000, item_vocab_size=2000, author_vocab_size=2000,
    )  # fmt: skip


def wide_config() -> PhoenixConfig:
    """One production-like layer: D 1,024, 8 heads of 128, 512 tokens of context."""
    return config(
        511, emb_size=1024, key_size=128, num_heads=8, num_layers=1, widening_factor=4.0, user_vocab_size=2000,
        item_vocab_size=2000, author_vocab_size=2000,
    )  # fmt: skip


def tower(size: PhoenixConfig, name: TowerName = "ranker") -> Tower:
    """A tower with random weights."""
    rng = np.random.default_rng(0)
    params = {
        key: np.ones(shape, np.float32)
        if key.endswith("scale")
        else rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
        for key, shape in param_shapes(size, name).items()
    }
    rows = (size.user_vocab_size, size.item_vocab_size, size.author_vocab_size)
    return Tower(
        name, size, params, EmbeddingTables(*(rng.standard_normal((n, size.emb_size), np.float32) for n in rows))
    )


def engagements(slots: int, seed: int = 1) -> Engagements:
    """A viewer with ``slots`` engagements."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 2**62, (2, slots))
    return Engagements(
        int(rng.integers(1, 2**62)), ids[0], ids[1], (rng.random((slots, 19)) < 0.2).astype(np.float32),
        np.zeros(slots, np.int32), rng.exponential(10, (slots, 8)).astype(np.float32),
    )  # fmt: skip


def posts(count: int) -> Candidates:
    """``count`` posts."""
    ids = np.random.default_rng(2).integers(1, 2**62, (2, count))
    return Candidates(ids[0], ids[1])


def viewer(model: Tower) -> ContextFeatures:
    """Gathered features of a viewer with a full history."""
    return ContextFeatures.build(model, engagements(model.config.history_seq_len), compact=False)


def candidates(model: Tower, count: int) -> CandidateFeatures:
    """Gathered features of a list of candidates."""
    return CandidateFeatures.build(model, posts(count))


@dataclass(frozen=True)
class Work:
    """Floating-point operations of a pass, by what they can be computed in."""

    inputs: float
    """Projections of gathered rows: float32 in bfloat16 mode, as published; int8 in int8 mode."""
    layers: float
    """The layers' matrices."""
    attention: float
    """Products with keys and values: bfloat16 in int8 mode."""

    def floor(self, peaks: dict[str, float], precision: str) -> float:
        """Milliseconds at the measured peaks of one core, nothing but these operations."""
        inputs = "float32" if precision == "bfloat16" else precision
        attention = "bfloat16" if precision == "int8" else precision
        parts = ((self.inputs, inputs), (self.layers, precision), (self.attention, attention))
        return sum(work / peaks[peak] for work, peak in parts) / 1e6


def _layer(c: PhoenixConfig) -> float:
    heads = c.key_size * (2 * c.num_heads + 2 * c.num_kv_heads)
    return 2.0 * c.emb_size * (heads + 3 * c.ffn_size)


def score_work(c: PhoenixConfig, count: int) -> Work:
    """Candidates against a cached full context."""
    pairs = count * (c.history_seq_len + 2)
    rows = (c.num_item_hashes + c.num_author_hashes) * c.emb_size
    return Work(
        inputs=2.0 * count * rows * c.emb_size,
        layers=count * c.num_layers * _layer(c),
        attention=4.0 * pairs * c.num_heads * c.key_size * c.num_layers,
    )


def encode_work(c: PhoenixConfig, *, whole: bool) -> Work:
    """A full causal context; ``whole`` says whether the last layer runs to its end (the retrieval tower)."""
    tokens = c.history_seq_len + 1
    pairs = tokens * (tokens + 1) / 2
    layers = c.num_layers if whole else c.num_layers - 1
    last = 0.0 if whole else 2.0 * c.emb_size * 2 * c.num_kv_heads * c.key_size
    rows = (c.num_item_hashes + c.num_author_hashes) * c.emb_size
    return Work(
        inputs=2.0 * tokens * rows * c.emb_size,
        layers=tokens * (layers * _layer(c) + last),
        attention=4.0 * pairs * c.num_heads * c.key_size * layers,
    )

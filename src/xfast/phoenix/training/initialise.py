"""Fresh parameters: what an untrained model of ours starts from.

The published code starts linear weights and norm scales at zero, so an untrained model is constant (PHOENIX §9.9).
Ours: every matrix is normal with standard deviation ``1 / sqrt(fan in)``; those that end a residual branch (attention
output, second feed-forward matrix) half of it; the norm before a branch has scale 1, the norm that closes it 0.3, so
that each of the first layers changes the stream by a fraction; output heads and action rows start at 0.3 and 0.2 of
their fan-in scale; table rows are normal with a standard deviation from the configuration. Row 0 ("no entity") is zero.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from xfast.phoenix.artifacts import EmbeddingTables, Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.layout import LOG_TEMPERATURE, TowerName, param_shapes
from xfast.phoenix.training.config import TrainConfig

__all__ = ["fresh_tower"]

_GAINS = {
    "multi_head_attention/linear/w": 0.5,
    "linear_1/w": 0.5,
    "action_projection": 0.2,
    "unembeddings": 0.3,
    "continuous_unembeddings": 0.3,
}
_NORMS = {"rms_norm_1/scale": 0.3, "rms_norm_3/scale": 0.3}


def fresh_tower(name: TowerName, config: PhoenixConfig, train: TrainConfig, seed: int) -> Tower:
    """An untrained tower; the same for the same seed and configuration."""
    rng = np.random.default_rng([seed, 0])
    params = {key: _fresh(key, shape, rng) for key, shape in param_shapes(config, name).items()}
    if name == "retrieval":
        params[LOG_TEMPERATURE] = np.array(math.log(train.initial_temperature), np.float32)
    tables = {}
    for kind in ("user", "item", "author"):
        rows = getattr(config, f"{kind}_vocab_size")
        table = rng.standard_normal((rows, config.emb_size), np.float32) * np.float32(train.table_init)
        table[0] = 0
        tables[kind] = table
    return Tower(name, config, params, EmbeddingTables(**tables))


def _fresh(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    if key.endswith("/scale"):
        closing = next((value for end, value in _NORMS.items() if key.endswith(end)), 1.0)
        return np.full(shape, closing, np.float32)
    gain = next((value for end, value in _GAINS.items() if key.endswith("/" + end)), 1.0)
    if key.endswith(("surface_embedding_table", "age_embedding_table")):
        return (rng.standard_normal(shape, np.float32) * np.float32(0.05)).astype(np.float32)
    return (rng.standard_normal(shape, np.float32) * np.float32(gain / math.sqrt(shape[0]))).astype(np.float32)

"""The context cache at the published mini model's sizes: what a hit, an append and a stored context cost.

The rival is no cache: encoding the viewer again for every request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from xfast.phoenix import Candidates, ContextCache, Engagements, PhoenixConfig, Ranker, dump_context, load_context
from xfast.phoenix.artifacts import EmbeddingTables, Tower
from xfast.phoenix.config import HashFamily
from xfast.phoenix.layout import param_shapes

FAMILY = HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897)
CONFIG = PhoenixConfig(
    emb_size=128, key_size=32, num_heads=4, num_layers=4, num_actions=19, history_seq_len=127, candidate_seq_len=64,
    num_user_hashes=2, num_item_hashes=2, num_author_hashes=2, user_vocab_size=5000, item_vocab_size=5000,
    author_vocab_size=5000, user_hash=FAMILY, item_hash=FAMILY, author_hash=FAMILY,
)  # fmt: skip


def make_ranker(precision: Any = "float32") -> Ranker:
    """The mini model with random weights."""
    rng = np.random.default_rng(0)
    params = {
        key: np.ones(shape, np.float32)
        if key.endswith("scale")
        else (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        for key, shape in param_shapes(CONFIG, "ranker").items()
    }
    tables = [rng.normal(size=(5000, 128)).astype(np.float32) for _ in range(3)]
    return Ranker(Tower("ranker", CONFIG, params, EmbeddingTables(*tables)), engine="native", precision=precision)


def make_viewer(tokens: int, seed: int = 1) -> Engagements:
    """A viewer with a history of valid tokens."""
    rng = np.random.default_rng(seed)
    return Engagements(
        int(rng.integers(1, 2**62)), rng.integers(1, 2**62, tokens), rng.integers(1, 2**62, tokens),
        (rng.random((tokens, 19)) < 0.2).astype(np.float32), np.zeros(tokens, np.int32),
        rng.exponential(10, (tokens, 8)).astype(np.float32),
    )  # fmt: skip


class Context:
    """Encoding against remembering."""

    params = ([16, 126],)
    param_names = ("history",)

    def setup(self, tokens: int) -> None:
        """One cached viewer."""
        self.ranker = make_ranker()
        self.now = make_viewer(tokens)
        self.before = self.now.cut(tokens - 1)
        self.cache = ContextCache(self.ranker)
        self.cache.encode(self.now)
        self.old = self.ranker.encode(self.before)
        self.stored = dump_context(self.ranker, self.ranker.encode(self.now))
        self.dense = dump_context(self.ranker, self.ranker.encode(self.now), storage="int8")

    def time_encode_without_cache(self, tokens: int) -> None:
        """The rival."""
        self.ranker.encode(self.now)

    def time_hit(self, tokens: int) -> None:
        """Digest and look up."""
        self.cache.encode(self.now)

    def time_append_one(self, tokens: int) -> None:
        """One engagement more."""
        self.ranker.append(self.old, self.now)

    def time_load_exact(self, tokens: int) -> None:
        """From a shared store."""
        load_context(self.ranker, self.stored)

    def time_load_int8(self, tokens: int) -> None:
        """From a shared store, or a hit with ``storage="int8"``."""
        load_context(self.ranker, self.dense)

    def track_stored_share_int8(self, tokens: int) -> float:
        """Bytes of an int8 context over those of an exact one."""
        return len(self.dense) / len(self.stored)


class Batch:
    """Many viewers with short lists: one call against one per viewer."""

    def setup(self) -> None:
        """Sixteen viewers, eight posts each."""
        self.ranker = make_ranker()
        self.contexts = [self.ranker.encode(make_viewer(32, seed)) for seed in range(16)]
        rng = np.random.default_rng(2)
        some = Candidates(rng.integers(1, 2**62, 8), rng.integers(1, 2**62, 8))
        self.lists = [replace(some) for _ in self.contexts]

    def time_score_batch(self) -> None:
        """One loop over (viewer, tile)."""
        self.ranker.score_batch(self.contexts, self.lists)

    def time_score_one_by_one(self) -> None:
        """The rival."""
        for context, some in zip(self.contexts, self.lists, strict=True):
            self.ranker.score(context, some)

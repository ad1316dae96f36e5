"""The context cache at the published mini model's sizes: what a hit, an append and a stored context cost.

The rival is no cache: encoding the viewer again for every request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.phoenix_models import config, engagements, posts, tower
from xfast.phoenix import ContextCache, Ranker, dump_context, load_context


def make_ranker(precision: Any = "float32", kv_precision: Any = None) -> Ranker:
    """The mini model with random weights."""
    return Ranker(tower(config(127)), engine="native", precision=precision, kv_precision=kv_precision)


class Context:
    """Encoding against remembering."""

    params = ([16, 126],)
    param_names = ("history",)

    def setup(self, tokens: int) -> None:
        """One cached viewer."""
        self.ranker = make_ranker()
        self.now = engagements(tokens)
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

    def track_bytes_int8_in_memory(self, tokens: int) -> int:
        """Bytes of a context of a ranker that keeps int8 keys and values."""
        return make_ranker(kv_precision="int8").encode(self.now).nbytes

    def track_bytes_in_memory(self, tokens: int) -> int:
        """The same in float32."""
        return self.old.nbytes

    def track_stored_share_int8(self, tokens: int) -> float:
        """Bytes of an int8 context over those of an exact one."""
        return len(self.dense) / len(self.stored)


class Batch:
    """Many viewers with short lists: one call against one per viewer."""

    def setup(self) -> None:
        """Sixteen viewers, eight posts each."""
        self.ranker = make_ranker()
        self.contexts = [self.ranker.encode(engagements(32, seed)) for seed in range(16)]
        some = posts(8)
        self.lists = [replace(some) for _ in self.contexts]

    def time_score_batch(self) -> None:
        """One loop over (viewer, tile)."""
        self.ranker.score_batch(self.contexts, self.lists)

    def time_score_one_by_one(self) -> None:
        """The rival."""
        for context, some in zip(self.contexts, self.lists, strict=True):
            self.ranker.score(context, some)

"""The native engine: C++ kernels chosen for the processor at run time (csrc/phoenix), no JAX import.

A candidate's scores are bit-equal in any batch, order and company, with any number of threads, for a given instruction
set and precision (default RoPE: given its slot).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.phoenix import _engine, _native
from xfast.phoenix.engines import EngineScores, Precision, available_threads
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.tower import EmbeddingRows, Tower

__all__ = ["NativeRanker", "NativeRetrieval"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
_DWELL_COLUMN = 1


def _kv_precision(precision: Precision, wanted: Precision | None) -> Precision:
    """What contexts are kept in: no wider than what attention computes in, which is bfloat16 beside int8 weights."""
    widest: Precision = "float32" if precision == "float32" else "bfloat16"
    if wanted not in (None, "float32", "bfloat16", "int8"):
        raise ParameterError(f"kv_precision is {wanted!r}, must be one of float32, bfloat16, int8")
    if wanted == "float32" and widest != "float32":
        raise ParameterError(f"kv_precision is 'float32', must be bfloat16 or int8 with precision={precision!r}")
    return wanted or widest


def _spec(tower: Tower, precision: Precision, kv_precision: Precision, isa: str | None) -> dict[str, Any]:
    config = tower.config
    norm = config.continuous_config(_DWELL_COLUMN).norm_config
    return {
        "emb": config.emb_size,
        "layers": config.num_layers,
        "query_heads": config.num_heads,
        "kv_heads": config.num_kv_heads,
        "head": config.key_size,
        "ffn": config.ffn_size,
        "attention_multiplier": config.attn_output_multiplier,
        "causal": config.context_attention == "causal",
        "precision": precision,
        "kv_precision": kv_precision,
        "isa": isa or _native.isa(),
        "user_hashes": config.num_user_hashes,
        "item_hashes": config.num_item_hashes,
        "author_hashes": config.num_author_hashes,
        "actions": config.num_actions,
        "continuous": config.num_continuous_actions,
        "dwell_hidden": config.continuous_action_hidden_dim,
        "dwell_scale": norm.norm_scale,
        "dwell_log": norm.use_log,
    }


def _params(tower: Tower) -> dict[str, F32]:
    return {key: np.ascontiguousarray(value, np.float32) for key, value in tower.params.items()}


def _rows(rows: EmbeddingRows) -> F32 | tuple[F32, I32]:
    """A table that the engine can gather from, and which rows; or the rows."""
    return rows.source or rows.values


def _history(context: ContextFeatures) -> tuple[Any, Any, I32, F32, I32, F32]:
    """What the engine takes of a viewer's history; it works on valid tokens only."""
    kept: Any = slice(None)
    positions = context.positions
    if not context.valid.all():
        kept = context.valid
        positions = np.concatenate([positions[:1], positions[1:][kept]])
    return (
        _rows(context.posts[kept]), _rows(context.authors[kept]), positions, context.actions[kept],
        context.product_surface[kept], context.dwell[kept],
    )  # fmt: skip


def _user(context: ContextFeatures) -> tuple[bool, F32, F32 | None]:
    ip_sum = None if context.ip_embeddings is None else context.ip_embeddings.sum(axis=0)
    return context.user_valid, context.user_embeddings, ip_sum


class NativeRanker:
    """The ranker in C++; see :class:`xfast.phoenix.engines.RankerEngine`.

    ``isa`` names an instruction set at or below the processor's (tests compare them); None is the best one.
    ``kv_precision`` is what encoded contexts are kept in; None is what attention computes in.
    """

    name = "native"

    def __init__(
        self,
        tower: Tower,
        precision: Precision,
        *,
        kv_precision: Precision | None = None,
        isa: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.precision: Precision = precision
        self.kv_precision = _kv_precision(precision, kv_precision)
        """What contexts hold. int8 has one scale per layer, key head and token."""
        self.identity = f"native {isa or _native.isa()} {self.kv_precision} keys"
        self.threads = threads or available_threads()
        """How many threads work on one call."""
        self._model = _engine.RankerTower(_params(tower), _spec(tower, precision, self.kv_precision, isa))

    @property
    def number(self) -> int:
        """What compiled XLA programs call this engine (:mod:`xfast.phoenix.ffi`)."""
        return self._model.number

    def jit_context_bytes(self, room: int) -> int:
        """Bytes of a context with room for so many tokens in an XLA program."""
        return self._model.context_bytes(room)

    @property
    def weight_bytes(self) -> int:
        """Memory of the packed dense parameters."""
        return self._model.weight_bytes

    def encode(self, context: ContextFeatures) -> _engine.Context:
        """Keys and values of the valid tokens."""
        return self._model.encode(_user(context), _history(context), self.threads)

    def append(self, encoded: _engine.Context, tokens: ContextFeatures) -> _engine.Context:
        """A context with valid history ``tokens`` behind its own; bit-equal to encoding everything (causal only).

        The user of ``tokens`` is not looked at.
        """
        return self._model.append(encoded, _history(tokens), self.threads)

    def keys_values(self, encoded: _engine.Context) -> tuple[F32, F32]:
        """Keys (rotated) and values, each [layers, kv_heads, tokens, head]; exact whatever the cache holds."""
        return encoded.unpack()

    def restore(self, keys: F32, values: F32) -> _engine.Context:
        """The inverse of :meth:`keys_values`; rounds to what the engine's caches hold."""
        return self._model.restore(keys, values)

    def context_bytes(self, encoded: _engine.Context) -> int:
        """Bytes of keys and values."""
        return encoded.nbytes

    def score(self, encoded: _engine.Context, candidates: CandidateFeatures) -> EngineScores:
        """Score any number of candidates."""
        return self.score_batch([encoded], [candidates])[0]

    def score_batch(
        self, encoded: Sequence[_engine.Context], candidates: Sequence[CandidateFeatures]
    ) -> list[EngineScores]:
        """Score several viewers' lists in one loop over (viewer, tile) tasks."""
        columns = [
            (_rows(c.posts), _rows(c.authors), c.valid, c.positions, c.product_surface, c.age_bucket)
            for c in candidates
        ]
        return [EngineScores(*scores) for scores in self._model.score(encoded, columns, self.threads)]

    def score_full(self, context: ContextFeatures, candidates: CandidateFeatures) -> EngineScores:
        """The same as through a cache: this engine has no other way, and its cache is exact."""
        return self.score(self.encode(context), candidates)

    def warmup(self, candidate_counts: Sequence[int], batch_sizes: Sequence[int]) -> None:
        """Nothing to do: kernels are compiled with the package."""


class NativeRetrieval:
    """The retrieval towers in C++; see :class:`xfast.phoenix.engines.RetrievalEngine`."""

    name = "native"

    def __init__(
        self, tower: Tower, precision: Precision, *, isa: str | None = None, threads: int | None = None
    ) -> None:
        self.precision: Precision = precision
        self._threads = threads or available_threads()
        spec = _spec(tower, precision, _kv_precision(precision, None), isa)
        self._model = _engine.RetrievalTower(_params(tower), spec, tower.config.enable_linear_proj)

    def encode(self, context: ContextFeatures) -> tuple[F32, float]:
        """User vector [D] and its length before normalising."""
        return self._model.encode((context.user_valid, context.user_embeddings, None), _history(context), self._threads)

    def encode_candidates(self, post_embeddings: F32, author_embeddings: F32) -> F32:
        """Candidate vectors [C, D]."""
        return self._model.encode_candidates(post_embeddings, author_embeddings, self._threads)

    def warmup(self, candidate_counts: Sequence[int]) -> None:
        """Nothing to do: kernels are compiled with the package."""

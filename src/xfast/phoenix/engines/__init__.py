"""Engines: what runs the models. An engine gets gathered features and gives float32 arrays; the facades do the rest.

``xla`` runs the JAX definition, ``native`` the C++ kernels; another engine plugs in by giving the same few methods and
a line in :func:`ranker_engine` and :func:`retrieval_engine`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.phoenix import _native
from xfast.phoenix.features import CandidateFeatures, ContextFeatures

if TYPE_CHECKING:
    from xfast.phoenix.artifacts import Tower

__all__ = [
    "EngineName",
    "EngineScores",
    "Precision",
    "RankerEngine",
    "RetrievalEngine",
    "available_threads",
    "engine_status",
    "ranker_engine",
    "retrieval_engine",
]

F32 = npt.NDArray[np.float32]
EngineName = Literal["auto", "native", "xla", "pallas"]
Precision = Literal["float32", "bfloat16", "int8"]


class EngineScores(NamedTuple):
    """What a ranker engine returns, float32 whatever it computes in."""

    logits: F32
    """[C, A]"""
    probabilities: F32
    """[C, A]"""
    continuous: F32
    """[C, n_continuous]"""


class RankerEngine(Protocol):
    """Runs the ranker. Its contexts are opaque to everyone else and may be kept and shared between threads."""

    @property
    def name(self) -> str:
        """``xla``, ``native``, …"""

    @property
    def identity(self) -> str:
        """Name and whatever else decides about the last bits: instruction set, compiler version, device."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    def encode(self, context: ContextFeatures) -> Any:
        """Keys and values of a context."""

    def context_bytes(self, encoded: Any) -> int:
        """Memory that an encoded context holds."""

    def score(self, encoded: Any, candidates: CandidateFeatures) -> EngineScores:
        """Score any number (>= 1) of candidates against an encoded context."""

    def score_batch(self, encoded: Sequence[Any], candidates: Sequence[CandidateFeatures]) -> list[EngineScores]:
        """Score several viewers' lists (each >= 1 candidate) at once."""

    def score_full(self, context: ContextFeatures, candidates: CandidateFeatures) -> EngineScores:
        """Score without a cache, every slot of the context (built with ``compact=False``) in the pass."""

    def warmup(self, candidate_counts: Sequence[int], batch_sizes: Sequence[int]) -> None:
        """Compile or allocate ahead for contexts of any length and these sizes."""


class RetrievalEngine(Protocol):
    """Runs the two towers of retrieval."""

    @property
    def name(self) -> str:
        """``xla``, ``native``, …"""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    def encode(self, context: ContextFeatures) -> tuple[F32, float]:
        """User vector [D] of unit length, and its length before normalising."""

    def encode_candidates(self, post_embeddings: F32, author_embeddings: F32) -> F32:
        """Candidate vectors [C, D] of unit length from rows [C, n_item, D] and [C, n_author, D]."""

    def warmup(self, candidate_counts: Sequence[int]) -> None:
        """Compile or allocate ahead."""


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _accelerator() -> str | None:
    """The platform of JAX's default device where the program already uses JAX on one; JAX is not imported for this."""
    jax = sys.modules.get("jax")
    backend = "cpu" if jax is None else jax.default_backend()
    return None if backend == "cpu" else str(backend)


def engine_status() -> dict[EngineName, str]:
    """Which engines run here and in what; ``available`` or the reason why not."""
    return {
        "native": f"available: C++ kernels for {_native.isa()}; float32, bfloat16, int8; bit-equal scores",
        "xla": "available: the JAX definition; float32, bfloat16, int8",
        "pallas": "available: kernels for TPU, Hopper (Mosaic), other GPUs (Triton); on a CPU interpreted, for tests",
    }


def _resolve(engine: str, precision: str) -> Literal["native", "xla", "pallas"]:
    if engine not in ("auto", "native", "xla", "pallas"):
        raise ParameterError(f"engine is {engine!r}, must be one of auto, native, xla, pallas")
    if precision not in ("float32", "bfloat16", "int8"):
        raise ParameterError(f"precision is {precision!r}, must be one of float32, bfloat16, int8")
    if engine == "auto":
        return "pallas" if _accelerator() in ("gpu", "tpu") else "native"
    return cast(Literal["native", "xla", "pallas"], engine)


def ranker_engine(
    tower: Tower, engine: str, precision: str, *, deterministic: bool, kv_precision: Precision | None = None
) -> RankerEngine:
    """Build the engine that ``engine`` names; ``auto`` is ``native`` on CPUs, ``pallas`` where JAX has a GPU or TPU.

    ``kv_precision`` is what the native engine keeps contexts in; None is what it computes attention in.

    Raises
    ------
    ParameterError
        An unknown engine or precision.
    NotImplementedError
        One that cannot run, with the reason.
    """
    chosen = _resolve(engine, precision)
    if chosen == "native":
        from xfast.phoenix.engines.native import NativeRanker

        return NativeRanker(tower, cast(Precision, precision), kv_precision=kv_precision)
    held = "bfloat16" if precision == "int8" else precision
    if kv_precision not in (None, held):
        raise NotImplementedError(
            f"kv_precision={kv_precision!r}: the {chosen} engine keeps contexts in its precision ({held!r}), it "
            "takes engine='native'"
        )
    from xfast.phoenix.engines.xla import XlaRanker, attention_kernel

    kernel = attention_kernel() if chosen == "pallas" else None
    return XlaRanker(tower, precision, deterministic=deterministic, kernel=kernel)


def retrieval_engine(tower: Tower, engine: str, precision: str) -> RetrievalEngine:
    """Build the engine that ``engine`` names; see :func:`ranker_engine`."""
    chosen = _resolve(engine, precision)
    if chosen == "native":
        from xfast.phoenix.engines.native import NativeRetrieval

        return NativeRetrieval(tower, cast(Precision, precision))
    from xfast.phoenix.engines.xla import XlaRetrieval, attention_kernel

    return XlaRetrieval(tower, precision, kernel=attention_kernel() if chosen == "pallas" else None)

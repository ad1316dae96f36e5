"""The XLA engine: the JAX definition, jitted at a few fixed sizes so that a service does not compile per request.

Contexts are padded to one of the :func:`history_buckets`, candidate lists to one of the ``CANDIDATE_BUCKETS``; longer
lists run in chunks of the largest one. Padding is masked, so it changes nothing but the last bits; ``deterministic``
uses one size for everything and loses these, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from xfast.phoenix import cached, model
from xfast.phoenix.cached import ContextCache, Kernel
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.engines import EngineScores, Precision
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.hashing import Kind
from xfast.phoenix.int8_weight import int8_layers
from xfast.phoenix.model import CandidateInputs, ContextInputs, RankerOutput
from xfast.phoenix.tower import EmbeddingRows, EmbeddingTables, Tower

__all__ = [
    "CANDIDATE_BUCKETS",
    "DETERMINISTIC_CHUNK",
    "XlaRanker",
    "XlaRetrieval",
    "candidate_inputs",
    "context_inputs",
    "history_buckets",
]

F32 = npt.NDArray[np.float32]
CANDIDATE_BUCKETS = (8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
DETERMINISTIC_CHUNK = 64
# Users per call: beyond this a batch gains nothing on a CPU and pads more.
MAX_BATCH = 16


def history_buckets(history_seq_len: int) -> tuple[int, ...]:
    """Padded history lengths of a model: 8, 16, 32, … and the model's own."""
    sizes = [8]
    while sizes[-1] * 2 < history_seq_len:
        sizes.append(sizes[-1] * 2)
    return (*(size for size in sizes if size < history_seq_len), history_seq_len)


def _bucket(size: int, buckets: Sequence[int]) -> int:
    return next(bucket for bucket in buckets if bucket >= size)


def _pad(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    if len(array) == size:
        return array
    padded = np.zeros((size, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def context_inputs(context: ContextFeatures, size: int, emb_size: int, ip: bool) -> tuple[ContextInputs, Any]:
    """One viewer padded to ``size`` history tokens, with a batch axis, and the positions [1, 1+size]."""
    total = None
    if ip:  # one row that holds the sum: absent and any number of IP hashes share a shape
        total = np.zeros((1, 1, emb_size), np.float32)
        if context.ip_embeddings is not None:
            total[0, 0] = context.ip_embeddings.sum(axis=0)
    inputs = ContextInputs(
        user_embeddings=context.user_embeddings[None],
        user_valid=np.array([context.user_valid]),
        post_embeddings=_pad(context.post_embeddings, size)[None],
        author_embeddings=_pad(context.author_embeddings, size)[None],
        valid=_pad(context.valid, size)[None],
        actions=_pad(context.actions, size)[None],
        product_surface=_pad(context.product_surface, size)[None],
        dwell=_pad(context.dwell, size)[None],
        ip_embeddings=total,
    )
    return inputs, _pad(context.positions, 1 + size)[None]


def candidate_inputs(candidates: Sequence[CandidateFeatures], size: int, rows: int) -> tuple[CandidateInputs, Any]:
    """Lists padded to ``size`` candidates and ``rows`` lists, and the positions [rows, size]."""

    def stack(name: str) -> npt.NDArray[Any]:
        return _pad(np.stack([_pad(getattr(c, name), size) for c in candidates]), rows)

    names = ("post_embeddings", "author_embeddings", "valid", "product_surface", "age_bucket")
    return CandidateInputs(*(stack(name) for name in names)), stack("positions")


def _part(candidates: CandidateFeatures, part: slice) -> CandidateFeatures:
    return CandidateFeatures(
        candidates.posts[part],
        candidates.authors[part],
        candidates.valid[part],
        candidates.positions[part],
        candidates.product_surface[part],
        candidates.age_bucket[part],
    )


# The jitted functions live here, not in the classes: models of one configuration share what is compiled.
_jit: Callable[..., Any] = partial(jax.jit, static_argnames=("config", "dtype"))


def _with_probabilities(output: RankerOutput) -> tuple[jax.Array, ...]:
    # The sigmoid runs in the logits' dtype, as published (PHOENIX §4).
    return output.logits, jax.nn.sigmoid(output.logits), output.continuous


def _fetch(outputs: Sequence[jax.Array]) -> list[F32]:
    # Widened here, not in the jitted function: there XLA would keep the digits that bfloat16 is to round away.
    return [np.asarray(x).astype(np.float32, copy=False) for x in jax.device_get(outputs)]


@_jit
def _encode(params: Any, context: Any, positions: Any, *, config: PhoenixConfig, dtype: Any) -> ContextCache:
    return cached.encode_context(params, config, context, positions, dtype)


@partial(jax.jit, static_argnames=("config", "dtype", "kernel"))
def _score(
    params: Any, cache: Any, candidates: Any, positions: Any, *, config: PhoenixConfig, dtype: Any, kernel: Any
) -> Any:
    return _with_probabilities(cached.score_candidates(params, config, cache, candidates, positions, dtype, kernel))


@_jit
def _score_full(params: Any, context: Any, candidates: Any, slots: Any, *, config: PhoenixConfig, dtype: Any) -> Any:
    return _with_probabilities(model.ranker(params, config, context, candidates, slots, dtype))


@_jit
def _user_vector(params: Any, context: Any, positions: Any, *, config: PhoenixConfig, dtype: Any) -> Any:
    return cached.user_vector(params, config, context, positions, dtype)


@_jit
def _candidate_tower(params: Any, posts: Any, authors: Any, *, config: PhoenixConfig, dtype: Any) -> jax.Array:
    return model.candidate_tower(params, config, posts, authors)


def _device_params(params: Mapping[str, F32], precision: str, kernel: Kernel | None) -> tuple[dict[str, Any], Any]:
    """Parameters on the device, and what to compute in; what every linear layer would round is rounded once.

    int8 quantises the layers' matrices; token projections and heads stay float32, and what flows between the products
    is bfloat16, as in the native engine.
    """
    dtype = jnp.float32 if precision == "float32" else jnp.bfloat16
    layers: Mapping[str, Any] = {key: jnp.asarray(value, dtype) for key, value in params.items() if key.endswith("/w")}
    if precision == "int8":
        layers = int8_layers(params, *(kernel or Kernel("xla", interpret=False)))
    others = {key: jnp.asarray(value, jnp.float32) for key, value in params.items() if not key.endswith("/w")}
    return {**others, **layers}, dtype


def attention_kernel() -> Kernel:
    """The best attention kernel for JAX's default device; on a CPU the TPU's, interpreted."""
    return Kernel("mosaic_tpu", interpret=True) if jax.default_backend() == "cpu" else Kernel(None, interpret=False)


class _Encoded(NamedTuple):
    cache: ContextCache
    bucket: int


class XlaRanker:
    """The ranker on XLA; see :class:`xfast.phoenix.engines.RankerEngine`.

    With ``kernel`` the candidates' attention and the int8 products run in Pallas kernels, and the engine calls itself
    ``pallas``.
    """

    def __init__(self, tower: Tower, precision: str, *, deterministic: bool, kernel: Kernel | None = None) -> None:
        self.name = "xla" if kernel is None else "pallas"
        self.identity = f"{self.name} {jax.__version__} {jax.default_backend()}"
        self._kernel = kernel
        self.precision: Precision = cast(Precision, precision)
        self._config = tower.config
        self._params, dtype = _device_params(tower.params, precision, kernel)
        self._static = {"config": tower.config, "dtype": dtype}
        self._deterministic = deterministic
        size = tower.config.history_seq_len
        self._history_buckets = (size,) if deterministic else history_buckets(size)
        self._candidate_buckets = (DETERMINISTIC_CHUNK,) if deterministic else CANDIDATE_BUCKETS

    def _context(self, context: ContextFeatures, size: int) -> tuple[ContextInputs, Any]:
        return context_inputs(context, size, self._config.emb_size, self._config.num_ip_hashes > 0)

    def encode(self, context: ContextFeatures) -> _Encoded:
        """Keys and values of a context, padded to a bucket."""
        size = _bucket(len(context.valid), self._history_buckets)
        inputs, positions = self._context(context, size)
        return _Encoded(_encode(self._params, inputs, positions, **self._static), size)

    def context_bytes(self, encoded: _Encoded) -> int:
        """Bytes of keys and values, padding included."""
        return int(encoded.cache.keys.nbytes + encoded.cache.values.nbytes + encoded.cache.valid.nbytes)

    def score(self, encoded: _Encoded, candidates: CandidateFeatures) -> EngineScores:
        """Score a list, in chunks of the largest bucket where it is longer."""
        largest = self._candidate_buckets[-1]
        parts = [self._score_some(encoded.cache, [_part(candidates, slice(at, at + largest))], 1)[0]
                 for at in range(0, len(candidates), largest)]  # fmt: skip
        return parts[0] if len(parts) == 1 else EngineScores(*(np.concatenate(columns) for columns in zip(*parts)))

    def _score_some(
        self, cache: ContextCache, candidates: Sequence[CandidateFeatures], rows: int
    ) -> list[EngineScores]:
        size = _bucket(max(len(c) for c in candidates), self._candidate_buckets)
        inputs, positions = candidate_inputs(candidates, size, rows)
        outputs = _fetch(_score(self._params, cache, inputs, positions, kernel=self._kernel, **self._static))
        return [EngineScores(*(x[i, : len(c)] for x in outputs)) for i, c in enumerate(candidates)]

    def score_batch(self, encoded: Sequence[_Encoded], candidates: Sequence[CandidateFeatures]) -> list[EngineScores]:
        """Score several lists: those of one padded size run together, up to ``MAX_BATCH`` at a time."""
        results: list[EngineScores | None] = [None] * len(encoded)
        groups: dict[tuple[int, int], list[int]] = {}
        largest = self._candidate_buckets[-1]
        for i, (context, some) in enumerate(zip(encoded, candidates, strict=True)):
            if self._deterministic or len(some) > largest:
                results[i] = self.score(context, some)
            else:
                groups.setdefault((context.bucket, _bucket(len(some), self._candidate_buckets)), []).append(i)
        for members in groups.values():
            for at in range(0, len(members), MAX_BATCH):
                chosen = members[at : at + MAX_BATCH]
                rows = 1 << (len(chosen) - 1).bit_length()
                # A short batch repeats its first context; the rows are thrown away.
                caches = [encoded[i].cache for i in chosen] + [encoded[chosen[0]].cache] * (rows - len(chosen))
                scores = self._score_some(_concatenate(caches), [candidates[i] for i in chosen], rows)
                for i, score in zip(chosen, scores, strict=True):
                    results[i] = score
        return [score for score in results if score is not None]

    def score_full(self, context: ContextFeatures, candidates: CandidateFeatures) -> EngineScores:
        """One uncached pass of :func:`xfast.phoenix.model.ranker`, at exactly these sizes."""
        inputs, _ = self._context(context, len(context.valid))
        batch, positions = candidate_inputs([candidates], len(candidates), 1)
        slots = positions - (1 + context.history_slots)
        outputs = _fetch(_score_full(self._params, inputs, batch, slots, **self._static))
        return EngineScores(*(x[0] for x in outputs))

    def warmup(self, candidate_counts: Sequence[int], batch_sizes: Sequence[int]) -> None:
        """Compile every history bucket with these candidate counts and batch sizes."""
        config = self._config
        for size in self._history_buckets:
            encoded = self.encode(_empty_context(config, size))
            for count in candidate_counts:
                some = _empty_candidates(config, count)
                self.score(encoded, some)
                for rows in batch_sizes:
                    if rows > 1:
                        self.score_batch([encoded] * rows, [some] * rows)


def _concatenate(caches: Sequence[ContextCache]) -> ContextCache:
    if len(caches) == 1:
        return caches[0]
    return ContextCache(
        jnp.concatenate([c.keys for c in caches], axis=1),
        jnp.concatenate([c.values for c in caches], axis=1),
        jnp.concatenate([c.valid for c in caches], axis=0),
    )


def _nobody(kind: Kind, shape: tuple[int, int], width: int) -> EmbeddingRows:
    nothing = np.zeros((1, width), np.float32)
    return EmbeddingRows(EmbeddingTables(nothing, nothing, nothing), kind, np.zeros(shape, np.int32))


def _empty_context(config: PhoenixConfig, size: int) -> ContextFeatures:
    d = config.emb_size
    return ContextFeatures(
        history_slots=config.history_seq_len,
        user_embeddings=np.zeros((config.num_user_hashes, d), np.float32),
        user_valid=True,
        posts=_nobody("item", (size, config.num_item_hashes), d),
        authors=_nobody("author", (size, config.num_author_hashes), d),
        valid=np.zeros(size, bool),
        positions=np.zeros(1 + size, np.int32),
        actions=np.zeros((size, config.num_actions), np.float32),
        product_surface=np.zeros(size, np.int32),
        dwell=np.zeros(size, np.float32),
        ip_embeddings=None,
    )


def _empty_candidates(config: PhoenixConfig, count: int) -> CandidateFeatures:
    zeros = np.zeros(count, np.int32)
    return CandidateFeatures(
        posts=_nobody("item", (count, config.num_item_hashes), config.emb_size),
        authors=_nobody("author", (count, config.num_author_hashes), config.emb_size),
        valid=np.zeros(count, bool),
        positions=zeros,
        product_surface=zeros,
        age_bucket=zeros,
    )


class XlaRetrieval:
    """The retrieval towers on XLA; see :class:`xfast.phoenix.engines.RetrievalEngine`."""

    name = "xla"

    def __init__(self, tower: Tower, precision: str, *, kernel: Kernel | None = None) -> None:
        self.precision: Precision = cast(Precision, precision)
        self._config = tower.config
        self._params, dtype = _device_params(tower.params, precision, kernel)
        self._static = {"config": tower.config, "dtype": dtype}
        self._buckets = history_buckets(tower.config.history_seq_len)

    def encode(self, context: ContextFeatures) -> tuple[F32, float]:
        """User vector [D] and its length before normalising."""
        size = _bucket(len(context.valid), self._buckets)
        inputs, positions = context_inputs(context, size, self._config.emb_size, ip=False)
        vector, norm = jax.device_get(_user_vector(self._params, inputs, positions, **self._static))
        return vector[0], float(norm[0, 0])

    def encode_candidates(self, post_embeddings: F32, author_embeddings: F32) -> F32:
        """Candidate vectors [C, D], in chunks of the largest bucket."""
        largest = CANDIDATE_BUCKETS[-1]
        vectors = []
        for at in range(0, len(post_embeddings), largest):
            posts, authors = post_embeddings[at : at + largest], author_embeddings[at : at + largest]
            size = _bucket(len(posts), CANDIDATE_BUCKETS)
            chunk = _candidate_tower(self._params, _pad(posts, size), _pad(authors, size), **self._static)
            vectors.append(np.asarray(chunk)[: len(posts)])
        return np.concatenate(vectors) if vectors else np.zeros((0, self._config.emb_size), np.float32)

    def warmup(self, candidate_counts: Sequence[int]) -> None:
        """Compile every history bucket, and the candidate tower at these counts."""
        for size in self._buckets:
            self.encode(_empty_context(self._config, size))
        for count in candidate_counts:
            some = _empty_candidates(self._config, count)
            self.encode_candidates(some.post_embeddings, some.author_embeddings)

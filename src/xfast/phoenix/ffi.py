"""The native ranker inside ``jax.jit``, as XLA FFI calls to the functions that :class:`~xfast.phoenix.Ranker` calls.

For programs that hold a viewer's features as JAX arrays and want scores in the middle of a compiled function: a
reranker, an evaluation, a policy on top of the ranker. Serving needs none of this and never imports JAX.

The functions take batches, the structures of :mod:`xfast.phoenix.model`, and positions as in
:mod:`xfast.phoenix.cached`. A context is an array of bytes [B, n] in the engine's own layout, of fixed size, whatever
the viewer's history. Results are bit-equal to :meth:`Ranker.encode <xfast.phoenix.Ranker.encode>` and
:meth:`Ranker.score <xfast.phoenix.Ranker.score>`. Work is shared over XLA's thread pool; the calling thread works, too,
and waits for no helper that has not begun.

A compiled function knows its ranker by number and does not keep it alive: one that is called after the ranker is gone
fails. There are no derivatives, and ``vmap`` is refused, because the batch axis is there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from xfast.phoenix import _engine
from xfast.phoenix.engines.native import NativeRanker

if TYPE_CHECKING:
    from xfast.phoenix.model import CandidateInputs, ContextInputs
    from xfast.phoenix.ranker import Ranker

__all__ = ["JitScores", "append", "encode", "score"]

for _name, _handler in _engine.ffi_handlers.items():
    jax.ffi.register_ffi_target(_name, _handler, platform="cpu")


class JitScores(NamedTuple):
    """Scores of a batch of candidate lists, float32."""

    logits: Array
    """[B, C, A]"""
    probabilities: Array
    """[B, C, A]"""
    continuous: Array
    """[B, C, n_continuous] in (0, 1)"""


def _native(ranker: Ranker) -> NativeRanker:
    return ranker.native_engine("xfast.phoenix.ffi")


def _attributes(engine: NativeRanker, **sizes: int) -> dict[str, Any]:
    numbers = {"ranker": engine.number, "threads": engine.threads, **sizes}
    return {name: np.int64(number) for name, number in numbers.items()}


def _array(shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)  # type: ignore[no-untyped-call]


def _history(context: ContextInputs, positions: Array) -> tuple[Array, ...]:
    return (
        context.post_embeddings, context.author_embeddings, context.valid, positions, context.actions,
        context.product_surface, context.dwell,
    )  # fmt: skip


def encode(ranker: Ranker, context: ContextInputs, positions: Array, *, room: int | None = None) -> Array:
    """Encode a batch of viewers.

    Parameters
    ----------
    ranker
        One with the native engine.
    context
        Arrays [B, ...] with any number of history slots; invalid ones cost nothing.
    positions : [B, 1+S] i32
        RoPE positions of user and slots (:func:`xfast.phoenix.model.context_positions`).
    room
        Tokens that a context has room for, the user included; by default ``1 + history_seq_len``.

    Returns
    -------
    [B, n] u8
        Contexts for :func:`score` and :func:`append`.

    Raises
    ------
    NotImplementedError
        The ranker's engine is another one.
    """
    engine = _native(ranker)
    batch, slots = context.valid.shape
    room = max(1 + ranker.config.history_seq_len, 1 + slots) if room is None else room
    ip = jnp.zeros((batch, 0), jnp.float32) if context.ip_embeddings is None else context.ip_embeddings.sum(axis=1)
    call: Any = jax.ffi.ffi_call("xfast_phoenix_encode", _array((batch, engine.jit_context_bytes(room)), jnp.uint8))
    contexts: Array = call(
        context.user_embeddings, context.user_valid, ip, *_history(context, positions), **_attributes(engine, room=room)
    )  # fmt: skip
    return contexts


def append(ranker: Ranker, contexts: Array, tokens: ContextInputs, positions: Array) -> Array:
    """Add the valid history slots of ``tokens`` [B, S] at ``positions`` [B, S] behind the contexts' own tokens.

    The bits of :func:`encode` on everything, for causal attention and positions that do not move
    (docs/context-cache.md). Donated contexts are extended where they are. The user of ``tokens`` is not looked at. A
    context without enough room left is an error of the computation.
    """
    call: Any = jax.ffi.ffi_call("xfast_phoenix_append", _array(contexts.shape, jnp.uint8), input_output_aliases={0: 0})
    grown: Array = call(contexts, *_history(tokens, positions), **_attributes(_native(ranker)))
    return grown


def score(ranker: Ranker, contexts: Array, candidates: CandidateInputs, positions: Array) -> JitScores:
    """Score candidates [B, C] at ``positions`` [B, C] against contexts [B, n].

    Raises
    ------
    NotImplementedError
        The ranker's engine is not the native one.
    """
    config, (batch, count) = ranker.config, candidates.valid.shape
    shapes = [
        _array((batch, count, width), jnp.float32)
        for width in (config.num_actions, config.num_actions, config.num_continuous_actions)
    ]
    call: Any = jax.ffi.ffi_call("xfast_phoenix_score", shapes)
    return JitScores(
        *call(
            contexts, candidates.post_embeddings, candidates.author_embeddings, candidates.valid, positions,
            candidates.product_surface, candidates.age_bucket, **_attributes(_native(ranker)),
        )
    )  # fmt: skip

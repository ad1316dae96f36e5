"""The native ranker as XLA FFI calls: the bits of the plain functions inside jit, in place where memory is donated."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.phoenix import Engagements, Ranker, ffi
from xfast.phoenix.engines.xla import candidate_inputs, context_inputs
from xfast.phoenix.features import CandidateFeatures, ContextFeatures

CONFIG = tiny_config(num_ip_hashes=1)
TOWER = random_tower(CONFIG)
KINDS: list[tuple[Any, Any]] = [("float32", None), ("bfloat16", None), ("int8", None), ("float32", "int8")]


def _viewers(count: int) -> list[Engagements]:
    """Histories with holes; one viewer without user, one without history."""
    rng = np.random.default_rng(3)
    viewers = [
        random_engagements(CONFIG, rng, rng.random(6) < 0.7, ip_embeddings=rng.normal(size=(2, 8)))
        for _ in range(count - 2)
    ]
    given = {"ip_embeddings": rng.normal(size=(2, 8))}
    return [
        *viewers,
        random_engagements(CONFIG, rng, user_id=0, **given),
        random_engagements(CONFIG, rng, np.zeros(6), **given),
    ]


def _stacked(viewers: list[Engagements]) -> Any:
    """Batch of all slots, the empty ones included."""
    parts = [
        context_inputs(ContextFeatures.build(TOWER, v, compact=False), CONFIG.history_seq_len, CONFIG.emb_size, True)
        for v in viewers
    ]
    return jax.tree.map(lambda *arrays: jnp.asarray(np.concatenate(arrays)), *parts)


@pytest.mark.parametrize(("precision", "kv_precision"), KINDS)
def test_inside_jit_the_bits_are_those_of_the_plain_functions(precision: Any, kv_precision: Any) -> None:
    ranker = Ranker(TOWER, engine="native", precision=precision, kv_precision=kv_precision)
    viewers = _viewers(4)
    rng = np.random.default_rng(5)
    lists = [random_candidates(CONFIG, rng, 9) for _ in viewers]
    features = [CandidateFeatures.build(TOWER, some) for some in lists]
    inputs, positions = candidate_inputs(features, 9, len(lists))

    @jax.jit
    def whole(context: Any, context_positions: Any, candidates: Any, candidate_positions: Any) -> Any:
        contexts = ffi.encode(ranker, context, context_positions)
        scores = ffi.score(ranker, contexts, candidates, candidate_positions)
        # Something of XLA's own on both sides of the call.
        return contexts, scores, jnp.argmax(scores.probabilities[..., 1], axis=1)

    contexts, scores, best = whole(*_stacked(viewers), inputs, positions)
    for i, (viewer, some) in enumerate(zip(viewers, lists, strict=True)):
        expected = ranker.score(ranker.encode(viewer), some)
        for name in ("logits", "probabilities", "continuous"):
            assert np.array_equal(getattr(scores, name)[i], getattr(expected, name)), name
        assert best[i] == np.argmax(expected.probabilities[:, 1])
    eager = ffi.score(ranker, contexts, inputs, positions)
    assert np.array_equal(eager.logits, scores.logits)


def test_append_extends_donated_contexts_where_they_are() -> None:
    ranker = Ranker(TOWER, engine="native")
    viewers = _viewers(4)
    (context, positions) = _stacked(viewers)
    first = context._replace(valid=context.valid.at[:, 4:].set(False))
    last = jax.tree.map(lambda x: x[:, 4:] if x.ndim > 1 and x.shape[1] == 6 else x, context)
    whole = ffi.encode(ranker, context, positions)
    for donate in (False, True):
        append = jax.jit(lambda c, t, p: ffi.append(ranker, c, t, p), donate_argnums=(0,) if donate else ())
        before = ffi.encode(ranker, first, positions)
        address = before.unsafe_buffer_pointer()
        grown = append(before, last, positions[:, 5:])
        assert np.array_equal(grown, whole)
        assert before.is_deleted() == donate
        assert (grown.unsafe_buffer_pointer() == address) == donate


def test_errors_name_the_reason() -> None:
    ranker = Ranker(TOWER, engine="native")
    context, positions = _stacked(_viewers(3))
    contexts = ffi.encode(ranker, context, positions)
    features = CandidateFeatures.build(TOWER, random_candidates(CONFIG, np.random.default_rng(5), 3))
    inputs, at = candidate_inputs([features] * 3, 3, 3)
    with pytest.raises(Exception, match="holds no context of this ranker"):
        ffi.score(ranker, jnp.zeros_like(contexts), inputs, at).logits.block_until_ready()
    with pytest.raises(Exception, match="room is less than the tokens"):
        ffi.encode(ranker, context, positions, room=3).block_until_ready()
    with pytest.raises(Exception, match="has no room for these tokens"):
        ffi.append(ranker, contexts, context, positions[:, 1:]).block_until_ready()
    with pytest.raises(NotImplementedError, match=r"engine 'xla'"):
        ffi.encode(Ranker(TOWER, engine="xla"), context, positions)
    number = ranker.native_engine("test").number
    del ranker
    gc.collect()
    call = jax.ffi.ffi_call("xfast_phoenix_append", jax.ShapeDtypeStruct(contexts.shape, jnp.uint8))
    with pytest.raises(Exception, match="is gone"):
        call(
            contexts, context.post_embeddings, context.author_embeddings, context.valid, positions[:, 1:],
            context.actions, context.product_surface, context.dwell, ranker=np.int64(number), threads=np.int64(1),
        ).block_until_ready()  # fmt: skip


def test_the_plain_functions_import_no_jax() -> None:
    code = "import sys, xfast.phoenix as p; p.Ranker, p.ContextCache; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

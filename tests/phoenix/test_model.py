from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.phoenix import oracle
from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.phoenix import Candidates, Engagements, Ranker, Retriever, Tower, model
from xfast.phoenix.engines.xla import candidate_inputs, context_inputs
from xfast.phoenix.features import CandidateFeatures, ContextFeatures, post_age_bucket

VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "right_anchored_gqa": {"right_anchored_rope": True, "num_kv_heads": 1},
    "bidirectional_log_dwell": {
        "context_attention": "bidirectional", "use_log": True, "norm_scale": 60.0, "num_layers": 1,
    },
    "one_and_three_hashes_ip": {
        "num_user_hashes": 3, "num_item_hashes": 1, "num_author_hashes": 3, "num_ip_hashes": 2, "num_layers": 1,
        "widening_factor": 3.0, "attn_output_multiplier": 0.3, "post_age_granularity_mins": 37,
    },
}  # fmt: skip
PATTERNS = [
    [1, 1, 1, 1, 1, 1],
    [1, 1, 0, 0, 0, 0],
    [0, 1, 0, 1, 1, 0],
    [0, 0, 0, 0, 0, 0],
]


def _viewer(tower: Tower, rng: np.random.Generator, pattern: list[int], user: bool) -> Engagements:
    given: dict[str, Any] = {} if user else {"user_id": 0}
    if tower.config.num_ip_hashes:
        given["ip_embeddings"] = rng.normal(size=(2, tower.config.emb_size))
    viewer = random_engagements(tower.config, rng, pattern, **given)
    viewer.actions[0] = 0  # a slot without any action
    return viewer


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("engine", ["xla", "native"])
def test_ranker_equals_the_oracle_for_every_kind_of_padding(engine: Any, variant: str) -> None:
    tower = random_tower(tiny_config(**VARIANTS[variant]))
    ranker = Ranker(tower, engine=engine)
    rng = np.random.default_rng(5)
    candidates = random_candidates(tower.config, rng, 5)
    holes = random_candidates(tower.config, rng, 5, post_ids=[7, 0, 8, 0, 9], slots=None)
    for pattern in PATTERNS:
        for user in (True, False):
            viewer = _viewer(tower, rng, pattern, user)
            features = ContextFeatures.build(tower, viewer, compact=False)
            for some in (candidates, holes):
                logits, continuous = oracle.rank(tower, features, CandidateFeatures.build(tower, some))
                # Empty slots are compared, too; where they see nothing they average over all tokens, which means
                # nothing and which the native engine does not do.
                rows = (some.post_ids != 0) | (engine == "xla") | user | bool(sum(pattern))
                for scores in (ranker.score_uncached(viewer, some), ranker.score(ranker.encode(viewer), some)):
                    np.testing.assert_allclose(scores.logits[rows], logits[rows], atol=5e-5)
                    np.testing.assert_allclose(scores.continuous[rows], continuous[rows], atol=1.5e-5)
                    probabilities = 1 / (1 + np.exp(-logits[rows]))
                    np.testing.assert_allclose(scores.probabilities[rows], probabilities, atol=1.5e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("engine", ["xla", "native"])
def test_user_tower_equals_the_oracle(engine: Any, variant: str) -> None:
    tower = random_tower(tiny_config(**VARIANTS[variant]), "retrieval")
    retriever = Retriever(tower, engine=engine)
    rng = np.random.default_rng(6)
    for pattern in PATTERNS:
        for user in (True, False):
            viewer = _viewer(tower, rng, pattern, user)
            vector, norm = oracle.user_vector(tower, ContextFeatures.build(tower, viewer, compact=False))
            got = retriever.user_vector(viewer)
            np.testing.assert_allclose(got.vector, vector, atol=2e-6)
            assert got.norm == pytest.approx(norm, rel=1e-5)
    assert retriever.encode(_viewer(tower, rng, PATTERNS[3], False)).tolist() == [0.0] * 8


@pytest.mark.parametrize("engine", ["xla", "native"])
def test_candidate_tower_both_modes(engine: Any) -> None:
    tower = random_tower(tiny_config(num_author_hashes=3), "retrieval")
    rng = np.random.default_rng(7)
    candidates = random_candidates(tower.config, rng, 4, post_ids=[1, 2, 0, 4], author_ids=[1, 0, 0, 5])
    rows = np.concatenate(
        [
            CandidateFeatures.build(tower, candidates).post_embeddings,
            CandidateFeatures.build(tower, candidates).author_embeddings,
        ],
        axis=1,
    ).astype(float)
    prefix = "phoenix_retrieval_model/~build_candidate_representation/candidate_tower/candidate_tower_projection_"
    hidden = rows.reshape(4, -1) @ tower.params[prefix + "1"]
    linear = (hidden / (1 + np.exp(-hidden))) @ tower.params[prefix + "2"]

    def unit(x: Any) -> Any:
        return x / np.sqrt(np.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12))

    np.testing.assert_allclose(Retriever(tower, engine=engine).encode_candidates(candidates), unit(linear), atol=1e-6)
    mean = Retriever(tower, engine=engine, config_overrides={"enable_linear_proj": False})
    np.testing.assert_allclose(mean.encode_candidates(candidates), unit(rows.mean(axis=1)), atol=1e-6)
    assert mean.encode_candidates(candidates)[2].tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("impression", "created", "bucket"),
    [
        (1000, 1000, 1), (1059, 1000, 1), (4600, 1000, 2), (4599, 1000, 1), (1000, 1001, 0), (0, 1000, 0),
        (1000, 0, 0), (0, 0, 0), (1000 + 4800 * 60 - 1, 1000, 80), (1000 + 4800 * 60, 1000, 81),
        (2**31 - 1, 1, 81), (1000, 1060, 0), (-5, -65, 1), (2**31 - 1, -(2**31), 0),
    ],
)  # fmt: skip
def test_post_age_bucket(impression: int, created: int, bucket: int) -> None:
    got = post_age_bucket(np.array([impression], np.int32), np.array([created], np.int32), 60)
    assert got.tolist() == [bucket]


@pytest.mark.parametrize("engine", ["xla", "native"])
def test_absent_inputs_mean_zero(engine: Any) -> None:
    tower = random_tower(tiny_config())
    ranker = Ranker(tower, engine=engine)
    rng = np.random.default_rng(8)
    viewer = random_engagements(tower.config, rng, product_surface=None, continuous=None)
    same = random_engagements(
        tower.config, rng, user_id=viewer.user_id, post_ids=viewer.post_ids, author_ids=viewer.author_ids,
        actions=viewer.actions, product_surface=[0] * 6, continuous=np.zeros((6, 8)),
        ip_embeddings=np.ones((2, 8)), ip_hashes=[1, 2],  # not read: the model has no IP hashes
    )  # fmt: skip
    bare = Candidates([1, 2, 3], [4, 5, 6])
    full = Candidates([1, 2, 3], [4, 5, 6], [0, 0, 0], [0, 9, 0], [9, 0, 0], [0, 1, 2])
    a, b = ranker.score(ranker.encode(viewer), bare), ranker.score(ranker.encode(same), full)
    assert (a.logits == b.logits).all()
    # One of the two timestamps is not enough.
    only = Candidates([1, 2, 3], [4, 5, 6], impression_ts=[9, 9, 9])
    assert (ranker.score(ranker.encode(viewer), only).logits == a.logits).all()


@pytest.mark.parametrize("engine", ["xla", "native"])
def test_slot_moves_default_rope_and_not_the_right_anchored_one(engine: Any) -> None:
    rng = np.random.default_rng(9)
    for anchored in (False, True):
        tower = random_tower(tiny_config(right_anchored_rope=anchored))
        ranker = Ranker(tower, engine=engine, deterministic=True)
        context = ranker.encode(random_engagements(tower.config, rng))
        here = ranker.score(context, Candidates([5, 5], [6, 6], slots=[0, 40])).logits
        assert (here[0] == here[1]).all() == anchored
        shifted = ranker.score(context, Candidates([5, 5], [6, 6], slots=[40, 0])).logits
        assert (shifted[::-1] == here).all()


def test_gradients_reach_every_parameter_and_embedding() -> None:
    tower = random_tower(tiny_config(num_ip_hashes=2))
    rng = np.random.default_rng(10)
    viewer = random_engagements(tower.config, rng, ip_embeddings=rng.normal(size=(2, 8)))
    features = ContextFeatures.build(tower, viewer, compact=False)
    context, _ = context_inputs(features, 6, 8, ip=True)
    some, _ = candidate_inputs([CandidateFeatures.build(tower, random_candidates(tower.config, rng, 5))], 5, 1)

    def loss(params: Any, user: Any, posts: Any, targets: Any) -> Any:
        context_ = context._replace(user_embeddings=user, post_embeddings=posts)
        output = model.ranker(params, tower.config, context_, some._replace(post_embeddings=targets))
        return jnp.sum(output.logits**2) + jnp.sum(output.continuous)

    arguments = (dict(tower.params), context.user_embeddings, context.post_embeddings, some.post_embeddings)
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*arguments)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phoenix.models import mini_config, random_candidates, random_engagements, random_tower, tiny_config
from xfast.errors import ArtifactError, ConfigurationError, ParameterError
from xfast.phoenix import Candidates, Engagements, Ranker, Scores
from xfast.phoenix.engines.xla import CANDIDATE_BUCKETS, history_buckets

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {"history_seq_len": 12},  # two buckets
    "anchored": {"right_anchored_rope": True, "num_kv_heads": 1},
    "bidirectional": {"context_attention": "bidirectional"},
}


@pytest.fixture(scope="module")
def rankers() -> dict[str, Ranker]:
    towers = {name: random_tower(tiny_config(**changes)) for name, changes in CONFIGS.items()}
    return {name: Ranker(tower, engine="xla") for name, tower in towers.items()}


def _same(a: Scores, b: Scores, atol: float) -> None:
    np.testing.assert_allclose(a.probabilities, b.probabilities, atol=atol, rtol=0)
    np.testing.assert_allclose(a.logits, b.logits, atol=atol * 4, rtol=0)
    np.testing.assert_allclose(a.continuous, b.continuous, atol=atol, rtol=0)


@pytest.mark.parametrize("name", CONFIGS)
@given(
    pattern=st.lists(st.booleans(), max_size=12),
    user=st.booleans(),
    seed=st.integers(0, 2**32),
    empty=st.sets(st.integers(0, 4), max_size=3),
)
def test_cached_equals_uncached_for_every_padding(
    rankers: dict[str, Ranker], name: str, pattern: list[bool], user: bool, seed: int, empty: set[int]
) -> None:
    ranker = rankers[name]
    rng = np.random.default_rng(seed)
    viewer = random_engagements(ranker.config, rng, pattern, **({} if user else {"user_id": 0}))
    posts = [0 if i in empty else int(rng.integers(1, 2**62)) for i in range(5)]
    candidates = random_candidates(ranker.config, rng, 5, post_ids=posts)
    context = ranker.encode(viewer)
    assert context.num_valid == sum(pattern[: ranker.config.history_seq_len]) + user
    _same(ranker.score(context, candidates), ranker.score_uncached(viewer, candidates), 1e-5)


def test_batch_equals_single(rankers: dict[str, Ranker]) -> None:
    ranker = rankers["default"]
    rng = np.random.default_rng(1)
    sizes = [3, 0, 8, 1, 7, 2, 1030]
    viewers = [random_engagements(ranker.config, rng, rng.random(int(rng.integers(0, 9))) < 0.7) for _ in sizes]
    viewers[3] = random_engagements(ranker.config, rng, [], user_id=0)
    lists = [random_candidates(ranker.config, rng, size) for size in sizes]
    lists[3] = Candidates([0], [0])  # nothing to see and nothing to score
    contexts = [ranker.encode(viewer) for viewer in viewers]
    batch = ranker.score_batch(contexts, lists)
    assert [len(scores) for scores in batch] == sizes
    for context, some, scores in zip(contexts, lists, batch, strict=True):
        _same(ranker.score(context, some), scores, 1e-6)
    assert ranker.score_batch([], []) == []
    # A list longer than the largest bucket runs in chunks; slots go on counting.
    tail = ranker.score(contexts[-1], Candidates(lists[-1].post_ids[-1:], lists[-1].author_ids[-1:], slots=[1029]))
    whole = ranker.score(contexts[-1], Candidates(lists[-1].post_ids, lists[-1].author_ids))
    np.testing.assert_allclose(tail.logits[0], whole.logits[-1], atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_deterministic_scores_are_bit_equal_in_any_batch_slot_and_company(precision: Any) -> None:
    tower = random_tower(mini_config(right_anchored_rope=True, num_layers=2))
    ranker = Ranker(tower, engine="xla", deterministic=True, precision=precision)
    rng = np.random.default_rng(2)
    context = ranker.encode(random_engagements(tower.config, rng, [True] * 60))
    other = ranker.encode(random_engagements(tower.config, rng, [True] * 3))
    candidates = random_candidates(tower.config, rng, 150)
    whole = ranker.score(context, candidates)
    assert whole.probabilities.std() > 0.1

    def bits(scores: Scores, rows: Any) -> bool:
        return all(
            np.array_equal(getattr(scores, name), getattr(whole, name)[rows])
            for name in ("logits", "probabilities", "continuous")
        )

    for _ in range(12):
        rows = rng.permutation(150)[: int(rng.integers(1, 150))]
        assert bits(ranker.score(context, candidates[rows]), rows)
        rows2 = rng.permutation(150)[: int(rng.integers(1, 20))]
        company = ranker.score_batch([other, context, context], [candidates[rows], candidates[rows2], candidates[rows]])
        assert bits(company[1], rows2)
        assert bits(company[2], rows)
    again = Ranker(tower, engine="xla", deterministic=True, precision=precision)
    rng = np.random.default_rng(2)
    assert bits(again.score(again.encode(random_engagements(tower.config, rng, [True] * 60)), candidates), slice(None))


def test_bfloat16_stays_near_float32_and_rounds_what_it_returns() -> None:
    tower = random_tower(tiny_config())
    rng = np.random.default_rng(3)
    viewer, candidates = random_engagements(tower.config, rng), random_candidates(tower.config, rng, 8)
    exact, rough = (
        ranker.score(ranker.encode(viewer), candidates)
        for ranker in (Ranker(tower, engine="xla"), Ranker(tower, engine="xla", precision="bfloat16"))
    )
    assert 0 < np.abs(exact.probabilities - rough.probabilities).mean() < 0.05
    for array in (rough.logits, rough.probabilities, rough.continuous):
        assert array.dtype == np.float32
        assert (array.view(np.uint32) & 0xFFFF == 0).all()


def test_history_that_is_too_long() -> None:
    ranker = Ranker(random_tower(tiny_config()))
    rng = np.random.default_rng(4)
    long = random_engagements(ranker.config, rng, [True] * 9)
    candidates = random_candidates(ranker.config, rng, 3)

    def part(rows: slice) -> Engagements:
        assert long.product_surface is not None
        assert long.continuous is not None
        return Engagements(
            long.user_id, long.post_ids[rows], long.author_ids[rows], long.actions[rows], long.product_surface[rows],
            long.continuous[rows],
        )  # fmt: skip

    published = ranker.score(ranker.encode(long), candidates).logits
    assert (published == ranker.score(ranker.encode(part(slice(6))), candidates).logits).all()
    newest = ranker.score(ranker.encode(long, keep="newest"), candidates).logits
    assert (newest == ranker.score(ranker.encode(part(slice(3, 9))), candidates).logits).all()
    with pytest.raises(ParameterError, match="keep is 'all', must be 'oldest' or 'newest'"):
        ranker.encode(long, keep="all")  # type: ignore[arg-type]


def test_actions_beyond_the_model_are_dropped() -> None:
    ranker = Ranker(random_tower(tiny_config()))
    rng = np.random.default_rng(5)
    viewer = random_engagements(ranker.config, rng)
    wide = Engagements(
        viewer.user_id, viewer.post_ids, viewer.author_ids, np.hstack([viewer.actions, np.ones((6, 30))]),
        viewer.product_surface, viewer.continuous,
    )  # fmt: skip
    candidates = random_candidates(ranker.config, rng, 3)
    scores = [ranker.score(ranker.encode(v), candidates).logits for v in (viewer, wide)]
    assert (scores[0] == scores[1]).all()


def test_buckets_cover_every_length_and_warmup_compiles_them_all() -> None:
    assert history_buckets(127) == (8, 16, 32, 64, 127)
    assert history_buckets(8) == (8,)
    assert history_buckets(3) == (3,)
    assert history_buckets(9) == (8, 9)
    assert list(CANDIDATE_BUCKETS) == sorted(CANDIDATE_BUCKETS)
    ranker = Ranker(random_tower(tiny_config(num_layers=1)), engine="xla")
    ranker.warmup([5, 30], batch_sizes=[1, 2])
    compiled: list[str] = []

    def listener(event: str, duration: float, **_: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        rng = np.random.default_rng(6)
        contexts = [ranker.encode(random_engagements(ranker.config, rng, [True] * n)) for n in range(7)]
        for count in (1, 5, 8, 25, 32):
            ranker.score(contexts[count % 7], random_candidates(ranker.config, rng, count))
        ranker.score_batch(contexts[:2], [random_candidates(ranker.config, rng, n) for n in (4, 7)])
        assert compiled == []
        jax.jit(lambda x: x + 17)(3.0)
        assert compiled != []  # the listener listens
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_contexts_know_their_size_and_owner(rankers: dict[str, Ranker]) -> None:
    ranker = rankers["default"]
    rng = np.random.default_rng(7)
    context = ranker.encode(random_engagements(ranker.config, rng, [True, False, True]))
    assert context.num_valid == 3
    # layers * (user + bucket of 8) * key heads * head size * (keys, values) * 4 bytes, and a byte per mask entry
    assert context.nbytes == 2 * 9 * 2 * 4 * 2 * 4 + 9
    with pytest.raises(ParameterError, match="encoded by another ranker"):
        rankers["anchored"].score(context, Candidates([1], [2]))
    with pytest.raises(ParameterError, match="candidate_lists has 0 entries, contexts has 1"):
        ranker.score_batch([context], [])


def test_what_cannot_run_says_why() -> None:
    tower = random_tower(tiny_config())
    with pytest.raises(ParameterError, match="engine is 'gpu', must be one of auto, native, xla, pallas"):
        Ranker(tower, engine="gpu")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="precision is 'float16', must be one of"):
        Ranker(tower, precision="float16")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="tower is the retrieval model, must be the ranker"):
        Ranker(random_tower(tiny_config(), "retrieval"))
    with pytest.raises(ArtifactError, match=r"key/w' has shape \(8, 8\), config asks for \(8, 4\)"):
        Ranker(tower, config_overrides={"num_kv_heads": 1})
    with pytest.raises(ConfigurationError, match="config_overrides is 'rope'"):
        Ranker(tower, config_overrides={"rope": 1})
    ranker = Ranker(tower, engine="xla")
    assert (ranker.engine, ranker.precision, ranker.vocabulary.name) == ("xla", "float32", "proto")
    with pytest.raises(ParameterError, match=r"candidate_counts is \(0,\), must hold positive integers"):
        ranker.warmup([0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": 1.5}, "user_id"),
        ({"user_id": [1, 2]}, r"user_id has shape \(2,\), must be one integer"),
        ({"post_ids": [[1, 2]]}, r"post_ids has shape \(1, 2\), must be one-dimensional"),
        ({"author_ids": [1]}, "author_ids has 1 entries, post_ids has 2"),
        ({"actions": [[1.0]]}, r"actions has shape \(1, 1\), must be \(2, 'any'\)"),
        ({"actions": [[1.0], [np.nan]]}, "actions holds values that are not finite"),
        ({"actions": [["x"], ["y"]]}, "actions cannot be read as float32"),
        ({"product_surface": [1]}, r"product_surface has shape \(1,\), must be \(2,\)"),
        ({"product_surface": [1.0, 2.0]}, "product_surface has dtype float64"),
        ({"continuous": [[1.0], [1.0]]}, "continuous has 1 columns, must have at least 2"),
        ({"ip_embeddings": [1.0]}, r"ip_embeddings has shape \(1,\)"),
    ],
)
def test_bad_engagements_are_named(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"user_id": 1, "post_ids": [1, 2], "author_ids": [3, 4], "actions": np.zeros((2, 7))}
    with pytest.raises(ParameterError, match=message):
        Engagements(**{**fields, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"author_ids": [1]}, "author_ids has 1 entries, post_ids has 2"),
        ({"slots": [0, -1]}, "slots holds -1, must be 0 or more"),
        ({"created_ts": [1_700_000_000_000, 0]}, r"must fit 32 bits \(seconds, not milliseconds\)"),
        ({"post_ids": [0.5, 1.0]}, "post_ids"),
    ],
)
def test_bad_candidates_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Candidates(**{"post_ids": [1, 2], "author_ids": [3, 4], **change})


def test_engagements_that_do_not_fit_the_model(rankers: dict[str, Ranker]) -> None:
    with pytest.raises(ParameterError, match=r"actions has 3 columns, the model needs num_actions \(7\)"):
        rankers["default"].encode(Engagements(1, [2], [3], np.zeros((1, 3))))
    ranker = Ranker(random_tower(tiny_config(num_ip_hashes=1)))
    with pytest.raises(ParameterError, match="ip_embeddings has rows of 5, the model's emb_size is 8"):
        ranker.encode(Engagements(1, [2], [3], np.zeros((1, 7)), ip_embeddings=np.zeros((1, 5))))

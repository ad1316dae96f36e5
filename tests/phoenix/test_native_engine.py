"""The C++ engine against the JAX definition, on every instruction set and precision; and its promises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phoenix import oracle
from tests.phoenix.search_reference import ExactIndex as ReferenceIndex
from xfast.errors import ParameterError
from xfast.phoenix import _native, model
from xfast.phoenix.artifacts import Corpus, EmbeddingTables, Tower
from xfast.phoenix.config import HashFamily, PhoenixConfig
from xfast.phoenix.engines.native import NativeRanker, NativeRetrieval
from xfast.phoenix.engines.xla import XlaRanker, XlaRetrieval
from xfast.phoenix.features import CandidateFeatures, Candidates, ContextFeatures, Engagements
from xfast.phoenix.layout import param_shapes
from xfast.phoenix.ranker import Ranker
from xfast.phoenix.search import ExactIndex
from xfast.phoenix.tower import EmbeddingRows

LEVELS = ["scalar", "avx2", "avx512", "amx"]
ISAS = LEVELS[: LEVELS.index(_native.detected_isa()) + 1]
FAMILY = HashFamily((196742702, 1852108266, 77), (1935840681, 167407236, 5), 2859568897)
BASE = PhoenixConfig(
    emb_size=16, key_size=8, num_heads=2, num_layers=2, num_actions=7, history_seq_len=9, candidate_seq_len=4,
    num_user_hashes=2, num_item_hashes=2, num_author_hashes=2, user_vocab_size=50, item_vocab_size=60,
    author_vocab_size=40, user_hash=FAMILY, item_hash=FAMILY, author_hash=FAMILY,
)  # fmt: skip
CONFIGS = {
    "published": BASE,
    "right anchored, grouped": BASE.replace(num_heads=4, num_kv_heads=2, right_anchored_rope=True),
    "odd sizes": BASE.replace(
        emb_size=21, key_size=6, num_heads=3, num_kv_heads=1, num_layers=3, num_user_hashes=1, num_item_hashes=3,
        num_author_hashes=1, widening_factor=1.7, use_log=True, num_ip_hashes=2, post_age_granularity_mins=45,
    ),
    "wide heads, bidirectional": BASE.replace(
        emb_size=40, key_size=34, num_heads=1, num_layers=1, context_attention="bidirectional"
    ),
}  # fmt: skip


def _tower(name: Any, config: PhoenixConfig, seed: int = 0) -> Tower:
    rng = np.random.default_rng(seed)
    params = {}
    for key, shape in param_shapes(config, name).items():
        scale = 1.0 if key.endswith("scale") else 1.5 / np.sqrt(max(shape[0], 1)) if shape else 1.0
        params[key] = (rng.standard_normal(shape) * scale).astype(np.float32)
    sizes = (config.user_vocab_size, config.item_vocab_size, config.author_vocab_size)
    tables = [rng.standard_normal((size, config.emb_size)).astype(np.float32) for size in sizes]
    return Tower(name, config, params, EmbeddingTables(*tables))


def _engagements(config: PhoenixConfig, rng: np.random.Generator, slots: int, *, user: bool = True) -> Engagements:
    posts = rng.integers(1, 10**18, slots) * (rng.random(slots) < 0.8)
    ip = rng.standard_normal((2, config.emb_size)) if config.num_ip_hashes else None
    return Engagements(
        int(rng.integers(1, 10**18)) if user else 0,
        posts,
        rng.integers(0, 10**18, slots),
        (rng.random((slots, config.num_actions)) < 0.3) * rng.choice([1.0, 0.5], (slots, config.num_actions)),
        rng.integers(-2, 20, slots).astype(np.int32),
        rng.exponential(20, (slots, 8)).astype(np.float32),
        ip,
    )


def _candidates(rng: np.random.Generator, count: int) -> Candidates:
    now = 1_700_000_000
    return Candidates(
        rng.integers(1, 10**18, count), rng.integers(0, 10**18, count), rng.integers(-2, 20, count).astype(np.int32),
        np.full(count, now), now - rng.integers(-1000, 400_000, count), rng.integers(0, 40, count),
    )  # fmt: skip


CASES = [(slots, user) for slots in (0, 1, 5, 9) for user in (True, False)]


@pytest.mark.parametrize("name", CONFIGS)
def test_float32_equals_the_definition_on_every_instruction_set(name: str) -> None:
    config = CONFIGS[name]
    tower, retrieval = _tower("ranker", config), _tower("retrieval", config, 1)
    definition = XlaRanker(tower, "float32", deterministic=True)
    definition_retrieval = XlaRetrieval(retrieval, "float32")
    rng = np.random.default_rng(3)
    for slots, user in CASES:
        engagements, some = _engagements(config, rng, slots, user=user), _candidates(rng, 7)
        context, candidates = ContextFeatures.build(tower, engagements), CandidateFeatures.build(tower, some)
        expected = definition.score(definition.encode(context), candidates)
        viewer = ContextFeatures.build(retrieval, engagements)
        vector, norm = definition_retrieval.encode(viewer)
        for isa in ISAS:
            engine = NativeRanker(tower, "float32", isa=isa, threads=2)
            got = engine.score(engine.encode(context), candidates)
            np.testing.assert_allclose(got.logits, expected.logits, rtol=1e-4, atol=1e-4, err_msg=isa)
            np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=2e-5, err_msg=isa)
            np.testing.assert_allclose(got.continuous, expected.continuous, atol=2e-5, err_msg=isa)
            tower_2 = NativeRetrieval(retrieval, "float32", isa=isa, threads=1)
            native_vector, native_norm = tower_2.encode(viewer)
            np.testing.assert_allclose(native_vector, vector, atol=1e-5, err_msg=isa)
            assert native_norm == pytest.approx(norm, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["published", "odd sizes"])
def test_low_precision_stays_near_and_agrees_between_instruction_sets(name: str, precision: Any) -> None:
    config = CONFIGS[name]
    tower = _tower("ranker", config)
    rng = np.random.default_rng(5)
    context = ContextFeatures.build(tower, _engagements(config, rng, 9))
    candidates = CandidateFeatures.build(tower, _candidates(rng, 40))
    exact = NativeRanker(tower, "float32")
    expected = exact.score(exact.encode(context), candidates).logits
    results = []
    for isa in ISAS:
        engine = NativeRanker(tower, precision, isa=isa)
        results.append(engine.score(engine.encode(context), candidates).logits)
        error = np.abs(results[-1] - expected).max() / np.abs(expected).max()
        assert error < (0.05 if precision == "bfloat16" else 0.2), isa
    for other in results[1:]:
        assert np.abs(other - results[0]).max() < 0.02 * np.abs(expected).max()


KINDS: list[tuple[Any, Any]] = [
    ("float32", None), ("bfloat16", None), ("int8", None), ("float32", "bfloat16"), ("float32", "int8"),
    ("int8", "int8"),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "kv_precision"), KINDS)
@pytest.mark.parametrize("isa", ISAS)
def test_scores_are_bit_equal_in_any_company(isa: str, precision: Any, kv_precision: Any) -> None:
    config = CONFIGS["right anchored, grouped"]
    tower = _tower("ranker", config)
    rng = np.random.default_rng(7)
    some = _candidates(rng, 131)
    engines = [
        NativeRanker(tower, precision, kv_precision=kv_precision, isa=isa, threads=threads) for threads in (1, 2, 3)
    ]
    viewers = [ContextFeatures.build(tower, _engagements(config, rng, slots)) for slots in (9, 0, 4)]
    contexts = [engines[0].encode(viewer) for viewer in viewers]
    columns = CandidateFeatures.build(tower, some)
    everything = [engines[0].score(context, columns) for context in contexts]
    # Every size up to beyond a tile, each with other candidates in another order, for several viewers at once.
    for size in (*range(1, 71), 96, 97, 131):
        engine = engines[size % 3]
        chosen = rng.permutation(131)[:size]
        part = CandidateFeatures.build(tower, some[chosen])
        order = rng.permutation(3)[: 1 + size % 2 * 2]
        for viewer, scores in zip(order, engine.score_batch([contexts[i] for i in order], [part] * len(order))):
            for mine, whole in zip(scores, everything[viewer], strict=True):
                assert np.array_equal(mine, whole[chosen]), (size, viewer)
    for engine in engines:
        for viewer, context in zip(viewers, contexts, strict=True):
            for mine, first in zip(engine.keys_values(engine.encode(viewer)), engine.keys_values(context), strict=True):
                assert np.array_equal(mine, first)


@pytest.mark.parametrize("kv_precision", ["bfloat16", "int8"])
def test_small_keys_and_values_are_within_the_stated_bound(kv_precision: Any) -> None:
    config = CONFIGS["odd sizes"]
    tower = _tower("ranker", config)
    rng = np.random.default_rng(23)
    viewer = ContextFeatures.build(tower, _engagements(config, rng, 9))
    candidates = CandidateFeatures.build(tower, _candidates(rng, 40))
    exact = NativeRanker(tower, "float32")
    reference = exact.encode(viewer)
    for isa in ISAS:
        small = NativeRanker(tower, "float32", kv_precision=kv_precision, isa=isa)
        context = small.encode(viewer)
        # In the first layer, before attention, the numbers themselves; later layers see earlier roundings.
        for got, wanted in zip(small.keys_values(context), exact.keys_values(reference), strict=True):
            largest = np.abs(wanted[0]).max(axis=-1, keepdims=True)
            bound = largest / 253 if kv_precision == "int8" else np.abs(wanted[0]) * 2.0**-8
            assert (np.abs(got[0] - wanted[0]) <= bound + 1e-6).all(), isa
        error = np.abs(small.score(context, candidates).logits - exact.score(reference, candidates).logits).max()
        assert error < 0.05, isa
        assert small.context_bytes(context) < exact.context_bytes(reference) * (0.6 if kv_precision == "int8" else 0.8)


def test_a_shared_encode_has_the_bits_of_one_thread() -> None:
    config = BASE.replace(emb_size=96, key_size=16, num_heads=4, num_kv_heads=2, history_seq_len=150, num_layers=2)
    tower, retrieval = _tower("ranker", config), _tower("retrieval", config)
    rng = np.random.default_rng(29)
    engagements = _engagements(config, rng, 150)
    viewer, user = ContextFeatures.build(tower, engagements), ContextFeatures.build(retrieval, engagements)
    alone = NativeRanker(tower, "float32", threads=1)
    expected = alone.keys_values(alone.encode(viewer))
    vector, _ = NativeRetrieval(retrieval, "float32", threads=1).encode(user)
    for threads in (2, 3):
        engine = NativeRanker(tower, "float32", threads=threads)
        for mine, first in zip(engine.keys_values(engine.encode(viewer)), expected, strict=True):
            assert np.array_equal(mine, first)
        assert np.array_equal(NativeRetrieval(retrieval, "float32", threads=threads).encode(user)[0], vector)


def test_keys_wider_than_attention_are_refused() -> None:
    tower = _tower("ranker", BASE)
    with pytest.raises(ParameterError, match="kv_precision is 'float32', must be bfloat16 or int8 with"):
        Ranker(tower, precision="int8", kv_precision="float32")
    with pytest.raises(ParameterError, match="kv_precision is 'int4'"):
        Ranker(tower, kv_precision="int4")  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError, match="kv_precision='int8': the xla engine"):
        Ranker(tower, engine="xla", kv_precision="int8")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_of_viewers_scores_each_as_alone(threads: int) -> None:
    config = CONFIGS["odd sizes"]
    engine = NativeRanker(_tower("ranker", config), "float32", threads=threads)
    rng = np.random.default_rng(17)
    tower = _tower("ranker", config)
    contexts = [engine.encode(ContextFeatures.build(tower, _engagements(config, rng, slots))) for slots in (9, 0, 3, 5)]
    lists = [CandidateFeatures.build(tower, _candidates(rng, count)) for count in (1, 131, 48, 5)]
    for context, some, together in zip(contexts, lists, engine.score_batch(contexts, lists), strict=True):
        for one, other in zip(engine.score(context, some), together, strict=True):
            assert np.array_equal(one, other)
    assert engine.score_batch([], []) == []


def test_candidate_tower_modes() -> None:
    rng = np.random.default_rng(9)
    for linear in (True, False):
        config = CONFIGS["odd sizes"].replace(enable_linear_proj=linear)
        tower = _tower("retrieval", config)
        posts = rng.standard_normal((77, config.num_item_hashes, config.emb_size)).astype(np.float32)
        authors = rng.standard_normal((77, config.num_author_hashes, config.emb_size)).astype(np.float32)
        with jax.default_matmul_precision("highest"):
            expected = model.candidate_tower(dict(tower.params), config, posts, authors)
        got = NativeRetrieval(tower, "float32").encode_candidates(posts, authors)
        np.testing.assert_allclose(got, np.asarray(expected), atol=2e-6)


def test_pallas_engine_equals_the_definition_end_to_end() -> None:
    config = CONFIGS["right anchored, grouped"]
    tower = _tower("ranker", config)
    rng = np.random.default_rng(11)
    engagements, some = _engagements(config, rng, 6), _candidates(rng, 5)
    ranker, definition = Ranker(tower, engine="pallas"), Ranker(tower, engine="xla")
    assert ranker.engine == "pallas"
    got = ranker.score(ranker.encode(engagements), some)
    expected = definition.score(definition.encode(engagements), some)
    np.testing.assert_allclose(got.logits, expected.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", ["xla", "pallas"])
def test_int8_of_the_jax_engines_is_as_good_as_the_native_one(engine: Any) -> None:
    """Layers' matrices in eight bits; in ``pallas`` through the TPU's kernel, interpreted, so one layer is enough."""
    config = CONFIGS["right anchored, grouped"].replace(num_layers=1)
    tower = _tower("ranker", config)
    rng = np.random.default_rng(12)
    engagements, some = _engagements(config, rng, 6), _candidates(rng, 5)

    def probabilities(engine: Any, precision: Any) -> Any:
        ranker = Ranker(tower, engine=engine, precision=precision)
        return ranker.score(ranker.encode(engagements), some).probabilities

    exact = probabilities("native", "float32")
    allowed = max(np.abs(probabilities("native", "int8") - exact).mean(), 2.0**-9)  # and bfloat16's own rounding
    got = probabilities(engine, "int8")
    assert 0 < np.abs(got - exact).mean() <= 2 * allowed
    if engine == "xla":
        retrieval = _tower("retrieval", config)
        features = ContextFeatures.build(retrieval, engagements)
        vector, small = (
            e.encode(features)[0] for e in (NativeRetrieval(retrieval, "float32"), XlaRetrieval(retrieval, "int8"))
        )
        assert 0.995 < float(vector @ small) < 1 - 1e-6


def test_auto_is_native_and_an_instruction_set_that_is_missing_is_refused() -> None:
    tower = _tower("ranker", BASE)
    assert Ranker(tower).engine == "native"
    if _native.detected_isa() != "amx":
        with pytest.raises(ValueError, match="isa is 'amx', this processor has no more than"):
            NativeRanker(tower, "float32", isa="amx")
    with pytest.raises(ParameterError, match="precision is 'fp8'"):
        Ranker(tower, precision="fp8")  # type: ignore[arg-type]


def _corpus(rng: np.random.Generator, rows: int, dim: int, dtype: Any) -> Corpus:
    vectors = rng.standard_normal((rows, dim)) * rng.choice([1.0, 1.0, 30.0, 0.0], (rows, 1))
    vectors[rows // 2 :: 7] = vectors[: len(vectors[rows // 2 :: 7])]  # equal rows: ties go to the lower one
    topics = rng.integers(0, 4, (rows, 2))
    ids = rng.permutation(rows).astype(np.uint64) + 1
    return Corpus(ids, ids, vectors.astype(dtype), topic_ids=topics)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "dim", "dtype"), [(3000, 24, np.float32), (517, 7, np.float16), (15, 3, np.float32)])
def test_scan_finds_exactly_what_a_full_search_finds(isa: str, rows: int, dim: int, dtype: Any) -> None:
    rng = np.random.default_rng(rows)
    corpus = _corpus(rng, rows, dim, dtype)
    index, reference = ExactIndex.of(corpus, isa=isa, threads=2), ReferenceIndex(corpus)
    queries = rng.standard_normal((6, dim)).astype(np.float32)
    queries[5] = 0
    excluded = corpus.post_ids[rng.permutation(rows)[: rows // 3]]
    for k in (1, 10, rows):
        for options in ({}, {"exclude_ids": excluded}, {"topic_ids": np.array([1, 3]), "exclude_ids": excluded[:5]}):
            got, expected = index.search(queries, k, **options), reference.search(queries, k, **options)
            np.testing.assert_array_equal(got.rows, expected.rows)
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-6)
            alone = index.search(queries[:1], k, **options)
            np.testing.assert_array_equal(alone.rows[0], got.rows[0])


@st.composite
def _configs(draw: st.DrawFn) -> PhoenixConfig:
    """Configurations of any shape that the format allows: odd widths, grouped heads, heads of any even size."""
    kv_heads = draw(st.integers(1, 3))
    return BASE.replace(
        emb_size=draw(st.integers(2, 40)),
        key_size=2 * draw(st.integers(1, 20)),
        num_heads=kv_heads * draw(st.integers(1, 2)),
        num_kv_heads=kv_heads,
        num_layers=draw(st.integers(1, 2)),
        num_actions=draw(st.integers(1, 40)),
        num_continuous_actions=draw(st.integers(1, 9)),
        continuous_action_hidden_dim=draw(st.integers(1, 70)),
        history_seq_len=draw(st.integers(1, 8)),
        candidate_seq_len=draw(st.integers(1, 9)),
        widening_factor=draw(st.sampled_from([0.5, 1.0, 1.7, 2.0, 4.0])),
        attn_output_multiplier=draw(st.sampled_from([0.125, 0.3, 1.0])),
        num_user_hashes=draw(st.integers(1, 3)),
        num_item_hashes=draw(st.integers(1, 3)),
        num_author_hashes=draw(st.integers(1, 3)),
        num_ip_hashes=draw(st.sampled_from([0, 2])),
        product_surface_vocab_size=draw(st.integers(1, 20)),
        post_age_granularity_mins=draw(st.sampled_from([30, 60, 45])),
        right_anchored_rope=draw(st.booleans()),
        use_log=draw(st.booleans()),
        enable_linear_proj=draw(st.booleans()),
        context_attention=draw(st.sampled_from(["causal", "bidirectional"])),
    )


@settings(max_examples=15)
@given(config=_configs(), seed=st.integers(0, 2**16), count=st.integers(1, 4), data=st.data())
def test_any_shape_equals_the_transcription(config: PhoenixConfig, seed: int, count: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    slots, user = data.draw(st.integers(0, config.history_seq_len)), data.draw(st.booleans())
    viewer, some = _engagements(config, rng, slots, user=user), _candidates(rng, count)
    tower, retrieval = _tower("ranker", config), _tower("retrieval", config, 1)
    candidates = CandidateFeatures.build(tower, some)
    logits, continuous = oracle.rank(tower, ContextFeatures.build(tower, viewer, compact=False), candidates)
    vector, _ = oracle.user_vector(retrieval, ContextFeatures.build(retrieval, viewer, compact=False))
    context, of_retrieval = ContextFeatures.build(tower, viewer), ContextFeatures.build(retrieval, viewer)
    for isa in ISAS:
        engine = NativeRanker(tower, "float32", isa=isa, threads=2)
        got = engine.score(engine.encode(context), candidates)
        np.testing.assert_allclose(got.logits, logits, rtol=2e-4, atol=2e-4, err_msg=isa)
        np.testing.assert_allclose(got.continuous, continuous, atol=3e-5, err_msg=isa)
        native, _ = NativeRetrieval(retrieval, "float32", isa=isa).encode(of_retrieval)
        np.testing.assert_allclose(native, vector, atol=2e-5, err_msg=isa)
        for precision, kv_precision in KINDS:
            engine = NativeRanker(tower, precision, kv_precision=kv_precision, isa=isa, threads=2)
            encoded = engine.encode(context)
            together = engine.score(encoded, candidates).logits
            alone = CandidateFeatures.build(tower, replace(some, **{
                name: value[-1:] for name, value in vars(some).items() if isinstance(value, np.ndarray)
            }))  # fmt: skip
            assert np.isfinite(together).all()
            assert engine.score(encoded, alone).logits.tobytes() == together[-1:].tobytes(), (isa, precision)


def test_the_engine_gathers_for_itself_what_numpy_would(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = _tower("ranker", BASE)
    viewer, some = _engagements(BASE, np.random.default_rng(2), 9), _candidates(np.random.default_rng(3), 60)
    context, candidates = ContextFeatures.build(tower, viewer), CandidateFeatures.build(tower, some)
    engine = NativeRanker(tower, "float32")
    assert candidates.posts.source is not None
    by_engine = engine.score(engine.encode(context), candidates).logits
    narrow = replace(tower, tables=EmbeddingTables(*(t.astype(np.float16) for t in vars(tower.tables).values())))
    assert CandidateFeatures.build(narrow, some).posts.source is None
    monkeypatch.setattr(EmbeddingRows, "source", None)
    assert engine.score(engine.encode(context), candidates).logits.tobytes() == by_engine.tobytes()


@pytest.mark.parametrize("row", [-1, 60, 2**31 - 1])
def test_rows_beyond_the_table_are_refused(row: int) -> None:
    tower = _tower("ranker", BASE)
    engine = NativeRanker(tower, "float32")
    encoded = engine.encode(ContextFeatures.build(tower, _engagements(BASE, np.random.default_rng(2), 3)))
    candidates = CandidateFeatures.build(tower, _candidates(np.random.default_rng(3), 2))
    rows = EmbeddingRows(tower.tables, "item", np.array([[1, 2], [3, row]], np.int32))
    with pytest.raises(ValueError, match="post_embeddings has the wrong shape or rows"):
        engine.score(encoded, replace(candidates, posts=rows))

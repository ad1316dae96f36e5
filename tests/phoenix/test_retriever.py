from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.errors import ArtifactError, ParameterError
from xfast.phoenix import Corpus, Retriever
from xfast.phoenix.quantization import quantize_corpus
from xfast.phoenix.search import ExactIndex

CONFIG = tiny_config()
TOWER = random_tower(CONFIG, "retrieval")


def _corpus(vectors: np.ndarray, **columns: Any) -> Corpus:
    ids = np.arange(100, 100 + len(vectors), dtype=np.uint64)
    return Corpus(ids, ids + np.uint64(1000), vectors, **columns)


@given(
    rows=st.integers(1, 40),
    copies=st.integers(1, 4),
    k=st.integers(1, 50),
    queries=st.integers(1, 3),
    dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]),
    excluded=st.sets(st.integers(90, 140)),
    topics=st.one_of(st.none(), st.sets(st.integers(0, 3))),
    seed=st.integers(0, 2**32),
)
def test_search_equals_sorting_everything(
    rows: int, copies: int, k: int, queries: int, dtype: Any, excluded: set[int], topics: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # Copies of rows far apart: their scores must tie to the bit, and the lower row win.
    vectors = np.tile(rng.normal(size=(rows, 8)), (copies, 1)).astype(dtype)
    topic_ids = rng.integers(0, 4, (len(vectors), 2))
    corpus = _corpus(vectors, topic_ids=topic_ids)
    user = rng.normal(size=(queries, 8)).astype(np.float32)
    exact = (vectors.astype(np.float64)[None] * user.astype(np.float64)[:, None]).sum(axis=2).astype(np.float32)
    allowed = ~np.isin(corpus.post_ids, np.array(sorted(excluded), np.uint64))
    if topics is not None:
        allowed &= np.isin(topic_ids, sorted(topics - {0})).any(axis=1)
    found = ExactIndex.of(corpus).search(
        user,
        k,
        exclude_ids=np.array(sorted(excluded), np.uint64),
        topic_ids=None if topics is None else np.array(sorted(topics), np.int64),
    )
    for q in range(queries):
        order = [i for i in np.argsort(-exact[q], kind="stable") if allowed[i]][:k]
        assert found.rows[q].tolist() == order
        assert found.scores[q].tolist() == exact[q][order].tolist()


def test_retriever_searches_with_what_it_encodes() -> None:
    rng = np.random.default_rng(0)
    pool = random_candidates(CONFIG, rng, 300)
    towers = Retriever(TOWER)
    corpus = Corpus(pool.post_ids, pool.author_ids, towers.encode_candidates(pool))
    retriever = Retriever(TOWER, corpus)
    user = retriever.encode(random_engagements(CONFIG, rng))
    assert user.shape == (8,)
    assert np.linalg.norm(user) == pytest.approx(1)
    hits = retriever.search(user, 20)
    assert hits.post_ids.dtype == hits.author_ids.dtype == np.uint64
    assert (np.diff(hits.scores) <= 0).all()
    assert np.array_equal(hits.post_ids, corpus.post_ids[hits.rows])
    both = retriever.search(np.stack([user, -user]), 20)
    assert both.post_ids.shape == both.scores.shape == (2, 20)
    assert np.array_equal(both.post_ids[0], hits.post_ids)
    assert not set(both.post_ids[1]) & set(hits.post_ids)
    without = retriever.search(user, 20, exclude_ids=hits.post_ids[:5].view(np.int64))
    assert np.array_equal(without.post_ids[:15], hits.post_ids[5:])
    assert len(retriever.search(user, 1000)) == 300
    assert len(retriever.search(user, 5, exclude_ids=corpus.post_ids)) == 0
    many = random_candidates(CONFIG, rng, 1030)
    assert np.array_equal(towers.encode_candidates(many)[1024:], towers.encode_candidates(many[slice(1024, None)]))
    assert towers.encode_candidates(many[slice(0, 0)]).shape == (0, 8)
    for engine in ("xla", "native"):
        named = Retriever(TOWER, engine=engine)  # type: ignore[arg-type]
        assert (named.engine, named.precision) == (engine, "float32")
        named.warmup([10])


def test_holes_cost_nothing_and_change_nothing_but_positions() -> None:
    rng = np.random.default_rng(1)
    retriever = Retriever(TOWER)
    hole = random_engagements(CONFIG, rng, [True, False, True, True, False, False])
    assert not np.allclose(
        retriever.encode(hole), retriever.encode(random_engagements(CONFIG, np.random.default_rng(1), [True] * 3))
    )
    dense = Retriever(TOWER, precision="bfloat16").encode(hole)
    assert dense.dtype == np.float32
    assert np.linalg.norm(dense) == pytest.approx(1)  # pooling and norm run in float32 (PHOENIX §5)
    assert 0 < np.abs(dense - retriever.encode(hole)).max() < 0.1


def test_bad_arguments_are_named() -> None:
    corpus = _corpus(np.ones((4, 8), np.float32))
    retriever = Retriever(TOWER, corpus)
    with pytest.raises(ParameterError, match="k is 0, must be at least 1"):
        retriever.search(np.ones(8), 0)
    with pytest.raises(ParameterError, match=r"user has shape \(7,\), must be \(8,\) or \(Q, 8\)"):
        retriever.search(np.ones(7))
    with pytest.raises(ParameterError, match="user holds values that are not finite"):
        retriever.search(np.full(8, np.nan))
    with pytest.raises(ParameterError, match="topic_ids is given, but the corpus has no topic_ids"):
        retriever.search(np.ones(8), topic_ids=[1])
    with pytest.raises(ParameterError, match="exclude_ids"):
        retriever.search(np.ones(8), exclude_ids=[0.5])
    with pytest.raises(ParameterError, match="corpus is None"):
        Retriever(TOWER).search(np.ones(8))
    with pytest.raises(ArtifactError, match=r"corpus: 'candidate_representations' has shape \(4, 9\)"):
        Retriever(TOWER, _corpus(np.ones((4, 9), np.float32)))
    with pytest.raises(ParameterError, match="tower is the ranker model, must be the retrieval model"):
        Retriever(random_tower(CONFIG))
    with pytest.raises(ParameterError, match="index is 'flat', must be 'exact'"):
        Retriever(TOWER, index="flat")
    with pytest.raises(ParameterError, match="index is 'faiss:Nonsense', faiss refuses it"):
        Retriever(TOWER, corpus, index="faiss:Nonsense")
    with pytest.raises(ArtifactError, match="corpus: 'candidate_representations': row 1 is not finite"):
        retriever.append(_corpus(np.array([[0.0] * 8, [np.inf] * 8], np.float32)))
    with pytest.raises(ArtifactError, match="corpus: 'candidate_representations': row 0 is not finite"):
        Retriever(TOWER, _corpus(np.full((1, 8), np.nan, np.float32)))


def test_an_empty_corpus_finds_nothing() -> None:
    assert len(Retriever(TOWER, _corpus(np.zeros((0, 8), np.float32))).search(np.ones(8), 3)) == 0


@given(
    dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]),
    topics=st.sampled_from([None, 1, 3]),
    seed=st.integers(0, 2**32),
    turns=st.integers(1, 6),
)
def test_a_changing_corpus_equals_one_made_of_what_is_left(
    dtype: Any, topics: int | None, seed: int, turns: int
) -> None:
    rng = np.random.default_rng(seed)
    retriever = Retriever(TOWER, Corpus.empty(8))
    kept: list[tuple[int, int, np.ndarray, tuple[int, ...]]] = []
    for turn in range(turns):
        size = int(rng.integers(0, 30))
        vectors = rng.integers(-3, 4, (size, 8)).astype(dtype)
        ids = np.arange(100 * turn, 100 * turn + size, dtype=np.uint64)
        own = None if topics is None else rng.integers(0, 5, (size, topics))
        retriever.append(Corpus(ids, ids % np.uint64(7), vectors, topic_ids=own))
        of_row = [()] * size if own is None else [tuple(row) for row in own.tolist()]
        kept += list(zip(ids.tolist(), (ids % np.uint64(7)).tolist(), vectors, of_row, strict=True))
        posts, author = rng.integers(0, 100 * turns, 5).astype(np.uint64), rng.integers(0, 20)
        left = [row for row in kept if row[0] not in posts.tolist() and row[1] != author]
        assert retriever.remove(posts, [author]) == len(kept) - len(left)
        kept = left
        if rng.random() < 0.5:
            retriever.compact()
        assert (retriever.size, len(retriever.contents())) == (len(kept), len(kept))
    query = rng.normal(size=8).astype(np.float32)
    for topic in (None, 1, 4):
        may = [row for row in kept if topic is None or topic in row[3]]
        scores = np.array([(row[2].astype(np.float64) * query).sum() for row in may]).astype(np.float32)
        hits = retriever.search(query, 25, topic_ids=None if topic is None else [0, topic])
        order = np.argsort(-scores, kind="stable")[:25]
        np.testing.assert_allclose(hits.scores, scores[order], rtol=1e-6)
        if len(set(scores.tolist())) == len(scores):
            assert hits.post_ids.tolist() == [may[i][0] for i in order]


def test_quantised_corpora_are_searched_where_they_lie() -> None:
    rng = np.random.default_rng(3)
    corpus = _corpus(rng.normal(size=(300, 8)).astype(np.float32), topic_ids=rng.integers(0, 3, 300))
    small = quantize_corpus(corpus, "int8")
    dense = _corpus(np.asarray(small.representations), topic_ids=corpus.topic_ids)
    query = rng.normal(size=(2, 8)).astype(np.float32)
    for options in ({}, {"topic_ids": [2]}, {"exclude_ids": corpus.post_ids[::2]}):
        got, expected = (Retriever(TOWER, each).search(query, 40, **options) for each in (small, dense))
        assert got.rows.tolist() == expected.rows.tolist()
        assert got.scores.tolist() == expected.scores.tolist()


def test_a_swap_reaches_everybody_but_the_pinned() -> None:
    rng = np.random.default_rng(4)
    pool = random_candidates(CONFIG, rng, 20)
    retriever = Retriever(TOWER, Corpus.empty(8))
    retriever.add(pool, topic_ids=np.arange(20) % 3)
    other = retriever.sibling(random_tower(CONFIG, "retrieval", 5), Corpus.empty(8))
    other.add(pool[slice(0, 5)])
    pinned = retriever.pinned()
    viewer = random_engagements(CONFIG, rng)
    before = pinned.encode(viewer)
    retriever.swap(other)
    assert (pinned.size, retriever.size) == (20, 5)
    assert np.array_equal(pinned.encode(viewer), before)
    assert np.array_equal(retriever.encode(viewer), other.encode(viewer))
    retriever.remove(pool.post_ids[:1])
    assert (pinned.size, other.size) == (20, 4)

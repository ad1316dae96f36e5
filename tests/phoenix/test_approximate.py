"""Indexes of faiss: what they find is scored, filtered and ordered as by the exact search."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tests.phoenix.models import random_tower, tiny_config
from xfast.errors import ParameterError
from xfast.phoenix import Corpus, Retriever
from xfast.phoenix.approximate import FaissIndex
from xfast.phoenix.search import ExactIndex

pytest.importorskip("faiss")
TOWER = random_tower(tiny_config(), "retrieval")


def _corpus(rng: np.random.Generator, rows: int, first: int = 0, dtype: Any = np.float32) -> Corpus:
    vectors = rng.normal(size=(rows, 8))
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # ties
    ids = np.arange(first, first + rows, dtype=np.uint64)
    return Corpus(ids, ids % np.uint64(50), vectors.astype(dtype), topic_ids=(ids % np.uint64(9)).astype(np.int64))


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "IVF8,Flat", "HNSW16", "PQ4x4,RFlat"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_filters_scores_and_order_are_the_exact_ones(factory: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    corpus = _corpus(rng, 1500, dtype=dtype)
    index, exact = FaissIndex(factory, corpus, nprobe=6), ExactIndex.of(corpus)
    queries = rng.normal(size=(4, 8)).astype(np.float32)
    hits = total = 0
    for turn in range(3):
        for k in (1, 20, 400):
            for excluded in (np.zeros(0, np.uint64), exact.search(queries, 300).post_ids.ravel()):
                got, truth = (i.search(queries, k, exclude_ids=excluded) for i in (index, exact))
                everything = exact.search(queries, 5000, exclude_ids=excluded)
                for q in range(len(queries)):
                    rank = {post: place for place, post in enumerate(everything.post_ids[q].tolist())}
                    places = [rank[post] for post in got.post_ids[q].tolist()]  # none that may not be found
                    assert places == sorted(places)
                    assert got.scores[q].tolist() == everything.scores[q][places].tolist()
                    hits, total = hits + sum(place < k for place in places), total + truth.rows.shape[1]
                if factory == "Flat":
                    assert got.post_ids.tolist() == truth.post_ids.tolist()
        topics = np.array([3, 4])
        by_topic = [i.search(queries, 30, topic_ids=topics).post_ids.tolist() for i in (index, exact)]
        assert by_topic[0] == by_topic[1]
        # New posts, removed posts and authors count at once; the third turn sees them in the faiss index.
        fresh = _corpus(rng, 40, 2000 + 100 * turn)
        for each in (index, exact):
            if turn < 2:
                each.append(fresh)
                each.remove(np.arange(turn, 200, 7, dtype=np.uint64), np.array([turn], np.uint64))
            if turn == 1:
                assert each.compact() > 0
                assert each.removed == 0
        assert index.posts()[0].tolist() == exact.posts()[0].tolist()
    assert hits / total > 0.6


def test_as_the_index_of_a_retriever() -> None:
    rng = np.random.default_rng(1)
    corpus = _corpus(rng, 500)
    retriever = Retriever(TOWER, corpus, index="faiss:IVF4,Flat")
    query = rng.normal(size=8).astype(np.float32)
    hits = retriever.search(query, 10)
    assert len(hits) == 10
    assert np.array_equal(hits.author_ids, hits.post_ids % np.uint64(50))
    assert retriever.search(np.stack([query, query]), 10).post_ids.tolist() == [hits.post_ids.tolist()] * 2
    retriever.remove(hits.post_ids[:3])
    assert retriever.search(query, 7).post_ids.tolist() == hits.post_ids[3:].tolist()
    assert len(retriever.contents()) == retriever.size == 497
    assert len(retriever.search(query, 5000, exclude_ids=corpus.post_ids)) == 0
    empty = Retriever(TOWER, Corpus.empty(8), index="faiss:IVF4,Flat")
    empty.append(corpus)
    assert empty.search(query, 5).post_ids.tolist() == ExactIndex.of(corpus).search(query[None], 5).post_ids[0].tolist()
    empty.compact()
    assert len(empty.search(query, 5)) == 5
    with pytest.raises(ParameterError, match="index is 'faiss:IVF4096,PQ8', faiss refuses it"):
        Retriever(TOWER, corpus, index="faiss:IVF4096,PQ8")


def test_changes_while_the_index_is_built_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    index = FaissIndex("Flat", _corpus(rng, 200))
    index.remove(np.array([5], np.uint64))
    building, go_on = threading.Event(), threading.Event()
    build = index._build

    def slowly(corpus: Corpus) -> Any:
        building.set()
        assert go_on.wait(10)
        return build(corpus)

    monkeypatch.setattr(index, "_build", slowly)
    compacting = threading.Thread(target=index.compact)
    compacting.start()
    assert building.wait(10)
    index.append(_corpus(rng, 10, 1000))
    index.remove(np.array([7, 1003], np.uint64))
    go_on.set()
    compacting.join()
    posts = index.posts()[0].tolist()
    assert posts == [i for i in range(200) if i not in (5, 7)] + [1000, 1001, 1002, *range(1004, 1010)]
    found = index.search(rng.normal(size=(1, 8)).astype(np.float32), 500).post_ids[0].tolist()
    assert sorted(found) == posts

"""Smoke benchmarks of the hot paths, on the inputs of the asv suites, and the calibration they are divided by.

`make bench-smoke` compares the medians with the committed ones. The sizes are chosen so that a call takes milliseconds
at most and all of it some twenty seconds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import mixer, text, thunder
from benchmarks.phoenix_models import FAMILY, config, engagements, posts, tower
from xfast.mixer.candidates import CandidateBatch
from xfast.phoenix import Corpus, Ranker, Retriever, _native
from xfast.phoenix.hashing import hash_ids
from xfast.sketch import MinHash, jaccard_column
from xfast.text import KeywordMatcher

RNG = np.random.default_rng(0)
MINI = config(127)
IDS = RNG.integers(-(2**63), 2**63 - 1, 100_000, np.int64)


def _calibrate(benchmark: Any) -> None:
    assert benchmark(lambda: int(np.sort(IDS)[0])) < 0


@pytest.fixture(autouse=True)
def instruction_set(benchmark: Any) -> None:
    """What the medians belong to."""
    benchmark.extra_info["isa"] = _native.isa()


def test_calibration_before(benchmark: Any) -> None:
    """A fixed NumPy workload (sort 100,000 integers): the unit of the committed medians, at both ends of the run."""
    _calibrate(benchmark)


def test_hash_ids(benchmark: Any) -> None:
    assert benchmark(hash_ids, IDS, FAMILY, 1_000_000).shape == (100_000, 2)


def test_encode_viewer(benchmark: Any) -> None:
    ranker, viewer = Ranker(tower(MINI), engine="native"), engagements(127)
    assert benchmark(ranker.encode, viewer).num_valid == 128


def test_score_64_candidates(benchmark: Any) -> None:
    ranker, some = Ranker(tower(MINI), engine="native"), posts(64)
    context = ranker.encode(engagements(127))
    assert len(benchmark(ranker.score, context, some)) == 64


def test_user_tower(benchmark: Any) -> None:
    retriever = Retriever(tower(MINI, "retrieval"), engine="native")
    assert benchmark(retriever.encode, engagements(127)).shape == (128,)


def test_search_50_000_posts(benchmark: Any) -> None:
    vectors = RNG.standard_normal((50_000, 128), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(1, 50_001, dtype=np.uint64)
    retriever = Retriever(tower(MINI, "retrieval"), Corpus(ids, ids, vectors), engine="native")
    user = retriever.encode(engagements(127))
    assert len(benchmark(retriever.search, user, 200)) == 200


def test_in_network_500_followees(benchmark: Any) -> None:
    work = thunder.workload(posts=50_000, authors=5_000, requests=8)
    store = thunder.filled(work)
    requests = work.requests[500]

    def lookups() -> int:
        return sum(len(store.in_network(user, follows, exclude_ids=excluded)) for user, follows, excluded in requests)

    assert benchmark(lookups) == 8 * 500


def test_fourteen_filters(benchmark: Any) -> None:
    batch = mixer.make_batch(1_000, np.random.default_rng(0))
    query, filters = mixer.make_query(batch, np.random.default_rng(0)), mixer.pre_score_filters()
    left = benchmark(lambda: mixer.run_filters(query, CandidateBatch(batch._columns), filters))
    assert 0 < len(left) < 1_000


def test_muted_keywords(benchmark: Any) -> None:
    matcher, column = KeywordMatcher(text.make_keywords(185)), text.make_posts(2_000)
    assert benchmark(matcher.match, column).any()


def test_minhash_signature(benchmark: Any) -> None:
    ids = RNG.integers(0, 2**63, 5_000).astype(np.uint64)
    assert benchmark(lambda: MinHash(ids, num_positions=256).signature()).shape == (256,)


def test_jaccard_of_1_000_authors(benchmark: Any) -> None:
    column = RNG.integers(0, 2**32 - 1, (1_000, 256)).astype(np.uint32)
    viewer = column[3].copy()
    assert benchmark(jaccard_column, viewer, column)[3] == 1


def test_calibration_after(benchmark: Any) -> None:
    _calibrate(benchmark)

"""Phoenix in this process as the mixer's models."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.mixer.world import NOW_MS, post_id
from tests.phoenix.models import random_tower, tiny_config
from xfast.errors import ConfigurationError
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import IpLocation, PredictRequest, RetrievalRequest, answer
from xfast.mixer.embedded import InterestRetrieval, LocalRanker, LocalRetrieval
from xfast.mixer.embedded.interests import group_interests
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.scorers import PhoenixScorer, decode_heads
from xfast.phoenix import Corpus, Engagements, Ranker, Retriever


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker(random_tower(tiny_config()))


@pytest.fixture
def query() -> ScoredPostsQuery:
    made = ScoredPostsQuery(user_id=7, request_time_ms=NOW_MS, prediction_id=3)
    rng = np.random.default_rng(0)
    made.scoring_sequence = Engagements(7, [1, 2, 3], [4, 5, 6], rng.integers(0, 2, (3, 49)).astype(np.float32))
    return made


def batch() -> CandidateBatch:
    first, second = post_id(60_000, 1), post_id(120_000, 2)
    return CandidateBatch.from_records(
        [
            {"tweet_id": first, "author_id": 10},
            {"tweet_id": 5, "author_id": 11, "retweeted_tweet_id": second, "retweeted_user_id": 12},
            {"tweet_id": 6, "author_id": 13, "retweeted_tweet_id": second, "retweeted_user_id": 12},
        ]
    )


def test_originals_are_scored_once_and_unknown_heads_are_unset(ranker: Ranker, query: ScoredPostsQuery) -> None:
    model = LocalRanker({"*": ranker})
    request = PredictRequest("any", query, query.scoring_sequence, 1, batch())
    prediction = asyncio.run(model.predict(request))
    assert len(prediction.post_ids) == 2
    heads = decode_heads(prediction, batch().original_id)
    assert np.array_equal(heads[1], heads[2], equal_nan=True)
    # Seven action columns: favorite 1, reply 4, quote 5 and retweet 6 exist, and the continuous outputs.
    assert (~np.isnan(heads[0])).sum() == 4 + 2


def test_the_scorer_fills_columns(ranker: Ranker, query: ScoredPostsQuery) -> None:
    scorer = PhoenixScorer(LocalRanker({"Experiment1Fou": ranker}), clock=lambda: NOW_MS)
    result = asyncio.run(answer(scorer.score(query, batch())))
    assert result.columns["last_scored_at_ms"].tolist() == [NOW_MS] * 3
    assert result.columns["prediction_request_id"].tolist() == [3] * 3
    query.scoring_sequence = None
    empty = asyncio.run(answer(scorer.score(query, batch())))
    assert np.isnan(empty.columns["phoenix_scores"]).all()


def test_the_location_reaches_a_model_that_reads_it(query: ScoredPostsQuery) -> None:
    tower = random_tower(tiny_config(num_ip_hashes=1))
    width = tower.config.emb_size

    def scores(location: IpLocation | None, enabled: bool = True) -> np.ndarray:
        query.ip_location = location
        query.params = Params().override({"EnableIpFeature": enabled})
        request = PredictRequest("any", query, query.scoring_sequence, 1, batch())
        return decode_heads(asyncio.run(LocalRanker({"*": Ranker(tower)}).predict(request)), batch().original_id)

    somewhere = IpLocation("PT", np.full((1, width), 0.7, np.float32))
    unknown = scores(None)
    assert not np.array_equal(scores(somewhere), unknown, equal_nan=True)
    assert np.array_equal(scores(somewhere, enabled=False), unknown, equal_nan=True)
    assert np.array_equal(scores(IpLocation("PT")), unknown, equal_nan=True)


def test_a_cluster_without_a_model_is_named(ranker: Ranker, query: ScoredPostsQuery) -> None:
    request = PredictRequest("Experiment9", query, query.scoring_sequence, 1, batch())
    with pytest.raises(ConfigurationError, match=r"Experiment9.*models exist for"):
        asyncio.run(LocalRanker({"Experiment1Fou": ranker}).predict(request))


def test_interests_are_directions() -> None:
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [-1, 0]], np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owner = group_interests(vectors, 3)
    assert owner[0] == owner[1] and owner[2] == owner[3]
    assert len(set(owner.tolist())) == 3
    assert group_interests(vectors[:1], 3).tolist() == [0]


def test_retrieval_leaves_out_seen_posts_and_interests_take_turns(query: ScoredPostsQuery) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(100, 150, dtype=np.uint64)
    retriever = Retriever(random_tower(tiny_config(), "retrieval"), Corpus(ids, ids + np.uint64(1_000), vectors))
    query.seen_ids = ids[:10]
    request = RetrievalRequest("any", query, query.scoring_sequence, 12)
    plain = asyncio.run(LocalRetrieval({"*": retriever}).retrieve(request))
    assert len(plain.post_ids) == 12 and not set(plain.post_ids.tolist()) & set(ids[:10].tolist())
    several = asyncio.run(InterestRetrieval({"*": retriever}).retrieve(request))
    assert len(set(several.post_ids.tolist())) == 12
    assert not set(several.post_ids.tolist()) & set(ids[:10].tolist())
    single = asyncio.run(InterestRetrieval({"*": retriever}, interests=1).retrieve(request))
    assert single.post_ids.tolist() == plain.post_ids.tolist()

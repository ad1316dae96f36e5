"""DECISIONS.md, "Quirks of HOME_MIXER §15": what fixed mode does, one test per decision, against reference mode."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from tests.mixer.world import NOW_MS, FakePost, FakeWorld, post_id
from xfast.errors import ConfigurationError
from xfast.ids import as_uint64
from xfast.mixer.ads import PartitionOrganic, SafeGap
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo, GizmoduckUser, WhoToFollowUser
from xfast.mixer.enums import BrandSafetyVerdict, ServedType, VisibilityReason
from xfast.mixer.filters import DedupConversationFilter, TopicIdsFilter
from xfast.mixer.home import HomeMixer
from xfast.mixer.hydrators import GizmoduckHydrator, QuoteHydrator
from xfast.mixer.items import FeedItem, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.params import Params
from xfast.mixer.pipelines import MixerSettings, scored_posts_pipeline
from xfast.mixer.query import ScoredPostsQuery, ServedEntry, ServedItem, ServedResponse
from xfast.mixer.scorers import DppValueModel, RankingScorer, VMRanker
from xfast.mixer.selectors import BlenderSelector
from xfast.pipeline import NoCache, Policy, answer

Query = Callable[..., ScoredPostsQuery]
VIEWER = 7


def ids(result: Any) -> list[int]:
    shown: list[int] = result.selected.tweet_id.tolist()
    return shown


def test_1_impressed_posts_are_hydrated(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    world.impressed[VIEWER] = [world.retrieved[0]]
    assert world.retrieved[0] not in run_posts(make_query(), "reference").filtered.tweet_id
    fixed = run_posts(make_query(), explain=True)
    assert world.retrieved[0] in fixed.filtered.tweet_id
    assert [name for name, _ in fixed.trace.removals.values()].count("PreviouslySeenPostsBackupFilter") == 1


def test_2_a_post_without_core_data_is_dropped(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    ghost = post_id(100_000, 77)
    world.posts_table[ghost] = FakePost(100)
    original = world.core_data

    def missing(post_ids: Any) -> Any:
        data = original(post_ids)
        data.found[post_ids == np.uint64(ghost)] = False
        return data

    world.core_data = missing  # type: ignore[method-assign]
    world.predictions[ghost] = {1: 0.99, 4: 0.9}
    assert ids(run_posts(make_query(), "reference"))[0] == ghost
    fixed = run_posts(make_query(), explain=True)
    assert ghost not in ids(fixed)
    assert ("CoreDataHydrationFilter", "no core data") in fixed.trace.removals.values()


def test_3_media_of_a_retweet_that_core_data_found(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    original, wrapper = post_id(50_000, 500), post_id(40_000, 501)
    world.posts_table[original] = FakePost(999, "the original", video_ms=60_000, language="fr")
    world.posts_table[wrapper] = FakePost(888, retweeted=original)
    world.retrieved.insert(0, wrapper)
    world.profiles[999] = GizmoduckUser("originator", 5)
    world.predictions[original] = world.predictions[wrapper] = {1: 0.9, 4: 0.9}

    def row(quirks: str) -> dict[str, Any]:
        result = run_posts(make_query(), quirks)
        return next(r for r in result.selected.to_records() if r["tweet_id"] == wrapper)

    before, after = row("reference"), row("fixed")
    assert "min_video_duration_ms" not in before and "retweeted_screen_name" not in before
    assert before["language_code"] == "en"
    assert (after["min_video_duration_ms"], after["language_code"]) == (60_000, "fr")
    assert after["retweeted_screen_name"] == "originator"


def test_4_unscored_posts_rank_last_and_are_flagged(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    world.default_probability = None
    disliked, unknown = world.retrieved[0], world.retrieved[1]
    world.predictions = {post: {16: 0.9} for post in world.posts_table if post != unknown}
    world.predictions[disliked] = {16: 0.99}
    result = run_posts(make_query({"RESULT_SIZE": 50}), "reference")
    assert ids(result)[0] == unknown
    sizes = ("TOP_K_CANDIDATES_TO_SELECT", "RESULT_SIZE", "FOR_YOU_MAX_RESULT_SIZE")
    fixed = run_posts(make_query(dict.fromkeys(sizes, 200)))
    assert ids(fixed)[-1] == unknown
    assert fixed.selected.is_true("unscored").tolist() == [False] * (len(fixed.selected) - 1) + [True]


def test_5_diversity_counts_originals_and_the_last_session(make_query: Query) -> None:
    batch = CandidateBatch.from_records(
        {
            "tweet_id": row,
            "author_id": 50 + row,
            "retweeted_user_id": 9,
            "retweeted_tweet_id": 90 + row,
            "in_network": True,
            "phoenix_scores": {"favorite": 0.5 - row / 100},
        }
        for row in range(3)
    )
    query = make_query()

    def factors(quirks: Any) -> Any:
        columns = RankingScorer(quirks).score(query, batch).columns
        return (columns["score"] / columns["weighted_score"]).round(4).tolist()

    assert factors("reference") == [1.0, 1.0, 1.0]
    assert factors("fixed") == [1.0, 0.625, 0.4375]
    entry = ServedEntry("TWEET", (ServedItem(1, author_id=9, source_author_id=9),))
    query.served_history = [ServedResponse(NOW_MS - 1_800_000, (entry,))]
    half_a_post = 0.75 * 0.5**0.5 + 0.25
    assert factors("fixed")[0] == pytest.approx(half_a_post, abs=1e-4)
    assert factors("reference") == [1.0, 1.0, 1.0]
    query.served_history = [ServedResponse(NOW_MS - 86_400_000, (entry,))]
    assert factors("fixed")[0] == 1.0


def test_6_excluding_a_topic_keeps_unlabelled_posts(make_query: Query) -> None:
    batch = CandidateBatch.from_records(
        [{"tweet_id": 1, "filtered_topic_ids": [5]}, {"tweet_id": 2}, {"tweet_id": 3, "filtered_topic_ids": [6]}]
    )
    query = make_query(excluded_topic_ids=[5])
    assert TopicIdsFilter("reference").keep(query, batch).tolist() == [False, False, True]
    assert TopicIdsFilter("fixed").keep(query, batch).tolist() == [False, True, True]


def test_7_a_missing_verdict_takes_ads_that_accept_low_risk(world: FakeWorld, run_feed: Any, make_query: Query) -> None:
    world.ad_list = [AdInfo(1, risk="BsrIas"), AdInfo(2, risk="BsrNormal"), AdInfo(3, risk="BsrLow")]
    params = {"EnableAdsBrandSafetyHydrator": False}
    assert run_feed(make_query(params), "reference").selected.of_type(AdInfo) == []
    assert [ad.post_id for ad in run_feed(make_query(params)).selected.of_type(AdInfo)] == [2]
    assert any("EnableAdsBrandSafetyHydrator" in text for text in Params().override(params).warnings())


def test_7_safe_gap_keeps_careful_ads_from_unlabelled_posts() -> None:
    ads = [AdInfo(1, risk="BsrLow", insert_position=1), AdInfo(2, risk="BsrNormal", insert_position=4)]
    verdicts = [BrandSafetyVerdict.UNSPECIFIED] * 3 + [BrandSafetyVerdict.SAFE] * 2 + [BrandSafetyVerdict.LOW_RISK]
    posts = [ScoredPost(row + 1, brand_safety_verdict=verdict) for row, verdict in enumerate(verdicts)]

    def kinds(quirks: Any) -> list[int]:
        return [getattr(item.item, "post_id", 0) for item in SafeGap(35, 5, quirks).blend(posts, ads)]

    assert kinds("reference") == [0, 1, 0, 0, 0, 2, 0, 0]
    # Beside labelled posts it may stand; the next ad still keeps its distance, and finds no room.
    assert kinds("fixed") == [0, 0, 0, 0, 1, 0, 0]
    unlabelled = [ScoredPost(row + 1, brand_safety_verdict=BrandSafetyVerdict.UNSPECIFIED) for row in range(6)]
    mixed = SafeGap(35, 5, "fixed").blend(unlabelled, ads)
    assert [getattr(item.item, "post_id", 0) for item in mixed] == [0, 2, 0, 0, 0, 0, 0]


def test_8_two_retweets_of_one_post_are_one_conversation(make_query: Query) -> None:
    batch = CandidateBatch.from_records(
        [
            {"tweet_id": 1, "retweeted_tweet_id": 100, "score": 0.2},
            {"tweet_id": 2, "retweeted_tweet_id": 100, "score": 0.3},
        ]
    )
    assert DedupConversationFilter("reference").filter(make_query(), batch).kept.tolist() == [0, 1]
    assert DedupConversationFilter("fixed").filter(make_query(), batch).kept.tolist() == [1]


def test_9_hidden_posts_are_replaced(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    best = ids(run_posts(make_query()))[:30]
    world.hidden = {post: VisibilityReason("SafetyResult", "Drop") for post in best}
    assert len(ids(run_posts(make_query(), "reference"))) == 20
    fixed = run_posts(make_query())
    assert len(ids(fixed)) == 35
    assert (np.diff(fixed.selected.values("score")) <= 0).all()
    assert not set(best) & set(ids(fixed))
    assert len(fixed.selected) + len(fixed.non_selected) + len(fixed.filtered) == len(fixed.retrieved)


def test_10_positions_are_numbered_last_and_ads_cost_no_post() -> None:
    safe = BrandSafetyVerdict.SAFE
    posts = [ScoredPost(i + 1, score=1 - i / 100, brand_safety_verdict=safe) for i in range(40)]
    ads = [AdInfo(1_000 + index, insert_position=1 + 3 * index) for index in range(8)]
    for kind in (SafeGap, PartitionOrganic):
        for quirks, expected in (("reference", None), ("fixed", 35)):
            items = kind(35, 5, quirks).blend(posts, ads)  # type: ignore[arg-type]
            count = sum(isinstance(item.item, ScoredPost) for item in items)
            assert count == expected if expected else count < 35
    items = [FeedItem(post) for post in posts[:8]] + [FeedItem(Prompt(b"p"))]
    params = Params()
    reference = [item.position for item in BlenderSelector("reference").blend(params, items).items]
    assert reference == [0, *range(8)]
    assert [item.position for item in BlenderSelector("fixed").blend(params, items).items] == list(range(9))


def test_10_the_longest_feed_keeps_its_posts() -> None:
    safe = BrandSafetyVerdict.SAFE
    items: list[Any] = [ScoredPost(i + 1, score=1 - i / 100, brand_safety_verdict=safe) for i in range(35)]
    items += [AdInfo(1_000 + index, insert_position=1 + 3 * index) for index in range(11)]
    items += [Prompt(b"p"), WhoToFollowModule((WhoToFollowUser(5),)), PushToHomePost(9)]
    for kind in ("safe_gap", "partition_organic_low_risk"):
        params = Params().override({"AdsBlenderType": kind})
        made = BlenderSelector("fixed").blend(params, [FeedItem(item) for item in items])
        assert len(made.items) == params.for_you_max_result_size
        assert sum(isinstance(item.item, ScoredPost) for item in made.items) == 35
        assert (made.lost_posts, made.lost_ads) == (0, 2)


def test_11_cached_posts_are_checked_again(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    from xfast.mixer.cache_format import cache_key, encode_posts

    first = run_posts(make_query()).selected
    query = make_query()
    world.cache[cache_key(query)] = encode_posts(first)
    shown = first.tweet_id.tolist()
    blocker, deleted, hidden = shown[0], shown[1], shown[2]
    world.blocks[world.posts_table[blocker].author] = [VIEWER]
    others = [p for p in shown[3:] if world.posts_table[p].author != world.posts_table[blocker].author]
    del world.posts_table[deleted]
    world.hidden[hidden] = VisibilityReason("SafetyResult", "Drop")
    reference = ids(run_posts(query, "reference", min_cached_posts=5))
    assert {blocker, deleted} <= set(reference) and hidden not in reference
    fixed = ids(run_posts(query, min_cached_posts=5))
    assert not {blocker, deleted, hidden} & set(fixed)
    assert set(others) <= set(fixed)


async def test_11_quoted_authors_of_cached_posts_are_asked_again(world: FakeWorld, make_query: Query) -> None:
    query = make_query()
    query.has_cached_posts = True
    batch = CandidateBatch.from_records(
        [
            {"tweet_id": 1, "quoted_tweet_id": 10, "quoted_user_id": 50},
            {"tweet_id": 2, "quoted_tweet_id": 11, "quoted_user_id": 51, "quoted_author_blocks_viewer": True},
            {"tweet_id": 3},
        ]
    )
    world.blocks[50] = [VIEWER]
    hydrator = QuoteHydrator(world, world, NoCache())
    assert hydrator.enable(query) and not QuoteHydrator(world, world, NoCache(), quirks="reference").enable(query)
    asked = await answer(hydrator.hydrate(query, batch))
    assert asked.columns["quoted_author_blocks_viewer"].values.tolist() == [True, False, False]
    assert list(asked.columns) == ["quoted_author_blocks_viewer"]
    world.fail = {"blocked_by"}
    failed = await answer(hydrator.hydrate(query, batch))
    assert failed.columns["quoted_author_blocks_viewer"].values.tolist() == [False, True, False]


def test_12_user_ids_are_asked_once(world: FakeWorld) -> None:
    wanted = np.array([3, 3, 5, 3], np.uint64)
    assert GizmoduckHydrator(world, NoCache(), quirks="reference").ask_for(wanted)[0].tolist() == [3, 5, 3]
    assert GizmoduckHydrator(world, NoCache(), quirks="fixed").ask_for(wanted)[0].tolist() == [3, 5]


def test_13_a_parent_id_of_zero_means_none(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    world.fail = {"core_data"}
    outside = run_posts(make_query(), "reference")
    rows = outside.retrieved.values("served_type") == ServedType.FOR_YOU_PHOENIX_RETRIEVAL
    assert outside.retrieved.is_set("in_reply_to_tweet_id")[rows].all()
    assert not run_posts(make_query()).retrieved.is_set("in_reply_to_tweet_id").any()


async def test_14_every_remote_call_has_a_deadline(world: FakeWorld, make_query: Query) -> None:
    async def hangs(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(60)

    world.visibility = hangs  # type: ignore[method-assign]
    world.followed_user_ids = hangs  # type: ignore[method-assign]
    quick = {name: Policy(deadline_ms=20) for name in ("VFHydrator", "FollowedUserIdsQueryHydrator")}
    settings = MixerSettings(policies=quick)
    pipeline = scored_posts_pipeline(world.collaborators(), settings)
    result = await pipeline.execute(make_query())
    assert {run.name for run in result.failures} == set(quick)
    assert all("DeadlineError" in (run.error or "") for run in result.failures)
    assert len(result.selected) == 35
    remote = pipeline.query_hydrators + pipeline.post_selection_hydrators
    assert all(pipeline.policy_of(component).deadline_ms for component in remote)
    assert all(pipeline.policy_of(component).deadline_ms == 10_000 for component in pipeline.side_effects)
    reference = scored_posts_pipeline(world.collaborators(), MixerSettings(quirks="reference"))
    assert reference.policy_of(reference.post_selection_hydrators[0]).deadline_ms is None
    await pipeline.drain()


def test_15_a_non_positive_weight_sum_is_refused(world: FakeWorld) -> None:
    zero = {name: 0.0 for name, value in Params().public().items() if name.endswith("Weight") and value}
    with pytest.raises(ConfigurationError, match="weights sum to"):
        Params().override(zero).check()
    with pytest.raises(ConfigurationError, match="every positive weight is 0"):
        Params().override({**zero, "ReportWeight": -1.0}).check()
    with pytest.raises(ConfigurationError, match="ReplyWeight is -1"):
        Params().override({"ReplyWeight": -1}).check()
    with pytest.raises(ConfigurationError, match=r"OonWeightFactor is -0\.5, must be at least 0"):
        Params().override({"OonWeightFactor": -0.5}).check()
    collaborators = world.collaborators()
    with pytest.raises(ConfigurationError, match="weights sum to"):
        HomeMixer(collaborators, MixerSettings(params=Params().override(zero)))
    with closing(HomeMixer(collaborators)) as mixer, pytest.raises(ConfigurationError, match="FavoriteWeight is -60"):
        mixer.query(VIEWER, params={"FavoriteWeight": -60})
    # The release computes with whatever it is given.
    settings = MixerSettings(quirks="reference", params=Params().override({"FavoriteWeight": -60}))
    with closing(HomeMixer(collaborators, settings)) as mixer:
        assert mixer.query(VIEWER, params={"ReplyWeight": -1}).params.reply_weight == -1


def test_dpp_uses_no_random_vectors(make_query: Query) -> None:
    batch = CandidateBatch.from_records(
        {"tweet_id": row + 1, "author_id": 1, "score": score} for row, score in enumerate([0.9, 0.8, 0.7, 0.6])
    )
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 0]], np.float32)

    def embeddings(wanted: Any) -> Any:
        rows = as_uint64(wanted).astype(np.int64) - 1
        return vectors[rows], rows < 3

    async def scores(quirks: Any) -> list[float]:
        query = make_query({"EnableVMRanker": True, "TOP_K_CANDIDATES_TO_SELECT": 2, "RESULT_SIZE": 2})
        result = await answer(VMRanker(DppValueModel(embeddings, quirks)).score(query, batch))
        values: list[float] = result.columns["score"].values.tolist()
        return values

    fixed = asyncio.run(scores("fixed"))
    # The twin of the first post falls behind the different one; the post without a vector keeps its score.
    assert (fixed[0], fixed[2], fixed[3]) == (0.9, 0.7, 0.6)
    assert 0.6 < fixed[1] < 0.7
    reference = asyncio.run(scores("reference"))
    assert reference.count(0.0) == 2 and reference[0] == 0.9


def test_dpp_lets_nobody_from_beyond_its_pool_pass(make_query: Query) -> None:
    scores = [5.0, 4.0, 1.0, 0.9, 0.5, 0.4]
    batch = CandidateBatch.from_records(
        {"tweet_id": row + 1, "author_id": 1, "score": score} for row, score in enumerate(scores)
    )
    # The first and the fourth are chosen, the two between are like the first; the last two are not looked at.
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    dpp = DppValueModel(lambda wanted: (vectors[: len(wanted)], np.ones(len(wanted), np.bool_)))
    limits = {"TOP_K_CANDIDATES_TO_SELECT": 2, "RESULT_SIZE": 2, "VMRankerDppMaxSelectedRank": 4}
    query = make_query({"EnableVMRanker": True, **limits})
    result = asyncio.run(_now(VMRanker(dpp).score(query, batch)))
    after = result.columns["score"].values
    assert np.argsort(-after).tolist() == [0, 3, 1, 2, 4, 5]
    assert (after[0], after[3]) == (5.0, 0.9)


async def _now(value: Any) -> Any:
    return await answer(value)


def test_a_new_viewer_gets_a_feed(world: FakeWorld, run_posts: Any, make_query: Query) -> None:
    stranger = 4_242
    world.popular = sorted(world.posts_table, reverse=True)[:50]
    world.retrieved = []
    assert len(run_posts(make_query(user_id=stranger), "reference").selected) == 0
    result = run_posts(make_query(user_id=stranger), explain=True)
    assert len(result.selected) == 35
    assert set(result.selected.values("served_type").tolist()) == {int(ServedType.FOR_YOU_FALLBACK)}
    assert result.trace.source_of(0) == "FallbackSource"


def test_the_switches_published_nowhere_are_marked_as_ours() -> None:
    ours = {spec.metadata["public"] for spec in Params.__dataclass_fields__.values() if spec.metadata["ours"]}
    assert {
        "EnableAdsBrandSafetyHydrator",
        "EnableGrokTopicsHydration",
        "EnableHasMediaHydration",
        "EnableNewUserTopicFiltering",
        "EnableNewUserTopicRetrieval",
        "NewUserTopicAgeThresholdSecs",
        "IncludeRealtimeActions",
        "MaxInferredGrokTopicCategories",
        "UseEgressSidecar",
    } <= ours


def test_created_at_wins_over_the_id(make_query: Query) -> None:
    batch = CandidateBatch.from_records([{"tweet_id": 20, "created_at_ms": NOW_MS - 5}, {"tweet_id": 20}])
    ages, _ = batch.ages_ms(NOW_MS)
    assert ages[0] == 5 and ages[1] > 10**11


def test_dead_components_live_in_fixed_mode(world: FakeWorld) -> None:
    fixed = scored_posts_pipeline(world.collaborators(), MixerSettings()).components()
    names = {name for stage in fixed.values() for name in stage}
    assert {
        "EngagementCountsHydrator",
        "ImpressedPostsQueryHydrator",
        "UserActionSeqQueryHydrator",
        "UserFeaturesQueryHydrator",
        "CacheRequestInfoSideEffect",
    } <= names

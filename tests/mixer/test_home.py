"""The calls that an application makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mixer.world import NOW_MS, FakeWorld
from xfast.errors import ParameterError
from xfast.mixer.deciders import Decider
from xfast.mixer.home import HomeMixer
from xfast.mixer.items import ScoredPost
from xfast.mixer.params import Params
from xfast.mixer.pipelines import MixerSettings

VIEWER = 7


@pytest.fixture
def home(world: FakeWorld) -> Iterator[HomeMixer]:
    made = HomeMixer(world.collaborators(), MixerSettings(clock=lambda: NOW_MS))
    yield made
    made.close()


def test_a_page_has_the_asked_length_and_is_remembered(home: HomeMixer, world: FakeWorld) -> None:
    page = home.for_you(VIEWER, limit=10)
    assert len([item for item in page.items if isinstance(item.item, ScoredPost)]) == 10
    assert not page.failures and not page.candidates
    home.settle()
    assert len(world.served[VIEWER]) == 1


def test_explain_tells_the_story_of_removed_posts_too(home: HomeMixer, world: FakeWorld) -> None:
    own = world.retrieved[3]
    world.posts_table[own].author = VIEWER
    page = home.for_you(VIEWER, explain=True)
    stories = {story.tweet_id: story for story in page.candidates}
    assert stories[own].trace.removed_by == "SelfTweetFilter"
    assert stories[own].trace.source == "PhoenixSource"
    best = page.items[0].item
    assert isinstance(best, ScoredPost)
    story = stories[best.tweet_id]
    assert story.trace.final_rank == 0
    terms = dict(story.trace.scores)
    assert terms["PhoenixScorer"]["p(favorite)"] == pytest.approx(story.fields["phoenix_scores"]["favorite"])
    assert terms["RankingScorer"]["score"] == pytest.approx(story.fields["score"])


def test_a_failing_source_is_visible_on_the_page(home: HomeMixer, world: FakeWorld) -> None:
    world.fail = {"retrieve", "ads"}
    page = home.for_you(VIEWER, explain=True)
    assert page.items
    assert {run.name for run in page.failures} >= {"PhoenixSource", "AdsSource"}


async def test_following_is_in_network(home: HomeMixer, world: FakeWorld) -> None:
    page = await home.following_async(VIEWER)
    posts = [item.item for item in page.items if isinstance(item.item, ScoredPost)]
    assert posts and all(post.in_network for post in posts)
    assert {post.served_type.pascal for post in posts} == {"RankedFollowing"}
    await home.for_you_feed.drain()
    await home.scored_posts.drain()


def test_a_configuration_that_cannot_show_ads_says_so(world: FakeWorld, caplog: pytest.LogCaptureFixture) -> None:
    HomeMixer(world.collaborators()).close()
    assert caplog.messages == []
    silent = Params().override({"EnableAdsBrandSafetyHydrator": False})
    HomeMixer(world.collaborators(), MixerSettings(params=silent)).close()
    HomeMixer(world.collaborators(), MixerSettings(params=silent, production=False)).close()
    (message,) = caplog.messages
    assert message.startswith("ads are on but EnableAdsBrandSafetyHydrator is off")


def test_deciders_are_on_for_their_share_of_requests(world: FakeWorld) -> None:
    name, off = "override_qf_use_lap7", "override_qf_use_fou"
    settings = MixerSettings(deciders={name: 0.25}, clock=lambda: NOW_MS)
    mixer = HomeMixer(world.collaborators(), settings)
    queries = [mixer.query(VIEWER) for _ in range(400)]
    assert 60 < sum(query.decides(name) for query in queries) < 140
    assert not any(query.decides(off) for query in queries)
    assert mixer.query(VIEWER, decider=Decider({off: 1.0})).decides(off), "a request may have its own"
    mixer.close()
    with pytest.raises(ParameterError, match="decider override_qf_use_lap7 is 2, must be between 0 and 1"):
        HomeMixer(world.collaborators(), MixerSettings(deciders={name: 2}))


def test_bad_arguments_are_named(home: HomeMixer) -> None:
    with pytest.raises(ParameterError, match="limit is 99"):
        home.for_you(VIEWER, limit=99)
    with pytest.raises(ParameterError, match=r"no field \['colour'\]"):
        home.for_you(VIEWER, colour="red")
    with pytest.raises(ParameterError, match="user_id is 0"):
        home.for_you(0)

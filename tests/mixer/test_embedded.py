"""Embedded defaults: each changes the feed, over a SQLite store and Thunder fed with the same events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mixer.world import NOW_MS, FakeWorld, post_id
from xfast.actions import PROTO
from xfast.errors import ConfigurationError
from xfast.events import (
    Account,
    AccountState,
    Delete,
    Engagement,
    Follow,
    FollowTopic,
    Impression,
    Label,
    LabelCategory,
    MuteKeyword,
    NetworkEvent,
    Post,
    Profile,
)
from xfast.mixer.clients import AdInfo
from xfast.mixer.embedded import Campaign, CampaignAds, Discovery, StaticPrompts, embedded_collaborators
from xfast.mixer.embedded.simple import TextPrompt
from xfast.mixer.embedded.suggestions import FollowGraphSuggestions
from xfast.mixer.enums import ServedType
from xfast.mixer.items import Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.params import Params
from xfast.mixer.pipelines import MixerSettings, for_you_pipeline, scored_posts_pipeline
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Pipeline
from xfast.stores import open_store
from xfast.thunder import PostStore

VIEWER = 7
FAVORITE = PROTO.column("favorite")


class Frozen:
    """Thunder's clock, standing still."""

    def now(self) -> float:
        return NOW_MS / 1_000

    def elapsed_ms(self) -> float:
        return 0.0


class Network:
    """A store, Thunder and discovery, fed with the same events, and the feed over them."""

    def __init__(self, url: str = "sqlite://", **options: Any) -> None:
        self.store = open_store(url, **options)
        self.thunder = PostStore(clock=Frozen())
        self.discovery = Discovery(clock=lambda: NOW_MS)
        self.models = FakeWorld()
        self.pipelines: list[Pipeline[Any, Any]] = []
        self.ids: dict[str, int] = {}
        self.requests = 0

    def apply(self, *bodies: Any, at: int = NOW_MS - 3_600_000) -> None:
        events = [NetworkEvent(body, at + index) for index, body in enumerate(bodies)]
        self.store.apply(events)
        self.discovery.apply(events)
        posts = [body for body in bodies if isinstance(body, Post)]
        if posts:
            self.thunder.insert(
                {
                    "post_id": np.array([post.post_id for post in posts], np.int64),
                    "author_id": np.array([post.author_id for post in posts], np.int64),
                    "created_at": np.array([at // 1_000] * len(posts), np.int64),
                    "in_reply_to_post_id": np.array([post.in_reply_to_post_id for post in posts], np.int64),
                }
            )

    def post(self, author: int, age_ms: int, **fields: Any) -> int:
        number = post_id(age_ms, len(self.ids))
        self.ids[f"{author}-{number}"] = number
        self.apply(Post(number, author, created_at_ms=NOW_MS - age_ms, **fields), at=NOW_MS - age_ms)
        return number

    def collaborators(self, **changes: Any) -> Any:
        changes = {"ranker": self.models, "retrieval": self.models, **changes}
        return embedded_collaborators(
            self.store,
            self.thunder,
            rankers={},
            retrievers={},
            discovery=self.discovery,
            clock=lambda: NOW_MS,
            **changes,
        )

    def feed(self, **values: Any) -> Any:
        """A page without failures."""
        result = self.request(**values)
        assert not result.failures, result.failures
        return result

    def request(self, user: int = VIEWER, explain: bool = False, params: Any = None, **values: Any) -> Any:
        self.requests += 1
        fields = {key: values.pop(key) for key in list(values) if key in ScoredPostsQuery.__slots__}
        query = ScoredPostsQuery(
            user_id=user, request_id=self.requests, prediction_id=6, request_time_ms=NOW_MS, **fields
        )
        query.params = Params().override(params or {})
        query.explain = [] if explain else None
        parts, settings = self.collaborators(**values), MixerSettings(params=query.params, clock=lambda: NOW_MS)
        pipeline = for_you_pipeline(parts, settings, scored_posts_pipeline(parts, settings))
        self.pipelines.append(pipeline)
        result = pipeline.run(query)
        pipeline.settle()
        return result

    def shown(self, **values: Any) -> list[int]:
        return [post.tweet_id for post in self.feed(**values).selected.of_type(ScoredPost)]


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    made.apply(Follow(VIEWER, 100), Follow(VIEWER, 101), Follow(100, 300), Follow(101, 300), Follow(100, 301))
    for index in range(8):
        made.post(100 + index % 2, 60_000 * (index + 1), text=f"news {index}", language="en")
    yield made
    for pipeline in made.pipelines:
        pipeline.close()
    made.store.close()


def test_thunder_and_stores_make_a_feed(network: Network) -> None:
    result = network.feed(explain=True)
    posts = result.selected.of_type(ScoredPost)
    assert len(posts) == 8
    assert all(post.in_network for post in posts)
    assert {post.served_type for post in posts} == {ServedType.FOR_YOU_IN_NETWORK}
    (inner,) = result.query.explain
    assert inner.trace.candidate(0).source == "ThunderSource"


def test_account_state_deletion_and_labels_hide(network: Network) -> None:
    doomed = network.post(100, 1_000, text="soon deleted")
    spam = network.post(100, 2_000, text="spam")
    assert {doomed, spam} <= set(network.shown())
    network.apply(Delete(doomed, 100), Label("SPAM", LabelCategory.SAFETY, post_id=spam), at=NOW_MS - 10)
    network.apply(Account(101, AccountState.SUSPENDED), at=NOW_MS - 9)
    left = network.feed(user=VIEWER, params={"EnableServedFilterAllRequests": False}).selected.of_type(ScoredPost)
    assert {post.author_id for post in left} == {100}
    assert not {doomed, spam} & {post.tweet_id for post in left}


def test_protected_posts_reach_followers_only(network: Network) -> None:
    secret = network.post(100, 1_000, text="for friends")
    network.apply(Account(100, AccountState.PROTECTED), at=NOW_MS - 9)
    assert secret in network.shown()
    assert secret not in network.shown(user=4_444)


def test_muted_keywords_and_impressions_come_from_the_store(network: Network) -> None:
    muted, seen = network.post(100, 1_000, text="a big Spoiler"), network.post(100, 2_000, text="seen")
    network.apply(MuteKeyword(VIEWER, "spoiler"), Impression(VIEWER, seen), at=NOW_MS - 100)
    assert not {muted, seen} & set(network.shown())


def test_pages_are_remembered(network: Network) -> None:
    first = network.shown(params={"ExcludeServedTweetIdsDuration": 10})
    assert len(first) == 8
    assert network.shown() == []
    assert network.store.request_times(VIEWER)[0] == NOW_MS


def test_a_stranger_gets_the_fallback(network: Network) -> None:
    posts = network.feed(user=9_999).selected.of_type(ScoredPost)
    assert posts and {post.served_type for post in posts} <= {
        ServedType.FOR_YOU_FALLBACK,
        ServedType.FOR_YOU_TWEET_MIXER,
    }


def test_a_new_user_in_a_network_with_fifty_posts_gets_a_page(network: Network) -> None:
    for index in range(50):
        network.post(500 + index, 10_000 + index, text="hello")
    assert len(network.shown(user=9_999)) == 35


def test_co_engagement_recommends(network: Network) -> None:
    liked, friend = network.post(600, 5_000), network.post(601, 6_000)
    for index in range(60):
        network.post(700 + index, 7_000 + index)
    for fan in range(1_000, 1_010):
        network.apply(Engagement(fan, liked, FAVORITE, 600), Engagement(fan, friend, FAVORITE, 601), at=NOW_MS - 900)
    query = ScoredPostsQuery(user_id=VIEWER, request_time_ms=NOW_MS)
    network.apply(Engagement(VIEWER, liked, FAVORITE, 600), at=NOW_MS - 800)
    posts, _ = network.discovery.recommend(query, product="", excluded_ids=None, max_results=5)
    assert posts[0] == friend and liked not in posts


def test_who_to_follow_knows_friends_of_friends(network: Network) -> None:
    (module,) = network.feed().selected.of_type(WhoToFollowModule)
    assert [user.user_id for user in module.users] == [300, 301]
    assert module.users[0].reason == "followed by 2 you follow"
    network.apply(Account(300, AccountState.SUSPENDED), at=NOW_MS - 5)
    assert network.feed(params={"WhoToFollowFatigueHours": 30}).selected.of_type(WhoToFollowModule) == []
    rested = network.feed(params={"WhoToFollowFatigueHours": 0}).selected.of_type(WhoToFollowModule)
    assert rested == []  # 301 was shown before, 300 is suspended now


def test_who_to_follow_looks_at_engagement(network: Network) -> None:
    suggestions = FollowGraphSuggestions(network.store)
    query = ScoredPostsQuery(user_id=VIEWER, request_time_ms=NOW_MS)

    def order() -> list[int]:
        return [user.user_id for user in suggestions.suggest(query, [])]

    assert order() == [300, 301], "two friends follow 300, one follows 301"
    liked = [network.post(301, 60_000 * index) for index in range(1, 4)]
    hidden = network.post(300, 60_000)
    network.apply(*(Engagement(VIEWER, post, FAVORITE, 301) for post in liked), at=NOW_MS - 10)
    assert order() == [301, 300]
    not_interested = PROTO.column("not_interested")
    network.apply(*(Engagement(VIEWER, post, not_interested, 301) for post in liked), at=NOW_MS - 5)
    network.apply(Engagement(VIEWER, hidden, FAVORITE, 300), at=NOW_MS - 5)
    assert order() == [300, 301], "what the viewer wants less of does not count"


def test_labels_let_ads_in(network: Network) -> None:
    ads = CampaignAds([Campaign(post_id=1 + i, author_id=50 + i, risk="BsrLow") for i in range(3)])
    assert network.feed(ads=ads).selected.of_type(AdInfo) == []
    for number in network.ids.values():
        network.apply(
            Label("GROK_SFA", LabelCategory.BRAND, post_id=number),
            Label("PTOS_REVIEWED", LabelCategory.BRAND, post_id=number),
            at=NOW_MS - 50,
        )
    again = network.feed(ads=ads, params={"ExcludeServedTweetIdsDuration": 0, "EnableServedFilterAllRequests": False})
    assert len(again.selected.of_type(AdInfo)) >= 1


def test_campaigns_pace_cap_and_target(tmp_path: Path) -> None:
    path = tmp_path / "campaigns.toml"
    path.write_text(
        "[[campaign]]\npost_id = 1\nbid = 2\nper_viewer = 1\n"
        '[[campaign]]\npost_id = 2\nlanguages = ["fr"]\n'
        "[[campaign]]\npost_id = 3\ndaily_impressions = 4\nper_viewer = 0\n"
    )
    ads = CampaignAds.load(path)

    def offered(time_ms: int, language: str = "en", user: int = 1) -> list[int]:
        query = ScoredPostsQuery(user_id=user, request_time_ms=time_ms, language_code=language)
        return [ad.post_id for ad in ads.ads(query)]

    day = 20_000 * 86_400_000
    assert offered(day) == [1, 3]
    assert offered(day + 1) == []
    assert offered(day + 2, "fr", 2) == [1, 2]
    assert offered(day + 43_200_000) == [3]
    assert offered(day + 86_400_001) == [1, 3]
    path.write_text("[[campaign]]\npost_id = 1\nbudget = 3\n")
    with pytest.raises(ConfigurationError, match="unknown keys \\['budget'\\]"):
        CampaignAds.load(path)
    with pytest.raises(ConfigurationError, match="risk is 'nice'"):
        Campaign(post_id=1, risk="nice")


def test_prompts_and_pushed_posts(network: Network) -> None:
    pushed = network.post(100, 9_000, text="look")
    network.post(800, 8_000, in_reply_to_post_id=pushed)
    prompts = StaticPrompts([TextPrompt("Bonjour", languages=("fr",)), TextPrompt("Hi")])
    items = network.feed(prompts=prompts, push_to_home_post_id=pushed, language_code="en").selected
    assert items.of_type(Prompt) == [Prompt(b"Hi")]
    assert isinstance(items.items[0].item, PushToHomePost)
    assert items.items[0].item.facepile == (800,)


def test_profiles_media_topics_and_history_are_hydrated(network: Network) -> None:
    from xfast.events import Media, MediaKind
    from xfast.mixer.clients import SequenceRequest
    from xfast.mixer.embedded import StorePosts, StoreViewers

    number = network.post(100, 1_000, media=(Media(MediaKind.VIDEO, 12_000),), topic_ids=(5,), language="fr")
    network.apply(
        Profile(100, screen_name="ada"),
        FollowTopic(VIEWER, 5),
        Engagement(VIEWER, number, FAVORITE, 100, dwell_ms=3_000),
        at=NOW_MS - 50,
    )
    posts, viewers = StorePosts(network.store), StoreViewers(network.store, clock=lambda: NOW_MS)
    ids = np.array([number, 12], np.uint64)
    assert posts.media(ids)[0] == ({"kind": "video", "duration_ms": 12_000},)
    assert [d.tolist() for d in posts.video_durations(ids)] == [[12_000, 0], [True, False], [True, False]]
    assert posts.topics(ids, 0) == [[5], None]
    assert posts.language_codes(ids).tolist() == ["fr", None]
    assert posts.users(np.array([100, 4], np.uint64)).screen_names.tolist() == ["ada", None]
    assert viewers.followed_topics(VIEWER) == viewers.inferred_topics(VIEWER) == [5]
    history = viewers.sequence(SequenceRequest(VIEWER, "Fou", 300_000, 64, "DENSE", "ARROW", True, True))
    assert history.post_ids.tolist() == [number]
    assert history.actions[0, FAVORITE] == 1

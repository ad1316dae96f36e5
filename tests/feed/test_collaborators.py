"""Every embedded collaborator, through a whole feed: with it, or with what it answers, the feed is another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.feed.conftest import MODEL_CONFIG, NOW, VIEWER, Town, post_id
from tests.phoenix.models import random_tower, tiny_config
from xfast.actions import PROTO
from xfast.errors import ConfigurationError
from xfast.events import (
    Account,
    AccountState,
    Block,
    Delete,
    Engagement,
    Follow,
    Label,
    LabelCategory,
    Media,
    MediaKind,
    Mute,
    NetworkEvent,
    Post,
    Profile,
    Subscribe,
    SubscriptionLevel,
)
from xfast.feed import Feed, PromotedItem, PromptItem, PushedItem, SuggestionsItem
from xfast.mixer.clients import AdInfo, IpLocation
from xfast.mixer.embedded import Campaign, MemorySink
from xfast.mixer.embedded.simple import DeclaredGender, TextPrompt
from xfast.phoenix import Ranker, save_artifacts

Make = Callable[..., Town]
FRIEND = 100
LIKE = PROTO.column("favorite")
CLUSTERS = ("Experiment1Fou", "Experiment1Lap7")
ADS = [Campaign(post_id=900 + index, author_id=800 + index, text=f"ad {index}", risk="BsrLow") for index in range(3)]


def strangers(town: Town, count: int = 20, **fields: Any) -> list[int]:
    """Posts of as many authors whom nobody follows."""
    return [town.post(1_000 + index, f"post {index}", age_ms=60_000 + index, **fields) for index in range(count)]


def sources(town: Town, viewer: int = VIEWER, **options: Any) -> Counter[str]:
    """Candidates by source, as the trace has them."""
    parts = town.feed._parts
    query = town.feed._query(viewer, 35, options.pop("params", None), options)
    return Counter(story.trace.source or "" for story in parts.quiet.answer(query, explain=True).candidates)


def test_the_ranker_orders(town: Town, make_town: Make) -> None:
    config = tiny_config(num_actions=49, num_continuous_actions=8, product_surface_vocab_size=16)
    other = make_town(collaborators={"ranker": _Local(Ranker(random_tower(config, seed=5)))})
    for each in (town, other):
        strangers(each)
    first, second = town.shown(), other.shown()
    assert first != second and len(first) == len(second) == 20


class _Local:
    def __init__(self, ranker: Ranker) -> None:
        from xfast.mixer.embedded import LocalRanker

        self._inner = LocalRanker({"*": ranker})

    async def predict(self, request: Any) -> Any:
        return await self._inner.predict(request)


def test_models_are_swapped_while_serving(town: Town, tmp_path: Path) -> None:
    posts = strangers(town)
    plain = {"EnableVMRanker": False}
    before = town.shown(params=plain)
    vectors = town.feed.network.corpus.retriever.contents().representations
    towers = random_tower(MODEL_CONFIG, seed=7), random_tower(MODEL_CONFIG, "retrieval", seed=7)
    save_artifacts(tmp_path, ranker=towers[0], retrieval=towers[1])
    town.feed.swap(tmp_path)
    after = town.shown(params=plain)
    assert sorted(after) == sorted(before) == sorted(posts) and after != before
    assert not np.allclose(town.feed.network.corpus.retriever.contents().representations, vectors)
    late = town.post(5_000, "with the new model")
    assert late in town.shown()


def test_clusters_have_models_of_their_own(make_town: Make, tmp_path: Path) -> None:
    towers = random_tower(MODEL_CONFIG, seed=7), random_tower(MODEL_CONFIG, "retrieval", seed=7)
    save_artifacts(tmp_path, ranker=towers[0], retrieval=towers[1])
    town = make_town(clusters={"Experiment1Lap7": tmp_path})
    posts = strangers(town)
    other = {"PhoenixInferenceClusterId": "Experiment1Lap7", "EnableVMRanker": False}
    usual, ranked = town.shown(params={"EnableVMRanker": False}), town.shown(params=other)
    assert usual != ranked and sorted(usual) == sorted(ranked) == sorted(posts)
    sampled = make_town(clusters={"Experiment1Lap7": tmp_path}, deciders={"override_qf_use_lap7": 1.0})
    strangers(sampled)
    assert sampled.shown(params={"EnableVMRanker": False}) == ranked, "the decider sends everyone to the other ranker"
    one = {"PhoenixMaxResults": 1, "TweetMixerMaxResults": 0, "FallbackMaxResults": 0}
    found = {town.shown(params={**one, "PhoenixRetrievalInferenceClusterId": name})[0] for name in ("x", *CLUSTERS)}
    assert len(found) == 2, "two models, two nearest posts"
    town.tell(*(Delete(post) for post in found))
    assert not found & {
        post
        for name in CLUSTERS
        for post in town.shown(params={"PhoenixRetrievalInferenceClusterId": name, "TweetMixerMaxResults": 0})
    }


def test_retrieval_and_its_interests_find(town: Town) -> None:
    posts = strangers(town, 12)
    town.tell(*(Engagement(VIEWER, post, LIKE) for post in posts[:3]))
    found = sources(town, params={"EnablePhoenixMOESource": True, "PhoenixMOEMaxResults": 4})
    assert (found["PhoenixSource"], found["PhoenixMOESource"]) == (9, 4), "what the viewer liked is left out"


def test_the_value_model_spreads(town: Town) -> None:
    strangers(town, 30)
    plain = town.shown(params={"EnableVMRanker": False})
    spread = town.shown(params={"EnableVMRanker": True})
    assert sorted(plain) == sorted(spread) and plain != spread


def test_ads_need_labels_and_keep_their_cap(make_town: Make, caplog: pytest.LogCaptureFixture) -> None:
    town = make_town(campaigns=ADS)
    posts = strangers(town)
    for viewer in (6, 7):
        assert not [item for item in town.feed.for_you(viewer).timeline if isinstance(item, PromotedItem)]
    (message,) = [each for each in caplog.messages if "ad" in each]
    assert "none of 20 posts has the label GROK_SFA" in message, "said once, not per page"
    for post in posts:
        names = ("GROK_SFA", "PTOS_REVIEWED")
        town.tell(*(Label(name, LabelCategory.BRAND, post_id=post) for name in names))
    town.tell(Profile(800, "advertiser"))
    ads = [item for item in town.feed.for_you(8).timeline if isinstance(item, PromotedItem)]
    assert ads and (ads[0].author, ads[0].text) == ("advertiser", "ad 0")
    assert not [item for item in town.feed.for_you(9, remember=False).timeline if isinstance(item, PromotedItem)]


def test_prompts_suggestions_and_pushed_posts(make_town: Make) -> None:
    town = make_town(prompts=(TextPrompt("Hallo", languages=("de",)), TextPrompt("Hello")))
    town.follow(FRIEND, 101)
    town.tell(*(Follow(friend, 300) for friend in (FRIEND, 101)), Follow(101, 301))
    town.tell(Profile(300, "liked_by_friends"), Profile(VIEWER, "me", languages=("de",)), Profile(400, "replier"))
    posts = strangers(town, 8)
    town.post(400, "a reply", in_reply_to_post_id=posts[0], in_reply_to_user_id=1_000)
    timeline = town.feed.for_you(VIEWER, push_to_home_post_id=posts[0]).timeline
    assert isinstance(timeline[0], PushedItem)
    assert (timeline[0].post_id, timeline[0].text, timeline[0].repliers) == (posts[0], "post 0", ("replier",))
    assert [item.text for item in timeline if isinstance(item, PromptItem)] == ["Hallo", "Hello"]
    (suggested,) = [item for item in timeline if isinstance(item, SuggestionsItem)]
    assert [account.name for account in suggested.accounts] == ["liked_by_friends", "301"]
    town.tell(Account(300, AccountState.SUSPENDED))
    again = town.feed.for_you(VIEWER, params={"WhoToFollowFatigueHours": 0}).timeline
    assert not [item for item in again if isinstance(item, SuggestionsItem)], "one is suspended, one was shown"


def test_discovery_knows_what_is_popular_and_what_goes_together(town: Town) -> None:
    posts = strangers(town)
    few = {"FallbackMaxResults": 2, "TweetMixerMaxResults": 2, "PhoenixMaxResults": 1}
    liked, friend = posts[11], posts[17]
    town.tell(*(Engagement(50 + fan, post, LIKE) for fan in range(9) for post in (liked, friend)))
    assert {liked, friend} <= set(town.shown(424_242, params=few))
    town.tell(Engagement(VIEWER, liked, LIKE))
    with_it = town.feed.for_you(VIEWER, remember=False, params={**few, "TweetMixerMaxResults": 1})
    assert friend in {item.post_id for item in with_it if item.source == "for_you_tweet_mixer"}
    assert sources(town, 424_242, params=few)["FallbackSource"] == 2


def test_the_store_answers_for_viewers_and_posts(town: Town) -> None:
    town.tell(
        Profile(FRIEND, "friend", subscription_level=SubscriptionLevel.PREMIUM),
        Follow(VIEWER, FRIEND), Follow(VIEWER, 101), Follow(VIEWER, 102), Follow(VIEWER, 103),
        Mute(VIEWER, 101), Block(102, VIEWER), Subscribe(VIEWER, 103),
    )  # fmt: skip
    film = town.post(FRIEND, "a film", media=(Media(MediaKind.VIDEO, 30_000),))
    for author in (101, 102):
        town.post(author, "not for this viewer")
    paid = town.post(103, "for subscribers", subscription_author_id=103)
    page = {item.post_id: item for item in town.feed.for_you(VIEWER, remember=False)}
    assert set(page) == {film, paid}
    item = page[film]
    assert (item.author, item.verified, item.media) == ("friend", True, ({"kind": "video", "duration_ms": 30_000},))
    assert set(town.shown(9_999)) >= {film} and paid not in town.shown(9_999)


def test_visibility_and_labels(town: Town) -> None:
    town.follow(FRIEND)
    spam, risky = town.post(FRIEND, "spam"), town.post(FRIEND, "risky")
    town.tell(
        Label("SPAM", LabelCategory.SAFETY, post_id=spam),
        Label("DO_NOT_AMPLIFY", LabelCategory.SAFETY, post_id=risky),
    )
    assert town.shown() == [risky], "friends see what is only not recommended"
    assert town.shown(9_999) == []


def test_scrolling_reuses_candidates_but_checks_them(town: Town) -> None:
    size = 620
    events = [
        NetworkEvent(Post(post_id(NOW - 600_000, index), 2_000 + index, created_at_ms=NOW - 600_000), NOW - 600_000)
        for index in range(size)
    ]
    town.feed.ingest(events)
    town.feed.for_you(VIEWER, 5)
    scrolled: dict[str, Any] = {"is_bottom_request": True}
    assert set(sources(town, **scrolled)) >= {"PhoenixSource"}, "the quiet mixer reads no cache"

    def next_page() -> list[int]:
        page = town.feed.for_you(VIEWER, 5, explain=True, **scrolled)
        assert {each.source for each in page.removed} <= {"CachedPostsSource"}
        return [item.post_id for item in page]

    first = next_page()
    assert len(first) == 5
    upcoming = [item.post_id for item in town.feed.for_you(VIEWER, 5, remember=False)]
    town.tell(Delete(upcoming[0]), Account(_author(town, upcoming[1]), AccountState.SUSPENDED))
    town.tell(Block(VIEWER, _author(town, upcoming[2])), Block(_author(town, upcoming[3]), VIEWER))
    assert not set(next_page()) & set(upcoming[:4])
    fresh = town.post(FRIEND, "new")
    assert fresh in {story.post_id for story in town.feed.explain(VIEWER, fresh).stories}, "a refresh asks the sources"


def _author(town: Town, post: int) -> int:
    return int(town.feed.network.store.posts([post]).author_id[0])


def test_own_collaborators_take_the_places(make_town: Make) -> None:
    class Index:
        def ads(self, query: Any) -> Sequence[AdInfo]:
            return [AdInfo(post_id=5, author_id=6, insert_position=1, risk="BsrNormal", text="mine")]

    sink = MemorySink()
    town = make_town(collaborators={"ads": Index(), "sink": sink, "gender": DeclaredGender({VIEWER: "female"})})
    for post in strangers(town):
        town.tell(*(Label(name, LabelCategory.BRAND, post_id=post) for name in ("GROK_SFA", "PTOS_REVIEWED")))
    page = town.feed.for_you(VIEWER, seen_ids=[77])
    assert [item.text for item in page.timeline if isinstance(item, PromotedItem)] == ["mine"]
    assert any(77 in record.values() for topic in list(sink._topics) for record in sink.records(topic))
    query = town.feed._query(VIEWER, 5, None, {})
    result = town.feed._parts.mixer.scored_posts.run(query)
    assert result.query.user_inferred_gender == "female" and result.query.ip_location is None
    with pytest.raises(ConfigurationError, match=r"unknown collaborator adds, did you mean ads\?"):
        make_town(collaborators={"adds": Index()})


def test_where_a_request_comes_from_reaches_a_model_that_reads_it(make_town: Make) -> None:
    config = tiny_config(num_ip_hashes=1, num_actions=49, num_continuous_actions=8, product_surface_vocab_size=16)

    class Locator:
        def locate(self, ip_address: str) -> IpLocation:
            assert ip_address == "192.0.2.1"
            return IpLocation("PT", np.full((1, config.emb_size), 0.7, np.float32))

    town = make_town(collaborators={"ranker": _Local(Ranker(random_tower(config))), "ip": Locator()})
    strangers(town)
    plain = {"EnableVMRanker": False}
    nowhere, there = town.shown(params=plain), town.shown(params=plain, ip_address="192.0.2.1")
    assert sorted(nowhere) == sorted(there) and nowhere != there
    assert town.shown(params={**plain, "EnableIpFeature": False}, ip_address="192.0.2.1") == nowhere


def test_what_viewers_declared_decides_about_ads(make_town: Make) -> None:
    town = make_town(campaigns=[Campaign(post_id=900, author_id=800, text="Guten Tag", countries=("DE",))])
    for post in strangers(town):
        town.tell(*(Label(name, LabelCategory.BRAND, post_id=post) for name in ("GROK_SFA", "PTOS_REVIEWED")))
    town.tell(Profile(7, "anna", country_code="DE"), Profile(8, "bob", country_code="FR"))
    kinds = {user: {item.kind for item in town.feed.for_you(user).timeline} for user in (7, 8, 9)}
    assert {user for user, shown in kinds.items() if "promoted" in shown} == {7}


def test_nothing_is_inferred_about_people(town: Town) -> None:
    town.tell(Profile(VIEWER, "maria", age_years=40, country_code="DE"))
    result = town.feed._parts.mixer.scored_posts.run(town.feed._query(VIEWER, 5, None, {"ip_address": "192.0.2.1"}))
    assert (result.query.user_inferred_gender, result.query.ip_location) == (None, None)
    assert result.query.user_demographics["country_code"] == "DE"


def test_feeds_close_with_their_parts(make_town: Make) -> None:
    town = make_town()
    strangers(town, 3)
    assert isinstance(town.feed, Feed)
    town.feed.close()
    town.feed.close()

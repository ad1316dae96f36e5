"""Every filter of both stages, on data made to trigger it, through a whole feed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.feed.conftest import NOW, VIEWER, Town, post_id
from xfast.events import Block, FollowTopic, Impression, Label, LabelCategory, Media, MediaKind, MuteKeyword, Post
from xfast.mixer import filters
from xfast.mixer.embedded import StoreViewers
from xfast.mixer.topics import topic_id

FRIEND, OTHER, STRANGER = 100, 101, 200
HOUR, DAY = 3_600_000, 86_400_000


def removals(town: Town, viewer: int = VIEWER, **options: Any) -> dict[str, set[int]]:
    """Removed posts by filter."""
    page = town.feed.for_you(viewer, explain=True, remember=False, **options)
    assert page.failures == []
    found: dict[str, set[int]] = {}
    for each in page.removed:
        assert each.reason and each.source
        found.setdefault(each.filter, set()).add(each.post_id)
    return found


def test_every_filter_fires(make_town: Callable[..., Town], monkeypatch: pytest.MonkeyPatch) -> None:
    town = make_town(params={"MAX_POST_AGE": 30 * 86_400})
    tennis, crypto = topic_id("TENNIS"), topic_id("CRYPTOCURRENCY")
    town.follow(FRIEND, OTHER)
    made: dict[str, int] = {}
    made["DropDuplicatesFilter"] = town.post(FRIEND, "Thunder and retrieval both bring this")
    made["AgeFilter"] = town.post(FRIEND, "old", age_ms=3 * DAY)
    made["SelfTweetFilter"] = town.post(VIEWER, "my own")
    repost = post_id(NOW - 30_000, 999)
    original = town.post(OTHER, "worth a repost", age_ms=2 * HOUR)
    made["RetweetDeduplicationFilter"] = original
    town.tell(Post(repost, FRIEND, source_post_id=original, source_user_id=OTHER), age_ms=30_000)
    made["IneligibleSubscriptionFilter"] = town.post(STRANGER, "for payers", subscription_author_id=STRANGER)
    made["PreviouslySeenPostsFilter"] = town.post(FRIEND, "seen")
    town.tell(Impression(VIEWER, made["PreviouslySeenPostsFilter"]))
    made["MutedKeywordFilter"] = town.post(FRIEND, "Such a SPOILER!")
    town.tell(MuteKeyword(VIEWER, "spoiler"))
    made["AuthorSocialgraphFilter"] = town.post(300, "blocked")
    town.tell(Block(VIEWER, 300))
    made["VideoFilter"] = town.post(FRIEND, "moving", media=(Media(MediaKind.VIDEO, 20_000),))
    made["TopicIdsFilter"] = town.post(FRIEND, "coins", topic_ids=(crypto,))
    made["VFFilter"] = town.post(FRIEND, "spam")
    town.tell(Label("SPAM", LabelCategory.SAFETY, post_id=made["VFFilter"]))
    made["AncillaryVFFilter"] = town.post(
        FRIEND, "look at this", quoted_post_id=made["VFFilter"], quoted_user_id=FRIEND
    )
    root = town.post(FRIEND, "question?", age_ms=3 * HOUR)
    thread = {root}
    for index in range(2):
        thread.add(
            town.post(
                FRIEND, f"answer {index}", age_ms=HOUR, in_reply_to_post_id=root, in_reply_to_user_id=FRIEND,
                conversation_id=root,
            )
        )  # fmt: skip
    # Thunder can be ahead of the store.
    unknown = made["CoreDataHydrationFilter"] = post_id(NOW - 5_000, 998)
    columns = {"post_id": [unknown], "author_id": [FRIEND], "created_at": [NOW // 1_000 - 5]}
    town.feed.network.thunder.insert({name: np.array(values) for name, values in columns.items()})

    request = {"excluded_topic_ids": [crypto], "exclude_videos": True, "params": {"MAX_POST_AGE": 2 * 86_400}}
    fired = removals(town, **request)
    for name, post in made.items():
        assert post in fired.get(name, ()), (name, fired)
    assert fired["DedupConversationFilter"] < thread and len(fired["DedupConversationFilter"]) == 2

    # What the Bloom filters miss (they are rebuilt, or their store is away) the list of impressions still catches.
    with monkeypatch.context() as patched:
        patched.setattr(StoreViewers, "impression_filters", lambda self, user: [])
        fired |= removals(town, **request)
    assert fired["PreviouslySeenPostsBackupFilter"] == {made["PreviouslySeenPostsFilter"]}

    # A page that was served is not served again.
    first = town.feed.for_you(VIEWER, limit=1)
    fired |= removals(town)
    assert fired["PreviouslyServedPostsFilter"] >= {first[0].post_id}

    # A new viewer's topics.
    newcomer = post_id(NOW - 3 * DAY, 5)
    town.follow(FRIEND, viewer=newcomer)
    town.tell(FollowTopic(newcomer, tennis))
    liked, disliked = town.post(201, "match point", topic_ids=(tennis,)), town.post(202, "coins", topic_ids=(crypto,))
    switch = {"EnableNewUserTopicFiltering": True}
    fired |= removals(town, newcomer, params=switch)
    assert disliked in fired["NewUserTopicIdsFilter"] and liked not in fired["NewUserTopicIdsFilter"]

    everything = {name for name in filters.__all__ if name.endswith("Filter")}
    assert len(everything) == 17
    assert set(fired) == everything
    listed = town.feed._parts.mixer.scored_posts.components()
    assert set(listed["Filter"] + listed["PostSelectionFilter"]) == everything


def test_a_removed_post_is_explained(town: Town) -> None:
    town.follow(FRIEND)
    town.post(FRIEND, "fine")
    muted = town.post(FRIEND, "a spoiler")
    town.tell(MuteKeyword(VIEWER, "spoiler"))
    found = town.feed.explain(VIEWER, muted)
    assert found.status == "removed"
    assert found.summary == "removed by MutedKeywordFilter: contains a muted word"
    assert "the viewer follows the author" in found.notes
    assert {story.source for story in found.stories} == {"ThunderSource", "TweetMixerSource", "PhoenixSource"}

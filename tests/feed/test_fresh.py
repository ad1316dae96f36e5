"""What happened a moment ago is in the next page: posts, deletions, account states, erasure."""

from __future__ import annotations

import pytest

from tests.feed.conftest import NOW, VIEWER, Town
from xfast.actions import PROTO
from xfast.errors import ParameterError
from xfast.events import (
    Account,
    AccountState,
    Delete,
    Engagement,
    Follow,
    Impression,
    NetworkEvent,
    Post,
    Profile,
    Unfollow,
)

FRIEND, STRANGER = 100, 200
LIKE = PROTO.column("favorite")


@pytest.fixture
def known(town: Town) -> Town:
    """A viewer with a friend and a history, so that the model finds posts for them."""
    town.follow(FRIEND)
    town.post(FRIEND, "from a friend")
    liked = town.post(STRANGER, "liked")
    town.tell(Engagement(VIEWER, liked, LIKE))
    return town


@pytest.mark.parametrize("author", [FRIEND, STRANGER])
def test_a_post_can_be_found_at_once_and_is_gone_when_deleted(known: Town, author: int) -> None:
    post = known.post(author, "just now", age_ms=0)
    page = known.feed.for_you(VIEWER, explain=True, remember=False)
    assert post in {item.post_id for item in page}
    source = "for_you_in_network" if author == FRIEND else "for_you_phoenix_retrieval"
    brought = {each.source for each in page.removed if each.post_id == post} | {
        story.source for story in known.feed.explain(VIEWER, post).stories
    }
    assert "PhoenixSource" in brought
    assert {item.source for item in page if item.post_id == post} <= {source, "for_you_tweet_mixer"}
    known.tell(Delete(post, author), age_ms=0)
    assert post not in known.shown()
    found = known.feed.explain(VIEWER, post)
    assert found.status == "not retrieved" and found.notes == ("the post is deleted",)


@pytest.mark.parametrize("state", [AccountState.SUSPENDED, AccountState.DEACTIVATED])
@pytest.mark.parametrize("author", [FRIEND, STRANGER])
def test_posts_vanish_with_their_author_s_account_and_come_back(known: Town, author: int, state: AccountState) -> None:
    post = known.post(author, "here today")
    assert post in known.shown()
    known.tell(Account(author, state), age_ms=500)
    page = known.feed.for_you(VIEWER, explain=True, remember=False)
    assert author not in {item.author_id for item in page}
    # Not even as a candidate: every source knows.
    assert post not in {each.post_id for each in page.removed}
    later = known.post(author, "while away", age_ms=400)
    assert later not in known.shown()
    known.tell(Account(author, AccountState.ACTIVE), age_ms=100)
    assert {post, later} <= set(known.shown())


def test_protected_posts_reach_followers_only(known: Town) -> None:
    known.tell(Account(FRIEND, AccountState.PROTECTED))
    post = known.post(FRIEND, "for friends")
    assert post in known.shown()
    assert post not in known.shown(9_999)
    known.tell(Unfollow(VIEWER, FRIEND))
    assert post not in known.shown()


def test_a_new_user_in_a_network_of_fifty_posts_gets_a_full_page(town: Town) -> None:
    posts = {town.post(1_000 + index, f"post {index}") for index in range(50)}
    page = town.feed.for_you(424_242)
    assert len(page) == 35
    assert {item.post_id for item in page} <= posts
    assert {item.source for item in page} <= {"for_you_fallback", "for_you_tweet_mixer", "for_you_phoenix_retrieval"}
    assert len(town.feed.for_you(424_242)) == 15, "the second page has the rest"
    assert len(town.feed.for_you(424_242)) == 0


def test_a_page_is_not_served_twice_unless_it_leaves_no_trace(town: Town) -> None:
    for index in range(60):
        town.post(1_000 + index)
    quiet = town.feed.for_you(VIEWER, 10, remember=False)
    assert [item.post_id for item in town.feed.for_you(VIEWER, 10, remember=False)] == [each.post_id for each in quiet]
    first = {item.post_id for item in town.feed.for_you(VIEWER, 10)}
    second = {item.post_id for item in town.feed.for_you(VIEWER, 10)}
    assert first == {item.post_id for item in quiet} and not first & second


def test_who_is_not_on_the_page_learns_the_place(town: Town) -> None:
    for index in range(60):
        town.post(1_000 + index)
    plain = {"EnableVMRanker": False}
    page = town.feed.for_you(VIEWER, remember=False, params=plain)
    everything = set(town.feed.network.store.posts_by(list(range(1_000, 1_060))).values.tolist())
    (post, *_) = everything - {item.post_id for item in page}
    found = town.feed.explain(VIEWER, post, params=plain)
    assert found.status == "not selected" and found.item is None
    assert "others scored higher: by score it is number" in found.summary and "of 60" in found.summary


def test_following_shows_followed_authors_only(known: Town) -> None:
    page = known.feed.following(VIEWER, remember=False)
    assert {item.author_id for item in page} == {FRIEND}
    assert {item.source for item in page} == {"ranked_following"}


def test_engagements_learn_their_author(known: Town) -> None:
    from xfast.stores import HistoryOptions

    post = known.post(STRANGER)
    known.tell(Engagement(VIEWER, post, LIKE), Impression(VIEWER, post))
    own = NetworkEvent(Post(77, 300, created_at_ms=NOW), NOW)
    known.feed.ingest([own, NetworkEvent(Engagement(VIEWER, 77, LIKE), NOW)])
    (history,) = known.feed.network.store.histories([VIEWER], HistoryOptions(), now_ms=NOW + 1)
    assert (
        dict(zip(history.post_ids.tolist(), history.author_ids.tolist(), strict=True)).items()
        >= {
            post: STRANGER,
            77: 300,
        }.items()
    )


def test_erasing_a_user_leaves_nothing_and_is_signed(known: Town) -> None:
    post = known.post(STRANGER, "remember me?")
    known.tell(Profile(STRANGER, "gone_soon"), Follow(STRANGER, FRIEND))
    assert post in known.shown() and STRANGER in known.feed.users
    receipt = known.feed.erase(STRANGER)
    assert receipt.user_id == STRANGER
    assert receipt.store.rows["posts"] == 2 and receipt.posts == {"corpus": 2, "discovery": 2}
    assert known.feed.network.store.erasures(STRANGER) == [receipt.store]
    assert STRANGER not in known.feed.users
    assert STRANGER not in {item.author_id for item in known.feed.for_you(VIEWER, remember=False)}
    late = known.post(STRANGER, "back again?")
    assert late not in known.shown(), "later events are ignored"


def test_an_erased_account_event_erases(known: Town) -> None:
    post = known.post(STRANGER, "soon gone")
    known.tell(Account(STRANGER, AccountState.ERASED))
    assert post not in known.shown()
    assert known.feed.network.store.erasures(STRANGER)


def test_bad_requests_name_what_is_wrong(town: Town) -> None:
    feed = town.feed
    with pytest.raises(ParameterError, match="limit is 0, must be at least 1"):
        feed.for_you(VIEWER, 0)
    with pytest.raises(ParameterError, match="user_id is 0"):
        feed.for_you(0)
    with pytest.raises(ParameterError, match="a query has no field"):
        feed.for_you(VIEWER, colour="red")
    with pytest.raises(ParameterError, match="unknown parameter 'FavouriteWeight', did you mean FavoriteWeight"):
        feed.for_you(VIEWER, params={"FavouriteWeight": 1})
    with pytest.raises(ParameterError, match="feed is 'mine', must be 'for_you' or 'following'"):
        feed.explain(VIEWER, 5, feed="mine")  # type: ignore[arg-type]
    assert feed.explain(VIEWER, 5).status == "unknown"

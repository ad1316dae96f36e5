"""The tests that every store must pass: subclass :class:`StoreContract` and give it a ``store`` fixture.

>>> import pytest
>>> from xfast.stores.testing import StoreContract
>>> class TestMyStore(StoreContract):
...     @pytest.fixture
...     def store(self):
...         store = MyStore()
...         yield store
...         store.close()

Needs ``pytest`` (extra ``test``). The store must be empty, and may use any clock: every time is an argument.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from xfast.actions import PROTO
from xfast.errors import ParameterError, StoreError
from xfast.events import (
    Account,
    AccountState,
    Block,
    Body,
    Delete,
    Engagement,
    EventBatch,
    Follow,
    FollowTopic,
    Impression,
    Label,
    LabelCategory,
    Media,
    MediaKind,
    Mute,
    MuteKeyword,
    NetworkEvent,
    Post,
    Profile,
    Subscribe,
    SubscriptionLevel,
    Unblock,
    Unfollow,
    UnfollowTopic,
    Unknown,
    Unmute,
    UnmuteKeyword,
    Unsubscribe,
)
from xfast.sketch import MinHash
from xfast.stores.history import Aggregation, HistoryOptions
from xfast.stores.model import Relation, ServedEntry, ServedResponse
from xfast.stores.protocol import Store

__all__ = ["StoreContract", "everything", "random_events"]

BIG = 2**64 - 1
LIKE, REPLY, DWELL, NOT_DWELLED, CLICK, REPORT = (
    PROTO.column(name) for name in ("favorite", "reply", "dwell", "not_dwelled", "click", "report")
)


def at(time_ms: int, *bodies: Body) -> list[NetworkEvent]:
    """Events of one time."""
    return [NetworkEvent(body, time_ms) for body in bodies]


def lists(column: Any) -> list[list[int]]:
    """A ragged column as Python lists."""
    return [each.tolist() for each in column]


def everything(store: Store, users: Sequence[int], posts: Sequence[int]) -> dict[str, Any]:
    """All that a store says about some users and posts, comparable."""
    people, things, counts = store.users(users), store.posts(posts), store.counts(posts)
    columns: dict[str, Any] = {}
    for table in (people, things, counts):
        for name in table.__dataclass_fields__:
            column = getattr(table, name)
            columns[f"{type(table).__name__}.{name}"] = (
                [each.tolist() for each in column] if name in ("media", "topic_ids") else column.tolist()
            )
    for relation in Relation:
        columns[relation.name] = lists(store.related(users, relation))
        columns[f"{relation.name} inverse"] = lists(store.related(users, relation, inverse=True))
    columns["keywords"] = store.muted_keywords(users)
    columns["labels"] = store.labels(posts).names() + store.labels(users, of_users=True).names()
    columns["signatures"] = store.signatures(users, num_positions=16).tolist()
    columns["by"] = lists(store.posts_by(users))
    columns["seen"] = [store.seen(user).tolist() for user in users]
    columns["histories"] = [
        (history.post_ids.tolist(), history.author_ids.tolist(), history.actions.tolist(), history.time_ms.tolist())
        for history in store.histories(users, HistoryOptions(), now_ms=10**9)
    ]
    return columns


def random_events(seed: int, size: int, users: int = 8, posts: int = 12) -> list[NetworkEvent]:
    """Distinct events of all kinds, in time order, each at a time of its own."""
    rng = np.random.default_rng(seed)
    pairs = (Follow, Unfollow, Block, Unblock, Mute, Unmute, Subscribe, Unsubscribe)
    events = []
    for step in range(size):
        user, other = (int(each) for each in rng.integers(1, users + 1, 2))
        post, parent = (int(each) for each in rng.integers(100, 100 + posts, 2))
        removed = bool(rng.random() < 0.3)
        choices: tuple[Any, ...] = (
            *(kind(user, other) for kind in pairs),
            FollowTopic(user, other),
            UnfollowTopic(user, other),
            MuteKeyword(user, f"word{other}"),
            UnmuteKeyword(user, f"word{other}"),
            Post(post, user, text=f"text {step}", in_reply_to_post_id=parent * removed, topic_ids=(other,)),
            Delete(post, user),
            Engagement(user, post, int(rng.choice([LIKE, REPLY, DWELL, CLICK])), author_id=other, removed=removed),
            Impression(user, post, other),
            Label(f"LABEL{other}", LabelCategory.SAFETY, post_id=post, removed=removed),
            Profile(user, f"name{step}", languages=("en",)),
            Account(user, AccountState(int(rng.integers(1, 5)))),
        )
        events += at(1000 + step, choices[int(rng.integers(len(choices)))])
    return events


class StoreContract:
    """What :class:`xfast.stores.Store` promises, as tests."""

    @pytest.fixture
    def store(self) -> Iterable[Store]:
        """An empty store; override it."""
        raise NotImplementedError("give StoreContract a fixture 'store'")

    # Feeding ----------------------------------------------------------------------------------------------------------

    def test_it_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)
        store.ping()

    @pytest.mark.parametrize("seed", range(3))
    def test_repetition_and_order_change_nothing(self, store: Store, seed: int) -> None:
        events = random_events(seed, 150)
        rng = np.random.default_rng(seed)
        shuffled = [events[place] for place in rng.permutation(len(events))]
        whole = EventBatch.from_events(shuffled)
        for start in range(0, len(events), 40):
            store.apply(whole.take(np.arange(start, min(start + 40, len(events)))))
        users, posts = list(range(10)), list(range(99, 114))
        first = everything(store, users, posts)
        again = store.apply(events)
        assert again.events == 150 and sum(again.changed.values()) == 0
        assert everything(store, users, posts) == first
        # The state is that of the plain reading of the log.
        follows: dict[int, set[int]] = {user: set() for user in users}
        alive: dict[int, Post] = {}
        for event in events:
            if isinstance(event.body, Follow):
                follows[event.body.user_id].add(event.body.target_user_id)
            elif isinstance(event.body, Unfollow):
                follows[event.body.user_id].discard(event.body.target_user_id)
            elif isinstance(event.body, Post):
                alive[event.body.post_id] = event.body
            elif isinstance(event.body, Delete):
                alive.pop(event.body.post_id, None)
        assert first["FOLLOW"] == [sorted(follows[user]) for user in users]
        assert first["Users.following"] == [len(follows[user]) for user in users]
        assert first["Users.followers"] == [sum(user in each for each in follows.values()) for user in users]
        assert first["Posts.text"] == [alive[post].text if post in alive else "" for post in posts]
        replies = [sum(each.in_reply_to_post_id == post for each in alive.values()) for post in posts]
        assert all(got >= least for got, least in zip(first["Counts.replies"], replies))
        assert first["signatures"] == [
            MinHash(sorted(follows[user]), num_positions=16).signature().tolist() for user in users
        ]

    def test_all_or_nothing(self, store: Store) -> None:
        store.apply(at(1, Follow(1, 2)))
        with pytest.raises(ParameterError):
            store.apply([*at(2, Follow(1, 3)), NetworkEvent(Follow(1, 2**64), 3)])
        assert lists(store.related([1], Relation.FOLLOW)) == [[2]]

    def test_an_end_wins_within_a_millisecond(self, store: Store) -> None:
        store.apply(at(5, Unfollow(1, 2), Follow(1, 2)))
        store.apply(at(5, Follow(1, 2)))
        assert lists(store.related([1], Relation.FOLLOW)) == [[]]

    def test_unknown_events_are_counted(self, store: Store) -> None:
        applied = store.apply([NetworkEvent(Unknown(b"\xfa\x3f\x00"), 1), *at(1, Follow(1, 2))])
        assert (applied.events, dict(applied.changed), dict(applied.ignored)) == (2, {"follow": 1}, {"unknown": 1})

    def test_nothing_is_fine(self, store: Store) -> None:
        assert store.apply([]).events == 0
        assert len(store.users([])) == len(store.posts([])) == len(store.labels([])) == 0
        assert store.counts([]).favorites.shape == store.has_relation([], Relation.BLOCK, 1).shape == (0,)
        assert len(store.related([], Relation.FOLLOW)) == len(store.posts_by([])) == 0
        assert store.signatures([], num_positions=16).shape == (0, 16)
        assert store.histories([], HistoryOptions(), now_ms=0) == []
        assert store.muted_keywords([]) == []
        assert not (store.served(1) or store.request_times(1) or store.impression_filters(1) or store.erasures(1))
        assert store.seen(1).dtype == np.uint64 and store.get_candidates("k", now_ms=0) is None

    # Viewers ----------------------------------------------------------------------------------------------------------

    def test_relations_of_large_and_small_ids(self, store: Store) -> None:
        store.apply(
            at(1, Follow(BIG, 0), Follow(BIG, 2**63), Follow(0, BIG), Block(7, BIG), FollowTopic(BIG, 10**18 + 1))
        )
        assert lists(store.related([BIG, 0, 5], Relation.FOLLOW)) == [[0, 2**63], [BIG], []]
        assert lists(store.related([0, BIG], Relation.FOLLOW, inverse=True)) == [[BIG], [0]]
        assert store.has_relation([7, 8, BIG], Relation.BLOCK, BIG).tolist() == [True, False, False]
        assert lists(store.related(np.array([-1]), Relation.TOPIC)) == [[10**18 + 1]]
        store.apply(at(2, Unblock(7, BIG)))
        assert not store.has_relation([7], Relation.BLOCK, BIG).any()

    def test_repeated_ids_are_answered_each_time(self, store: Store) -> None:
        store.apply(at(1, Follow(1, 2), Post(5, 1, text="x")))
        assert lists(store.related([1, 1, 3, 1], Relation.FOLLOW)) == [[2], [2], [], [2]]
        assert store.posts([5, 6, 5]).text.tolist() == ["x", "", "x"]

    def test_keywords(self, store: Store) -> None:
        store.apply(at(1, MuteKeyword(1, "spoiler"), MuteKeyword(1, "#Ad"), MuteKeyword(2, "寿司 🍣")))
        store.apply(at(2, UnmuteKeyword(1, "spoiler")))
        assert store.muted_keywords([1, 2, 3]) == [("#Ad",), ("寿司 🍣",), ()]

    def test_profiles_and_states(self, store: Store) -> None:
        profile = Profile(1, "ana", "Ana", "hi", ("pt-BR", "en"), "BR", 33, SubscriptionLevel.PREMIUM, 99)
        store.apply([*at(10, profile, Account(1, AccountState.PROTECTED)), *at(5, Profile(1, "old"), Follow(2, 1))])
        users = store.users([1, 2, 3])
        assert users.found.tolist() == [True, True, False]
        assert users.state.tolist() == [AccountState.PROTECTED, 0, 0]
        assert users.screen_name.tolist() == ["ana", "", ""] and users.display_name[0] == "Ana"
        assert users.description[0] == "hi" and users.languages.tolist() == [("pt-BR", "en"), (), ()]
        assert (users.country_code[0], users.age_years[0], users.created_at_ms[0]) == ("BR", 33, 99)
        assert users.subscription_level.tolist() == [SubscriptionLevel.PREMIUM, 0, 0]
        assert users.followers.tolist() == [1, 0, 0] and users.following.tolist() == [0, 1, 0]
        store.apply(at(11, Account(1, AccountState.ACTIVE)))
        assert store.users([1]).state.tolist() == [AccountState.ACTIVE]
        assert store.users([1]).screen_name.tolist() == ["ana"]

    def test_accounts_are_listed_by_the_page(self, store: Store) -> None:
        store.apply(at(1, Profile(3, "c"), Follow(1, 2), Account(BIG, AccountState.SUSPENDED), Profile(4, "gone")))
        store.erase(4, now_ms=2)
        store.sync()
        assert store.user_ids().tolist() == [BIG, 1, 2, 3]  # -1 as a signed number
        assert store.user_ids(limit=2).tolist() == [BIG, 1]
        assert store.user_ids(after=1, limit=2).tolist() == [2, 3]
        assert store.user_ids(after=3).tolist() == []
        with pytest.raises(ParameterError, match="limit is 0"):
            store.user_ids(limit=0)

    def test_signatures_follow_the_graph(self, store: Store) -> None:
        store.apply(at(1, *(Follow(1, other) for other in range(10, 60))))
        expected = MinHash(range(10, 60)).signature()
        assert (store.signatures([1, 2])[0] == expected).all()
        assert (store.signatures([2]) == 2**32 - 1).all()
        store.apply(at(2, Follow(1, 99), Unfollow(3, 4)))
        assert (store.signatures([1])[0] == MinHash([*range(10, 60), 99]).signature()).all()
        store.apply(at(3, Unfollow(1, 10)))
        assert (store.signatures([1])[0] == MinHash([*range(11, 60), 99]).signature()).all()

    # Histories --------------------------------------------------------------------------------------------------------

    def test_histories_merge_within_the_window(self, store: Store) -> None:
        store.apply(at(1, Post(50, 9)))
        store.apply(
            [
                *at(1000, Engagement(1, 50, DWELL, surface=3, dwell_ms=4000)),
                *at(1500, Engagement(1, 60, LIKE, author_id=BIG, surface=1)),
                *at(2000, Engagement(1, 50, LIKE), Engagement(1, 50, CLICK, dwell_ms=1500)),
                *at(9000, Engagement(1, 50, LIKE)),
            ]
        )
        merged, stranger = store.histories([1, 2], HistoryOptions(window_ms=1000), now_ms=10_000)
        assert merged.post_ids.tolist() == [50, 60, 50] and merged.author_ids.tolist() == [9, BIG, 9]
        assert [np.flatnonzero(row).tolist() for row in merged.actions] == [
            sorted([LIKE, DWELL, CLICK]),
            [LIKE],
            [LIKE],
        ]
        assert merged.product_surface.tolist() == [3, 1, 0] and merged.time_ms.tolist() == [1000, 1500, 9000]
        assert merged.continuous[:, 1].tolist() == [4.0, 0.0, 0.0] and merged.continuous[0, 2] == 1.5
        assert (merged.user_id, stranger.user_id, len(stranger)) == (1, 2, 0)
        assert merged.actions.shape == (3, 49) and stranger.actions.shape == (0, 49)
        alone = store.histories([1], HistoryOptions(window_ms=0), now_ms=10_000)[0]
        assert alone.post_ids.tolist() == [50, 60, 50, 50]
        newest = store.histories([1], HistoryOptions(window_ms=0, max_length=2), now_ms=10_000)[0]
        assert newest.time_ms.tolist() == [2000, 9000]

    def test_histories_of_the_model(self, store: Store) -> None:
        store.apply(at(1000, Engagement(1, 50, LIKE, author_id=2, surface=1)))
        engagements = store.histories([1], HistoryOptions(), now_ms=2000)[0].engagements(19)
        assert engagements.post_ids.tolist() == [50] and engagements.actions.shape == (1, 19)

    def test_histories_in_time(self, store: Store) -> None:
        for time in (1000, 2000, 3000, 5000):
            store.apply(at(time, Engagement(1, time, LIKE, author_id=2)))

        def read(now_ms: int, **options: Any) -> list[int]:
            history = store.histories([1], HistoryOptions(**options), now_ms=now_ms)[0]
            return [int(post) for post in history.post_ids]

        assert read(4000) == [1000, 2000, 3000]
        assert read(6000, lookback_ms=4000) == [2000, 3000, 5000]
        assert read(6000, include_realtime=False, realtime_ms=2500) == [1000, 2000, 3000]
        assert store.histories([2, 1], HistoryOptions(lookback_ms=1), now_ms=5000)[1].post_ids.tolist() == [5000]

    def test_aggregation_types(self, store: Store) -> None:
        actions = {10: (LIKE, 0), 11: (REPORT, 0), 12: (NOT_DWELLED, 100), 13: (DWELL, 500), 14: (DWELL, 9000)}
        for time, (post, (action, dwell)) in enumerate(actions.items()):
            store.apply(at(time, Engagement(1, post, action, author_id=2, dwell_ms=dwell)))
        expected = {
            Aggregation.DENSE: [10, 14],
            Aggregation.DENSE_WITH_NOT_INTERESTED_IN: [10, 11, 14],
            Aggregation.DENSE_WITH_SHORT_DWELL: [10, 11, 12, 13, 14],
        }
        for aggregation, posts in expected.items():
            history = store.histories([1], HistoryOptions(aggregation=aggregation), now_ms=99)[0]
            assert history.post_ids.tolist() == posts

    def test_actions_that_are_taken_back(self, store: Store) -> None:
        store.apply(at(20, Engagement(1, 50, LIKE, author_id=2, removed=True)))
        store.apply([*at(10, Engagement(1, 50, LIKE, author_id=2)), *at(30, Engagement(1, 51, LIKE, author_id=2))])
        assert store.histories([1], HistoryOptions(), now_ms=99)[0].post_ids.tolist() == [51]
        assert store.counts([50, 51]).favorites.tolist() == [0, 1]
        store.apply(at(40, Engagement(1, 50, LIKE, author_id=2)))
        assert store.histories([1], HistoryOptions(), now_ms=99)[0].post_ids.tolist() == [51, 50]

    # Posts ------------------------------------------------------------------------------------------------------------

    def test_posts_come_back_whole(self, store: Store) -> None:
        media = (Media(MediaKind.VIDEO, 9000), Media(MediaKind.PHOTO), Media(MediaKind.VIDEO, 4000))
        post = Post(BIG, 2**63, 77, "Olá 👋", "pt-BR", 1, 2, 3, 4, 5, 6, 7, media, (10**18 + 1, 3), 8, True)
        store.apply(at(99, post, Post(5, 6)))
        posts = store.posts([BIG, 5, 4])
        assert posts.found.tolist() == [True, True, False] and not posts.deleted.any()
        for name in ("author_id", "created_at_ms", "text", "language", "nullcast", "conversation_id", "quoted_user_id"):
            assert getattr(posts, name)[0] == getattr(post, name), name
        for name in ("in_reply_to_post_id", "in_reply_to_user_id", "source_post_id", "source_user_id"):
            assert getattr(posts, name)[0] == getattr(post, name), name
        assert (posts.quoted_post_id[0], posts.subscription_author_id[0]) == (5, 8)
        assert posts.created_at_ms.tolist() == [77, 99, 0] and posts.text.tolist() == ["Olá 👋", "", ""]
        assert lists(posts.topic_ids) == [[10**18 + 1, 3], [], []]
        assert posts.media[0].tolist() == [(2, 9000), (1, 0), (2, 4000)]
        assert posts.has_media.tolist() == [True, False, False] and posts.has_video.tolist() == [True, False, False]
        assert posts.video_duration_ms.tolist() == [4000, -1, -1]

    def test_texts_of_every_kind(self, store: Store) -> None:
        texts = ["", "a\0b", "x" * 30_000, "\ud800", "'; DROP TABLE posts; --", "%s ? {}", "\\", '"', "👩‍👩‍👧"]
        store.apply(at(1, *(Post(number + 1, 1, text=text) for number, text in enumerate(texts))))
        got = store.posts(range(1, len(texts) + 1)).text.tolist()
        assert got == ["", "ab", "x" * 30_000, "?", *texts[4:]]

    def test_deletion_removes_the_content_for_good(self, store: Store) -> None:
        store.apply(at(10, Post(1, 2, text="secret", in_reply_to_post_id=9), Post(3, 2)))
        assert store.counts([9]).replies.tolist() == [1]
        store.apply(at(20, Delete(1)))
        store.apply(at(15, Post(1, 2, text="a late copy")))
        posts = store.posts([1, 3, 4])
        assert posts.found.tolist() == [False, True, False] and posts.deleted.tolist() == [True, False, False]
        assert posts.text.tolist() == ["", "", ""] and posts.author_id.tolist() == [0, 2, 0]
        assert lists(store.posts_by([2, 5])) == [[3], []]
        assert store.counts([9]).replies.tolist() == [0]
        store.apply(at(5, Delete(77)))
        assert store.posts([77]).deleted.tolist() == [True]

    def test_labels(self, store: Store) -> None:
        safe = Label("GROK_SFA", LabelCategory.BRAND, post_id=1, source="grox", rule_id=1401, score=0.5)
        store.apply(
            at(
                1,
                safe,
                Label("DO_NOT_AMPLIFY", LabelCategory.SAFETY, post_id=1),
                Label("SPAM", LabelCategory.SAFETY, user_id=1),
            )
        )
        labels = store.labels([2, 1])
        assert labels.names() == [(), ("DO_NOT_AMPLIFY", "GROK_SFA")] and labels.offsets.tolist() == [0, 0, 2]
        assert labels.category.tolist() == [LabelCategory.SAFETY, LabelCategory.BRAND]
        assert (labels.source[1], labels.rule_id[1], labels.score[1], labels.time_ms[1]) == ("grox", 1401, 0.5, 1)
        assert store.labels([1, 2], of_users=True).names() == [("SPAM",), ()]
        store.apply(at(2, Label("DO_NOT_AMPLIFY", LabelCategory.SAFETY, post_id=1, removed=True)))
        assert store.labels([1]).names() == [("GROK_SFA",)]

    def test_counts(self, store: Store) -> None:
        posts = at(
            1, Post(1, 9), Post(2, 8, in_reply_to_post_id=1), Post(3, 8, source_post_id=1), Post(4, 8, quoted_post_id=1)
        )
        likes = at(2, Engagement(5, 1, LIKE), Engagement(6, 1, LIKE), Engagement(5, 1, REPLY), Impression(5, 1))
        for _ in range(2):
            store.apply([*posts, *likes])
        counts = store.counts([1, 2])
        assert counts.favorites.tolist() == [2, 0] and counts.replies.tolist() == [1, 0]
        assert counts.reposts.tolist() == counts.quotes.tolist() == counts.impressions.tolist() == [1, 0]

    # Seen and served --------------------------------------------------------------------------------------------------

    def test_seen_posts_and_their_filters(self, store: Store) -> None:
        store.apply(
            [event for post in range(1, 41) for event in at(post, Impression(1, post), Impression(2, post + 50))]
        )
        store.apply(at(99, Impression(1, 5), Impression(1, BIG)))
        assert store.seen(1, limit=3).tolist() in ([5, BIG, 40], [BIG, 5, 40])
        assert store.seen(1, since_ms=40).size == 3 and store.seen(1).size == 41
        filters = store.impression_filters(1)
        known = np.zeros(42, bool)
        for each in filters:
            known |= each.contains([*range(1, 41), BIG, 77])
        assert known[:41].all() and not known[41]
        assert store.impression_filters(3) == []

    def test_served_pages(self, store: Store) -> None:
        entries = (
            ServedEntry("tweet", 0, post_id=BIG, author_id=2, score=0.25, served_type="ForYouInNetwork"),
            ServedEntry("who_to_follow", 1, user_ids=(3, BIG)),
        )
        pages = [ServedResponse(BIG - number, 1000 + number, "INITIAL", entries) for number in range(5)]
        for page in (*pages, pages[2]):
            store.record_served(1, page)
        assert store.served(1) == pages[::-1] and store.served(1, limit=2) == pages[:2:-1]
        assert store.truncate_served(1, keep=3) == 2 and store.truncate_served(1, keep=3) == 0
        assert [page.served_ms for page in store.served(1)] == [1004, 1003, 1002, None, None]
        assert store.served(2) == []

    def test_request_times(self, store: Store) -> None:
        for time in range(15):
            store.record_request(1, time, keep=10)
        assert store.request_times(1) == list(range(14, 4, -1))

    def test_cached_candidates(self, store: Store) -> None:
        store.put_candidates("a", b"\x00\xff", user_id=1, now_ms=1000, ttl_ms=100)
        assert store.get_candidates("a", now_ms=1099) == b"\x00\xff"
        assert store.get_candidates("a", now_ms=1100) is None and store.get_candidates("b", now_ms=0) is None
        store.put_candidates("a", b"new", user_id=1, now_ms=2000, ttl_ms=100)
        assert store.get_candidates("a", now_ms=2001) == b"new"
        assert store.drop_candidates([2]) == 0 and store.drop_candidates([1, 2]) == 1
        assert store.get_candidates("a", now_ms=2001) is None
        with pytest.raises(ParameterError, match="ttl_ms is 0"):
            store.put_candidates("a", b"", user_id=1, now_ms=0, ttl_ms=0)

    # Erasing and upkeep -----------------------------------------------------------------------------------------------

    def _populate(self, store: Store) -> list[NetworkEvent]:
        events = at(
            10, Follow(1, 2), Follow(2, 1), Follow(2, 3), Follow(3, 1), Block(1, 4), Mute(5, 1), FollowTopic(1, 7),
            MuteKeyword(1, "x"), Profile(1, "ana"), Post(100, 1, text="mine"), Post(101, 2, text="other"),
            Engagement(1, 101, LIKE, author_id=2), Engagement(2, 100, LIKE, author_id=1), Impression(1, 101, 2),
            Label("A", LabelCategory.SAFETY, post_id=100), Label("B", LabelCategory.SAFETY, user_id=1),
        )  # fmt: skip
        store.apply(events)
        store.signatures([1, 2, 3])
        store.record_served(1, ServedResponse(1, 10))
        store.record_request(1, 10)
        store.put_candidates("k", b"p", user_id=1, now_ms=10, ttl_ms=1000)
        return events

    @pytest.mark.parametrize("by_event", [False, True])
    def test_erasing_leaves_nothing_and_is_final(self, store: Store, by_event: bool) -> None:
        events = self._populate(store)
        if by_event:
            store.apply(at(20, Account(1, AccountState.ERASED)))
        else:
            store.erase(1, now_ms=20)
        # A replay of the log brings nothing back; what others did to others stays.
        assert store.apply(events).ignored["erased"] > 0
        (receipt,) = store.erasures(1)
        assert (receipt.user_id, receipt.erased_ms) == (1, 20) and receipt.total >= 15
        users = store.users([1, 2, 3])
        assert users.state[0] == AccountState.ERASED and users.screen_name[0] == ""
        assert users.followers.tolist() == [0, 0, 1] and users.following.tolist() == [0, 1, 0]
        for relation in Relation:
            assert lists(store.related([1], relation)) == lists(store.related([1], relation, inverse=True)) == [[]]
        assert lists(store.related([2], Relation.FOLLOW)) == [[3]]
        assert (store.signatures([2])[0] == MinHash([3]).signature()).all()
        assert store.muted_keywords([1]) == [()] and store.seen(1).size == 0 and not store.impression_filters(1)
        assert len(store.histories([1], HistoryOptions(), now_ms=99)[0]) == 0
        assert 1 not in store.histories([2], HistoryOptions(), now_ms=99)[0].author_ids
        posts = store.posts([100, 101])
        assert posts.found.tolist() == [False, True] and posts.text.tolist() == ["", "other"]
        assert store.labels([100]).names() == store.labels([1], of_users=True).names() == [()]
        assert not store.served(1) and not store.request_times(1) and store.get_candidates("k", now_ms=11) is None
        assert lists(store.posts_by([1, 2])) == [[], [101]]

    def test_trimming_by_age(self, store: Store) -> None:
        for time in (100, 200):
            store.apply(at(time, Impression(1, time), Engagement(1, time, LIKE, author_id=2)))
            store.record_served(1, ServedResponse(time, time))
            store.put_candidates(str(time), b"", user_id=1, now_ms=time, ttl_ms=150)
        rows = store.trim(now_ms=250, impressions_ms=100, engagements_ms=100, served_ms=100)
        assert rows["impressions"] == rows["engagements"] == rows["served"] == rows["cached_candidates"] == 1
        assert store.seen(1).tolist() == [200] and len(store.served(1)) == 1
        assert store.histories([1], HistoryOptions(), now_ms=999)[0].post_ids.tolist() == [200]

    def test_large_reads(self, store: Store) -> None:
        store.apply(EventBatch.of("follow", np.arange(5000), user_id=1, target_user_id=np.arange(10, 5010)))
        store.apply(EventBatch.of("post", np.arange(5000), post_id=np.arange(1, 5001), author_id=np.arange(10, 5010)))
        assert lists(store.related([1], Relation.FOLLOW)) == [list(range(10, 5010))]
        posts = store.posts(np.arange(6000))
        assert posts.found.sum() == 5000 and posts.author_id[5000] == 5009

    def test_readers_and_a_writer_at_once(self, store: Store) -> None:
        failures: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    following = store.related([1], Relation.FOLLOW)[0].tolist()
                    # Whole batches of ten only: readers see no half of a transaction.
                    assert len(following) % 10 == 0 and following == list(range(10, 10 + len(following)))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for start in range(10, 110, 10):
            store.apply(at(start, *(Follow(1, other) for other in range(start, start + 10))))
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(store.related([1], Relation.FOLLOW)[0]) == 100

    def test_a_closed_store_says_so(self, store: Store) -> None:
        store.close()
        for call in (store.ping, lambda: store.users([1]), lambda: store.apply(at(1, Follow(1, 2)))):
            with pytest.raises(StoreError, match="closed"):
                call()
        store.close()

"""PostStore's face: inputs, limits, errors, and one test per repair of the fixed mode."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from xfast.errors import DataError, ParameterError, XfastError
from xfast.events import message_class
from xfast.thunder import POST_COLUMNS, ManualClock, PostBatch, PostStore

NOW = 100_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def store(clock: ManualClock) -> PostStore:
    return PostStore(retention_seconds=600, clock=clock)


def add(store: PostStore, post_id: int, author_id: int, created_at: int = NOW - 10, **more: Any) -> int:
    columns = {"post_id": [post_id], "author_id": [author_id], "created_at": [created_at]}
    return store.insert({**columns, **{name: [value] for name, value in more.items()}})


def ids(batch: PostBatch) -> list[int]:
    return batch["post_id"].tolist()


# -- inputs and outputs


def test_all_columns_come_back() -> None:
    store = PostStore(clock=ManualClock(NOW))
    rows = {
        "post_id": np.array([5, 2**64 - 1], np.uint64),
        "author_id": np.array([7, -8], np.int64),
        "created_at": np.array([NOW - 2, NOW - 1], np.uint32),
        "in_reply_to_post_id": np.array([0, 5], np.int16),
        "in_reply_to_user_id": np.array([0, 7], np.int32),
        "is_retweet": np.array([False, False]),
        "is_reply": np.array([0, 1], np.uint8),
        "source_post_id": np.array([0, 77]),
        "source_user_id": np.array([0, 78]),
        "has_video": np.array([True, False]),
        "conversation_id": np.array([5, 99]),
    }
    assert store.insert(rows) == 2
    batch = store.in_network(1, [7, -8])
    assert batch.columns == POST_COLUMNS and list(batch) == list(POST_COLUMNS) and len(batch) == 2
    assert batch["post_id"].dtype == np.int64 and batch["is_reply"].dtype == np.bool_
    got = {name: batch[name].tolist() for name in POST_COLUMNS}
    assert got == {
        "post_id": [-1, 5],
        "author_id": [-8, 7],
        "created_at": [NOW - 1, NOW - 2],
        "in_reply_to_post_id": [5, 0],
        "in_reply_to_user_id": [7, 0],
        "is_retweet": [False, False],
        "is_reply": [True, False],
        "source_post_id": [77, 0],
        "source_user_id": [78, 0],
        "has_video": [False, True],
        "conversation_id": [99, 5],
    }
    assert batch.eligible == 2 and not batch.timed_out
    with pytest.raises(KeyError, match="not a column"):
        batch["text"]


def test_columns_outlive_batch_and_store() -> None:
    store = PostStore(clock=ManualClock(NOW))
    add(store, 1, 2)
    column = store.in_network(9, [2])["post_id"]
    store.clear()
    del store
    assert column.tolist() == [1] and not column.flags.writeable


def test_arrow_in_and_out(store: PostStore) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(
        {
            "post_id": pyarrow.chunked_array([[1], [2, 3]], pyarrow.uint64()),
            "author_id": [5, 5, 6],
            "created_at": [NOW - 3, NOW - 2, NOW - 1],
            "conversation_id": [None, 2, None],
            "has_video": [None, True, False],
        }
    )
    assert store.insert(table) == 3
    batch = store.in_network(1, pyarrow.array([5, 6]), exclude_ids=pyarrow.array([1]))
    assert batch.to_arrow()["post_id"].to_pylist() == [3, 2]
    assert store.insert(batch.to_arrow()) == 0
    nulls = pyarrow.table({"post_id": [1, None], "author_id": [1, 1], "created_at": [NOW - 1, NOW - 1]})
    with pytest.raises(DataError, match="'post_id' has 1 nulls"):
        store.insert(nulls)


def test_inserted_arrays_are_not_kept(store: PostStore) -> None:
    posts = {"post_id": np.array([1]), "author_id": np.array([2]), "created_at": np.array([NOW - 1])}
    store.insert(posts)
    posts["post_id"][0] = 50
    assert ids(store.in_network(9, [2])) == [1]


@pytest.mark.parametrize(
    ("posts", "message"),
    [
        ({"post_id": [1], "author_id": [1]}, r"lacks the columns \['created_at'\]"),
        ({"post_id": [1], "author_id": [1], "created_at": [1], "body": ["x"]}, r"unknown columns \['body'\]"),
        ({"post_id": [1, 2], "author_id": [1], "created_at": [1]}, "differ in length"),
        ({"post_id": [1.5], "author_id": [1], "created_at": [1]}, "post_id must hold integers"),
        ({"post_id": [[1]], "author_id": [1], "created_at": [1]}, "post_id has 2 dimensions"),
        ({"post_id": [1], "author_id": [1], "created_at": [1], "is_reply": ["yes"]}, "is_reply has dtype"),
        ([1, 2], "posts is a list"),
    ],
)
def test_bad_posts(store: PostStore, posts: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        store.insert(posts)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retention_seconds", 0),
        ("max_original_per_author", -1),
        ("max_secondary_per_author", 10**6 + 1),
        ("max_video_per_author", 1.5),
        ("max_scan_per_author", -1),
        ("max_results", 0),
        ("max_video_results", True),
        ("request_timeout_ms", -1),
        ("tombstone_key", 2**64),
        ("quirks", "strict"),
    ],
)
def test_limits_are_checked(option: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"{option} is "):
        PostStore(**{option: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store: store.in_network(1, [1], max_results=-1), "max_results is -1"),
        (lambda store: store.in_network("x", [1]), "user_id is 'x'"),
        (lambda store: store.in_network(1, [[1]]), "following_ids has shape"),
        (lambda store: store.in_network(1, [1], exclude_ids=[0.5]), "exclude_ids must hold integers"),
        (lambda store: store.trim(now=-1), "now is -1"),
        (lambda store: store.trim(now=2**32), "now is 4294967296"),
        (lambda store: store.delete([1, 2], deleted_at=[1]), "deleted_at has shape"),
        (lambda store: store.set_account_state([1], "gone"), "state is 'gone'"),
    ],
)
def test_bad_calls(store: PostStore, call: Callable[[PostStore], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call(store)


def test_empty_inputs(store: PostStore) -> None:
    assert store.insert({"post_id": [], "author_id": [], "created_at": []}) == 0
    store.delete([])
    assert len(store.in_network(1, [])) == 0
    assert len(store.in_network(1, {3, 4}, exclude_ids=[])) == 0
    assert store.trim() == 0


def test_zero_is_an_ordinary_id(store: PostStore) -> None:
    add(store, 0, 0)
    add(store, 1, 0, is_retweet=True, source_post_id=9)
    # The viewer is 0 and the source's author unset: not a repost of one's own post.
    assert ids(store.in_network(0, [0])) == [1, 0]
    assert ids(store.in_network(0, [0], exclude_ids=[0])) == [1]


def test_caps_and_defaults(clock: ManualClock) -> None:
    store = PostStore(
        max_original_per_author=2, max_secondary_per_author=0, max_results=3, max_scan_per_author=5, clock=clock
    )
    for post in range(12):
        add(store, post, post % 2, NOW - 50 + post)
    add(store, 50, 1, NOW - 1, is_reply=True)
    assert ids(store.in_network(9, [0, 1])) == [11, 10, 9]
    assert ids(store.in_network(9, [0, 1], max_results=100)) == [11, 10, 9, 8]
    # Excluded posts use neither the cap nor the scan.
    assert ids(store.in_network(9, [1], exclude_ids=[11, 9, 7, 5])) == [3, 1]


def test_times_out_with_what_it_has() -> None:
    class Slow(ManualClock):
        def monotonic(self) -> float:
            self.advance(0.004)
            return self.time

    for quirks in ("fixed", "reference"):
        store = PostStore(request_timeout_ms=10, quirks=quirks, clock=Slow(NOW))  # type: ignore[arg-type]
        for author in range(1, 9):
            add(store, author, author, NOW - author)
            add(store, 100 + author, author, NOW - author, is_retweet=True)
        # 4 ms and 8 ms after the start two followees are served, 12 ms are too late; the second stage never starts.
        batch = store.in_network(99, list(range(1, 9)))
        assert ids(batch) == [1, 2] and batch.timed_out
    store = PostStore(request_timeout_ms=60_000)
    assert not store.in_network(1, [2]).timed_out


def test_a_failing_clock_leaves_no_trace() -> None:
    class Broken(ManualClock):
        fail = False

        def monotonic(self) -> float:
            if self.fail:
                raise RuntimeError("no time")
            return 0.0

    clock = Broken(NOW)
    store = PostStore(request_timeout_ms=10, clock=clock)
    add(store, 1, 2)
    clock.fail = True
    with pytest.raises(RuntimeError, match="no time"):
        store.in_network(9, [2])
    clock.fail = False
    assert ids(store.in_network(9, [2])) == [1]


def test_a_clock_may_ask_the_store() -> None:
    class Curious(ManualClock):
        inner: tuple[int, ...] = ()

        def monotonic(self) -> float:
            if not self.inner:
                self.inner = (0,)
                self.inner = tuple(ids(store.in_network(9, [3])))
            return 0.0

    clock = Curious(NOW)
    store = PostStore(request_timeout_ms=10, clock=clock)
    add(store, 1, 2)
    add(store, 4, 3)
    assert ids(store.in_network(9, [2])) == [1] and clock.inner == (4,)


def test_feed_reports(store: PostStore) -> None:
    event = message_class("xfast.thunder.InNetworkEvent")
    post = event(tweet_create_event={"post_id": 1, "author_id": 2, "created_at": NOW - 1})
    delete = event(tweet_delete_event={"post_id": 1, "deleted_at": NOW})
    counts = store.feed([delete.SerializeToString(), post.SerializeToString(), None, b"\xff\xff"])
    assert (counts.created, counts.deleted, counts.skipped, counts.malformed) == (1, 1, 1, (3,))
    assert len(store.in_network(9, [2])) == 0


def test_threads_share_a_store(clock: ManualClock) -> None:
    store = PostStore(clock=clock)
    failures: list[BaseException] = []

    def use(worker: int) -> None:
        try:
            for step in range(60):
                first = worker * 10_000 + step * 10
                store.insert(
                    {
                        "post_id": np.arange(first, first + 10),
                        "author_id": np.full(10, worker),
                        "created_at": np.full(10, NOW - 1),
                    }
                )
                assert set(store.in_network(99, [worker])["author_id"].tolist()) == {worker}
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and store.stats()["posts"] == 2400


# -- fixed mode: one test per repair (docs/thunder.md), beside what the release does


@pytest.fixture(params=["fixed", "reference"])
def both(request: pytest.FixtureRequest, clock: ManualClock) -> PostStore:
    return PostStore(retention_seconds=600, max_scan_per_author=3, quirks=request.param, clock=clock)


def fixed(store: PostStore) -> bool:
    return store.quirks == "fixed"


def test_future_tombstone_is_kept_until_its_time(both: PostStore) -> None:
    both.delete([1], deleted_at=NOW + 5)
    assert both.trim() == (0 if fixed(both) else 1)
    add(both, 1, 2)
    assert ids(both.in_network(9, [2])) == ([] if fixed(both) else [1])
    assert both.trim(now=NOW + 605) == (0 if fixed(both) else 1)
    if fixed(both):
        assert both.trim(now=NOW + 606) == 1 and both.stats()["deleted_posts"] == 0


def test_duplicate_followees_are_served_once(both: PostStore) -> None:
    add(both, 1, 2)
    assert ids(both.in_network(9, [2, 2])) == ([1] if fixed(both) else [1, 1])


def test_a_post_that_comes_again_is_listed_once(both: PostStore, clock: ManualClock) -> None:
    add(both, 1, 2, NOW - 300)
    both.delete([1], deleted_at=NOW - 590)
    assert both.trim(now=NOW + 20) == 1  # the deletion is forgotten, the release's dangling entry is not
    clock.time = NOW + 20
    add(both, 1, 2, NOW - 299)
    assert ids(both.in_network(9, [2])) == ([1] if fixed(both) else [1, 1])


def test_second_delete_does_not_kill_the_next_life(both: PostStore, clock: ManualClock) -> None:
    both.delete([1], deleted_at=NOW)
    both.delete([1], deleted_at=NOW + 50)
    both.trim(now=NOW + 601)
    clock.time = NOW + 602
    add(both, 1, 2, NOW + 601)
    assert ids(both.in_network(9, [2])) == [1]
    both.trim(now=NOW + 651)
    assert ids(both.in_network(9, [2])) == ([1] if fixed(both) else [])


def test_deleted_posts_eat_no_scan_budget(both: PostStore) -> None:
    for post in range(1, 6):
        add(both, post, 2, NOW - 50 + post)
    both.delete([3, 4, 5])
    assert ids(both.in_network(9, [2])) == ([2, 1] if fixed(both) else [])


def test_replaced_posts_are_listed_as_what_they_are(both: PostStore) -> None:
    add(both, 1, 2)
    add(both, 1, 3, is_reply=True)
    assert ids(both.in_network(9, [2])) == ([] if fixed(both) else [1])
    assert ids(both.in_network(9, [3])) == ([1] if fixed(both) else [])
    assert both.in_network(9, [2, 3])["author_id"].tolist() == [3]


def test_expired_posts_are_not_served(both: PostStore, clock: ManualClock) -> None:
    add(both, 1, 2, NOW - 600)
    assert ids(both.in_network(9, [2])) == [1]
    clock.advance(1)
    assert ids(both.in_network(9, [2])) == ([] if fixed(both) else [1])


def test_late_arrivals_are_put_in_order(clock: ManualClock) -> None:
    for quirks, expected in (("fixed", [3, 2]), ("reference", [3, 9])):
        store = PostStore(retention_seconds=600, max_original_per_author=2, quirks=quirks, clock=clock)  # type: ignore[arg-type]
        for post in (1, 2, 3):
            add(store, post, 2, NOW - 50 + post)
        add(store, 9, 2, NOW - 500)
        assert ids(store.in_network(9, [2])) == expected
        # Behind newer posts, the release's trim does not see it.
        assert store.trim(now=NOW + 150) == (1 if quirks == "fixed" else 0)


def test_clear_forgets_deletions(both: PostStore) -> None:
    both.delete([1])
    both.clear()
    add(both, 1, 2)
    assert ids(both.in_network(9, [2])) == ([1] if fixed(both) else [])


def test_tombstones_are_nobodys_posts(both: PostStore) -> None:
    both.delete([1])
    stats = both.stats()
    assert stats["deleted_posts"] == 1
    assert (stats["users"], stats["original_posts"]) == ((0, 0) if fixed(both) else (1, 1))


# -- accounts


def test_hidden_accounts(both: PostStore) -> None:
    add(both, 1, 2)
    add(both, 2, 3, is_retweet=True, source_post_id=1, source_user_id=2)
    add(both, 3, 3, is_reply=True, in_reply_to_post_id=1, in_reply_to_user_id=2, conversation_id=1)
    assert sorted(ids(both.in_network(9, [2, 3]))) == [1, 2, 3]
    for state in ("suspended", "deactivated"):
        both.set_account_state([2], state)  # type: ignore[arg-type]
        assert both.account_state(2) == state
        assert ids(both.in_network(9, [2, 3])) == []
        add(both, 10, 2)  # taken in, but not shown
        assert ids(both.in_network(9, [2])) == []
    both.set_account_state(2, "active")
    assert sorted(ids(both.in_network(9, [2, 3]))) == [1, 2, 3, 10]
    assert both.account_state(12345) == "active"


def test_protected_accounts_reach_followers_only(both: PostStore) -> None:
    add(both, 1, 2)
    add(both, 2, 3, is_retweet=True, source_post_id=1, source_user_id=2)
    add(both, 3, 3, is_reply=True, in_reply_to_post_id=1, in_reply_to_user_id=2, conversation_id=1)
    both.set_account_state([2], "protected")
    assert ids(both.in_network(9, [3])) == []
    assert sorted(ids(both.in_network(9, [3, 2]))) == [1, 2, 3]
    # The author sees the reply; a repost of one's own post is left out for everybody.
    assert ids(both.in_network(2, [3])) == [3]


def test_erased_accounts_leave_nothing(both: PostStore, tmp_path: Any) -> None:
    for post in range(1, 40):
        add(both, post, 2, NOW - post, has_video=True)
    add(both, 100, 3)
    both.set_account_state([2], "erased")
    assert both.stats()["posts"] == 1
    assert add(both, 50, 2) == 0
    assert ids(both.in_network(9, [2, 3])) == [100]
    path = tmp_path / "snapshot"
    both.save(path)
    again, _ = PostStore.load(path, quirks=both.quirks, retention_seconds=600, clock=both.clock)
    assert add(again, 51, 2) == 0 and again.account_state(2) == "erased"
    if fixed(both):
        assert (12).to_bytes(8, "little") not in path.read_bytes()[128:]


def test_errors_have_one_root() -> None:
    with pytest.raises(XfastError):
        PostStore(max_results=-5)

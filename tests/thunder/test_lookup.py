"""A request apart from the wire: admission, input limits, debug following."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from xfast.errors import ParameterError
from xfast.thunder import AtCapacityError, FollowingSourceError, InNetworkLookup, ManualClock, PostStore

NOW = 100_000


@pytest.fixture
def store() -> PostStore:
    store = PostStore(max_results=3, max_video_results=2, clock=ManualClock(NOW))
    numbers = np.arange(1, 9)
    store.insert({"post_id": numbers, "author_id": numbers, "created_at": NOW - 10 + numbers, "has_video": numbers > 0})
    return store


def test_lists_are_cut_to_their_first(store: PostStore) -> None:
    lookup = InNetworkLookup(store, max_input_list=2)
    assert lookup.get(99, [1, 2, 8], [5, 6, 2])["post_id"].tolist() == [2, 1]
    assert lookup.cut([2**64 - 1, 3, 4]).tolist() == [-1, 3]
    with pytest.raises(ParameterError, match="max_input_list is 0"):
        InNetworkLookup(store, max_input_list=0)


@pytest.mark.parametrize(("wanted", "video", "count"), [(0, False, 3), (-1, False, 3), (5, False, 5), (0, True, 2)])
def test_size_of_the_answer(store: PostStore, wanted: int, video: bool, count: int) -> None:
    batch = InNetworkLookup(store).get(99, np.arange(1, 9), max_results=wanted, video_only=video)
    assert len(batch) == count


def test_no_queue_at_capacity(store: PostStore) -> None:
    lookup = InNetworkLookup(store, max_concurrent_requests=2)
    with lookup.admit(), lookup.admit():
        assert lookup.in_flight == 2
        with pytest.raises(AtCapacityError, match="at capacity: 2 requests") as raised:
            lookup.get(99, [1])
        assert raised.value.code == "RESOURCE_EXHAUSTED"
    assert (lookup.in_flight, lookup.rejected) == (0, 1)
    assert len(lookup.get(99, [1])) == 1


def test_a_permit_comes_back_after_a_failure(store: PostStore) -> None:
    lookup = InNetworkLookup(store, max_concurrent_requests=1)
    for _ in range(3):
        with pytest.raises(ParameterError):
            lookup.get(99, [[1]])
    assert lookup.in_flight == 0


def test_permits_hold_under_threads(store: PostStore) -> None:
    lookup = InNetworkLookup(store, max_concurrent_requests=3)
    peak, done = [], threading.Barrier(8)

    def work() -> None:
        done.wait()
        for _ in range(100):
            try:
                with lookup.admit():
                    peak.append(lookup.in_flight)
            except AtCapacityError:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lookup.in_flight == 0 and 1 <= max(peak) <= 3
    assert len(peak) + lookup.rejected == 800


def test_debug_fetches_the_followees(store: PostStore) -> None:
    calls = []

    def source(user_id: int, limit: int) -> list[int]:
        calls.append((user_id, limit))
        return [4, 5, 6]

    lookup = InNetworkLookup(store, max_input_list=2, following_source=source)
    assert lookup.get(7, [], debug=True)["author_id"].tolist() == [5, 4]
    assert len(lookup.get(7, [])) == 0 and len(lookup.get(7, [1], debug=True)) == 1
    assert calls == [(7, 2)]


def test_a_failing_source_is_named(store: PostStore) -> None:
    def source(user_id: int, limit: int) -> list[int]:
        raise OSError("connection refused")

    with pytest.raises(FollowingSourceError, match="user 7 follows could not be fetched") as raised:
        InNetworkLookup(store, following_source=source).get(7, [], debug=True)
    assert raised.value.code == "INTERNAL" and isinstance(raised.value.__cause__, OSError)
    with pytest.raises(FollowingSourceError, match="no following_source"):
        InNetworkLookup(store).get(7, [], debug=True)

"""One request of the in-network service, apart from the wire: admission, input limits, debug following (THUNDER §4)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, XfastError
from xfast.thunder.columns import PostBatch
from xfast.thunder.store import PostStore, as_ids, check_limit

__all__ = ["AtCapacityError", "FollowingSource", "FollowingSourceError", "InNetworkLookup"]

#: ``source(user_id, limit)`` gives the ids of the accounts that a user follows.
FollowingSource = Callable[[int, int], npt.ArrayLike]


class AtCapacityError(XfastError):
    """All permits are taken; the request was turned away at once."""

    code = "RESOURCE_EXHAUSTED"


class FollowingSourceError(XfastError):
    """The accounts that a user follows could not be fetched."""

    code = "INTERNAL"


class InNetworkLookup:
    """Answers requests from a store, as many at a time as there are permits.

    Parameters
    ----------
    store
        Where the posts are.
    max_concurrent_requests
        Permits. A request that finds none fails at once; there is no queue.
    max_input_list
        The most followees, and the most excluded ids, of a request; only the first ones count.
    following_source
        Asked only for debug requests without followees.
    """

    def __init__(
        self,
        store: PostStore,
        *,
        max_concurrent_requests: int = 64,
        max_input_list: int = 5_000,
        following_source: FollowingSource | None = None,
    ) -> None:
        self.store = store
        self.max_concurrent_requests = check_limit("max_concurrent_requests", max_concurrent_requests, 1, 10**6)
        self.max_input_list = check_limit("max_input_list", max_input_list, 1, 10**7)
        self.following_source = following_source
        self._lock = threading.Lock()
        self._in_flight = 0
        self._rejected = 0

    @property
    def in_flight(self) -> int:
        """Requests that hold a permit now."""
        return self._in_flight

    @property
    def rejected(self) -> int:
        """Requests turned away so far."""
        return self._rejected

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a permit for the length of the block.

        Raises
        ------
        AtCapacityError
            None is free.
        """
        with self._lock:
            if self._in_flight >= self.max_concurrent_requests:
                self._rejected += 1
                raise AtCapacityError(
                    f"the server is at capacity: {self.max_concurrent_requests} requests are in flight"
                )
            self._in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def cut(self, ids: npt.ArrayLike | None, name: str = "ids") -> npt.NDArray[np.int64]:
        """The first ``max_input_list`` of the ids, as int64."""
        return as_ids(name, () if ids is None else ids)[: self.max_input_list]

    def lookup(
        self,
        user_id: int,
        following_ids: npt.ArrayLike,
        exclude_ids: npt.ArrayLike | None = None,
        *,
        max_results: int = 0,
        video_only: bool = False,
        debug: bool = False,
    ) -> PostBatch:
        """Answer a request that was admitted; see :meth:`PostStore.in_network`.

        ``max_results`` below 1 means the store's default.

        Raises
        ------
        FollowingSourceError
            A debug request without followees, and the source failed or there is none.
        """
        following = as_ids("following_ids", following_ids)
        if debug and len(following) == 0:
            following = self._fetch_following(user_id)
        return self.store.in_network(
            user_id,
            self.cut(following),
            self.cut(exclude_ids, "exclude_ids"),
            max_results=max(0, max_results),
            video_only=video_only,
        )

    def get(
        self,
        user_id: int,
        following_ids: npt.ArrayLike,
        exclude_ids: npt.ArrayLike | None = None,
        *,
        max_results: int = 0,
        video_only: bool = False,
        debug: bool = False,
    ) -> PostBatch:
        """Admit and answer a request.

        Raises
        ------
        AtCapacityError
            No permit is free.
        FollowingSourceError
            See :meth:`lookup`.
        """
        with self.admit():
            return self.lookup(
                user_id, following_ids, exclude_ids, max_results=max_results, video_only=video_only, debug=debug
            )

    def _fetch_following(self, user_id: int) -> npt.NDArray[np.int64]:
        if self.following_source is None:
            raise FollowingSourceError(
                f"following_ids of user {user_id} is empty in a debug request and no following_source is configured"
            )
        try:
            return as_ids("following_ids", self.following_source(user_id, self.max_input_list))
        except ParameterError:
            raise
        except Exception as error:
            raise FollowingSourceError(f"the accounts that user {user_id} follows could not be fetched") from error

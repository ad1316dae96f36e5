from collections.abc import Callable

from numpy import bool_, int64
from numpy.typing import NDArray

class PostTable:
    def __len__(self) -> int: ...
    def ids(self, index: int) -> NDArray[int64]: ...
    def flags(self, index: int) -> NDArray[bool_]: ...
    @property
    def timed_out(self) -> bool: ...
    @property
    def eligible(self) -> int: ...
    @property
    def deleted_skipped(self) -> int: ...

class Store:
    def __init__(
        self,
        *,
        retention: int,
        max_original: int,
        max_secondary: int,
        max_video: int,
        max_scan: int,
        max_results: int,
        max_video_results: int,
        timeout_ms: int,
        tombstone_key: int,
        reference: bool,
    ) -> None: ...
    def insert(
        self,
        post_id: NDArray[int64],
        author_id: NDArray[int64],
        created_at: NDArray[int64],
        in_reply_to_post_id: NDArray[int64] | None,
        in_reply_to_user_id: NDArray[int64] | None,
        is_retweet: NDArray[bool_] | None,
        is_reply: NDArray[bool_] | None,
        source_post_id: NDArray[int64] | None,
        source_user_id: NDArray[int64] | None,
        has_video: NDArray[bool_] | None,
        conversation_id: NDArray[int64] | None,
        now: int,
    ) -> int: ...
    def remove(self, post_ids: NDArray[int64], deleted_at: NDArray[int64]) -> None: ...
    def trim(self, now: int) -> int: ...
    def finalize(self, now: int) -> int: ...
    def clear(self) -> None: ...
    def set_account_state(self, user_ids: NDArray[int64], state: int) -> None: ...
    def account_state(self, user_id: int) -> int: ...
    def query(
        self,
        user_id: int,
        following: NDArray[int64],
        exclude: NDArray[int64] | None,
        max_results: int,
        video: bool,
        now: int,
        elapsed_ms: Callable[[], float] | None,
    ) -> PostTable: ...
    def stats(self) -> dict[str, int]: ...
    def memory(self) -> dict[str, int]: ...
    def save(self, path: str, position: bytes) -> int: ...
    def load(self, path: str) -> bytes: ...

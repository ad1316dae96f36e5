from collections.abc import Sequence

from numpy import bool_, int64, uint8, uint32, uint64
from numpy.typing import NDArray
from typing_extensions import Buffer

class InNetworkColumns:
    def creates(self) -> dict[str, NDArray[int64] | NDArray[bool_]]: ...
    def encode(self) -> tuple[bytes, NDArray[int64], NDArray[int64], NDArray[uint8]]: ...
    @property
    def create_index(self) -> NDArray[uint32]: ...
    @property
    def deleted_id(self) -> NDArray[int64]: ...
    @property
    def deleted_at(self) -> NDArray[int64]: ...
    @property
    def account_id(self) -> NDArray[int64]: ...
    @property
    def account_state(self) -> NDArray[uint8]: ...
    @property
    def bad_index(self) -> NDArray[uint32]: ...
    @property
    def bad_fault(self) -> NDArray[uint8]: ...
    @property
    def empty(self) -> int: ...
    @property
    def unknown(self) -> int: ...
    @property
    def other(self) -> int: ...
    @property
    def nullcast(self) -> int: ...
    @property
    def late_deletes(self) -> int: ...

def decode_in_network(
    messages: Sequence[bytes | None] | Buffer,
    starts: NDArray[int64] | None = None,
    sizes: NDArray[int64] | None = None,
) -> InNetworkColumns: ...
def decode_network(
    messages: Sequence[bytes | None] | Buffer,
    starts: NDArray[int64] | None = None,
    sizes: NDArray[int64] | None = None,
    *,
    min_video_duration_ms: int,
    now: int,
    retention_seconds: int,
    stamp_deletes_now: bool,
) -> InNetworkColumns: ...
def concerns_users(
    messages: Sequence[bytes | None] | Buffer,
    starts: NDArray[int64] | None,
    sizes: NDArray[int64] | None,
    users: NDArray[uint64],
) -> NDArray[bool_]: ...
def has_playable_video(kinds: Sequence[int], durations_ms: Sequence[int], min_duration_ms: int) -> bool: ...
def frame(messages: Sequence[bytes], first_offset: int, time_ms: int) -> bytes: ...
def scan(
    buffer: Buffer, limit: int, max_size: int
) -> tuple[NDArray[int64], NDArray[int64], NDArray[int64], NDArray[int64], int, bool]: ...
def find_record(buffer: Buffer, start: int, min_offset: int, max_size: int) -> int: ...
def decode_request(
    message: bytes,
) -> tuple[int, NDArray[int64], NDArray[int64], int, bool, bytes, bool]: ...
def encode_request(
    user_id: int,
    following: NDArray[int64],
    excluded: NDArray[int64],
    max_results: int,
    video_only: bool,
    algorithm: str,
    debug: bool,
) -> bytes: ...
def encode_response(
    post_id: NDArray[int64],
    author_id: NDArray[int64],
    created_at: NDArray[int64],
    in_reply_to_post_id: NDArray[int64],
    in_reply_to_user_id: NDArray[int64],
    is_retweet: NDArray[bool_],
    is_reply: NDArray[bool_],
    source_post_id: NDArray[int64],
    source_user_id: NDArray[int64],
    has_video: NDArray[bool_],
    conversation_id: NDArray[int64],
) -> bytes: ...
def decode_response(message: bytes) -> dict[str, NDArray[int64] | NDArray[bool_]]: ...

from collections.abc import Sequence
from typing import Any

from numpy import bool_, float32, int32
from numpy.typing import NDArray

ffi_handlers: dict[str, Any]

class Context:
    @property
    def tokens(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    def unpack(self) -> tuple[NDArray[float32], NDArray[float32]]: ...

class RankerTower:
    def __init__(self, params: dict[str, NDArray[float32]], spec: dict[str, Any]) -> None: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def number(self) -> int: ...
    def context_bytes(self, room: int) -> int: ...
    def encode(
        self,
        user_valid: bool,
        user_embeddings: NDArray[float32],
        post_embeddings: NDArray[float32],
        author_embeddings: NDArray[float32],
        positions: NDArray[int32],
        actions: NDArray[float32],
        product_surface: NDArray[int32],
        dwell: NDArray[float32],
        ip_sum: NDArray[float32] | None,
        threads: int,
    ) -> Context: ...
    def append(
        self,
        context: Context,
        post_embeddings: NDArray[float32],
        author_embeddings: NDArray[float32],
        positions: NDArray[int32],
        actions: NDArray[float32],
        product_surface: NDArray[int32],
        dwell: NDArray[float32],
        threads: int,
    ) -> Context: ...
    def restore(self, keys: NDArray[float32], values: NDArray[float32]) -> Context: ...
    def score(
        self,
        contexts: Sequence[Context],
        candidates: Sequence[
            tuple[NDArray[float32], NDArray[float32], NDArray[bool_], NDArray[int32], NDArray[int32], NDArray[int32]]
        ],
        threads: int,
    ) -> list[tuple[NDArray[float32], NDArray[float32], NDArray[float32]]]: ...

class RetrievalTower:
    def __init__(self, params: dict[str, NDArray[float32]], spec: dict[str, Any], linear_projection: bool) -> None: ...
    @property
    def weight_bytes(self) -> int: ...
    def encode(
        self,
        user_valid: bool,
        user_embeddings: NDArray[float32],
        post_embeddings: NDArray[float32],
        author_embeddings: NDArray[float32],
        positions: NDArray[int32],
        actions: NDArray[float32],
        product_surface: NDArray[int32],
        dwell: NDArray[float32],
        threads: int,
    ) -> tuple[NDArray[float32], float]: ...
    def encode_candidates(
        self, post_embeddings: NDArray[float32], author_embeddings: NDArray[float32], threads: int
    ) -> NDArray[float32]: ...

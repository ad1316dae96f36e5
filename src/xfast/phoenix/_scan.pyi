from numpy import float32, int64, uint8, uint64
from numpy.typing import NDArray

_Table = tuple[NDArray[int64], NDArray[float32], NDArray[uint64], NDArray[uint64]]

class Index:
    def __init__(self, dim: int, isa: str, threads: int) -> None: ...
    def append(
        self,
        owner: object,
        vectors: NDArray[uint8],
        type: str,
        scale: NDArray[float32] | None,
        post_ids: NDArray[uint64],
        author_ids: NDArray[uint64],
        topics: NDArray[int64],
    ) -> None: ...
    def remove(self, post_ids: NDArray[uint64], author_ids: NDArray[uint64]) -> int: ...
    def compact(self) -> int: ...
    def search(
        self,
        queries: NDArray[float32],
        k: int,
        excluded: NDArray[uint64],
        topics: NDArray[int64] | None,
        threads: int,
        first_row: int = 0,
    ) -> _Table: ...
    def rank(
        self,
        query: NDArray[float32],
        rows: NDArray[int64],
        k: int,
        excluded: NDArray[uint64],
        topics: NDArray[int64] | None,
    ) -> _Table: ...
    def contents(self, vectors: bool) -> tuple[NDArray[float32], NDArray[uint64], NDArray[uint64], NDArray[int64]]: ...
    @property
    def size(self) -> int: ...
    @property
    def removed(self) -> int: ...
    @property
    def segments(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

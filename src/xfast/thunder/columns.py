"""Posts as columns: what goes into the store and what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError, ParameterError
from xfast.ids import as_int64

if TYPE_CHECKING:
    from xfast.thunder._native import PostTable

__all__ = ["FLAG_COLUMNS", "ID_COLUMNS", "POST_COLUMNS", "PostBatch", "post_columns"]

# In the order of xfast::thunder::PostTable.
ID_COLUMNS = (
    "post_id",
    "author_id",
    "created_at",
    "in_reply_to_post_id",
    "in_reply_to_user_id",
    "source_post_id",
    "source_user_id",
    "conversation_id",
)
FLAG_COLUMNS = ("is_retweet", "is_reply", "has_video")
REQUIRED = ("post_id", "author_id", "created_at")

#: The columns of a post (THUNDER §1), in the order of the release's message.
POST_COLUMNS = (
    "post_id",
    "author_id",
    "created_at",
    "in_reply_to_post_id",
    "in_reply_to_user_id",
    "is_retweet",
    "is_reply",
    "source_post_id",
    "source_user_id",
    "has_video",
    "conversation_id",
)

Int64Column = npt.NDArray[np.int64]
BoolColumn = npt.NDArray[np.bool_]


class PostBatch:
    """Posts in columns, newest first.

    ``batch["created_at"]`` is a 1-D array (int64; bool for ``is_retweet``, ``is_reply`` and ``has_video``) that shares
    the batch's memory and must not be written to. References that a post lacks are 0.

    Attributes
    ----------
    timed_out
        True if the request's time ran out, so that not every followee was looked at.
    eligible
        Number of timeline entries of the followees that were looked at; the answer was chosen from these.
    deleted_skipped
        Number of entries passed over because their post had been deleted.
    """

    __slots__ = ("_columns", "_table", "deleted_skipped", "eligible", "timed_out")

    columns = POST_COLUMNS

    def __init__(self, table: PostTable) -> None:
        self._table = table
        self._columns: dict[str, Int64Column | BoolColumn] = {}
        self.timed_out = table.timed_out
        self.eligible = table.eligible
        self.deleted_skipped = table.deleted_skipped

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[str]:
        return iter(POST_COLUMNS)

    def __getitem__(self, name: str) -> Int64Column | BoolColumn:
        column = self._columns.get(name)
        if column is None:
            if name in ID_COLUMNS:
                column = self._table.ids(ID_COLUMNS.index(name))
            elif name in FLAG_COLUMNS:
                column = self._table.flags(FLAG_COLUMNS.index(name))
            else:
                raise KeyError(f"{name!r} is not a column of a post; they are {', '.join(POST_COLUMNS)}")
            self._columns[name] = column
        return column

    def to_dict(self) -> dict[str, Int64Column | BoolColumn]:
        """All columns by name, without copying."""
        return {name: self[name] for name in POST_COLUMNS}

    def to_arrow(self) -> Any:
        """A ``pyarrow.Table`` of the columns (extra ``data``); integers are not copied."""
        try:
            import pyarrow
        except ImportError as error:
            raise ImportError("PostBatch.to_arrow needs pyarrow: pip install 'xfast[data]'") from error
        return pyarrow.table(self.to_dict())

    def __repr__(self) -> str:
        return f"PostBatch({len(self)} posts{', timed out' if self.timed_out else ''})"


def post_columns(posts: Any) -> dict[str, Int64Column | BoolColumn | None]:
    """The columns of a mapping of arrays or of an Arrow table, in the types that the store reads.

    int64 and uint64 columns are not copied if they are contiguous (uint64 is reinterpreted); nulls become "unset".

    Raises
    ------
    ParameterError
        A required column is missing, a name is unknown, a dtype does not fit or the lengths differ.
    """
    named: dict[str, Any]
    if isinstance(posts, Mapping):
        named = dict(posts)
    elif hasattr(posts, "column_names"):
        named = {name: posts.column(name) for name in posts.column_names}
    elif isinstance(posts, PostBatch):
        named = dict(posts.to_dict())
    else:
        raise ParameterError(f"posts is a {type(posts).__name__}, must be a mapping of columns or an Arrow table")
    unknown = sorted(set(named) - set(POST_COLUMNS))
    if unknown:
        raise ParameterError(f"posts has the unknown columns {unknown}; known are {', '.join(POST_COLUMNS)}")
    missing = [name for name in REQUIRED if named.get(name) is None]
    if missing:
        raise ParameterError(f"posts lacks the columns {missing}")
    columns: dict[str, Int64Column | BoolColumn | None] = {}
    for name in POST_COLUMNS:
        column = named.get(name)
        if column is None:
            columns[name] = None
        elif name in FLAG_COLUMNS:
            columns[name] = _flags(_from_arrow(column, name, fill=False), name)
        else:
            columns[name] = _integers(_from_arrow(column, name, fill=0), name)
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        raise ParameterError(f"the columns of posts differ in length: {lengths}")
    return columns


def _from_arrow(column: Any, name: str, *, fill: int | bool) -> Any:
    if not hasattr(column, "null_count"):
        return column
    if column.null_count:
        if name in REQUIRED:
            raise DataError(f"posts: column {name!r} has {column.null_count} nulls and is required")
        column = column.fill_null(fill)
    return column.to_numpy() if hasattr(column, "num_chunks") else column.to_numpy(zero_copy_only=False)


def _integers(column: Any, name: str) -> Int64Column:
    array = as_int64(column, name=name)
    if array.ndim != 1:
        raise ParameterError(f"{name} has {array.ndim} dimensions, must have 1")
    return np.ascontiguousarray(array)


def _flags(column: Any, name: str) -> BoolColumn:
    array = np.asarray(column)
    if array.dtype.kind not in "iub" and array.size:
        raise ParameterError(f"{name} has dtype {array.dtype}, must be bool")
    if array.ndim != 1:
        raise ParameterError(f"{name} has {array.ndim} dimensions, must have 1")
    return np.ascontiguousarray(array, dtype=np.bool_)

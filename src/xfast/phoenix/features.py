"""What a request brings (:class:`Engagements`, :class:`Candidates`) and the arrays that an engine gets from it.

No JAX in here: a native engine serves without importing it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.ids import as_uint64
from xfast.phoenix import hashing
from xfast.phoenix.config import MAX_POST_AGE_MINUTES, PhoenixConfig
from xfast.phoenix.tower import EmbeddingRows, Tower

__all__ = ["CandidateFeatures", "Candidates", "ContextFeatures", "Engagements", "Keep", "post_age_bucket"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
U64 = npt.NDArray[np.uint64]
#: Which end of a history that is too long stays: ``oldest`` as the published pipeline cuts, ``newest`` as one wants.
Keep = Literal["oldest", "newest"]
_DWELL_COLUMN = 1


def _ids(value: npt.ArrayLike, name: str) -> U64:
    ids = as_uint64(value, name=name)
    if ids.ndim != 1:
        raise ParameterError(f"{name} has shape {ids.shape}, must be one-dimensional")
    return ids


def _floats(value: npt.ArrayLike, name: str, rows: int | None, columns: int | None) -> F32:
    try:
        array = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} cannot be read as float32: {error}") from error
    good = array.ndim == 2 and rows in (None, array.shape[0]) and columns in (None, array.shape[1])
    if not good:
        wanted = tuple("any" if size is None else size for size in (rows, columns))
        raise ParameterError(f"{name} has shape {array.shape}, must be {wanted}")
    if not np.isfinite(array).all():
        raise ParameterError(f"{name} holds values that are not finite")
    return array


def _int32(value: npt.ArrayLike, name: str, rows: int, hint: str = "") -> I32:
    array = np.asarray(value)
    if array.shape != (rows,):
        raise ParameterError(f"{name} has shape {array.shape}, must be ({rows},)")
    if array.size == 0:
        return np.zeros(rows, np.int32)
    if array.dtype.kind not in "iu":
        raise ParameterError(f"{name} has dtype {array.dtype}, must be an integer dtype")
    if array.min() < -(2**31) or array.max() >= 2**31:
        raise ParameterError(f"{name} holds {array.max()}, must fit 32 bits{hint}")
    return array.astype(np.int32, copy=False)


@dataclass(frozen=True, eq=False)
class Engagements:
    """A viewer and what they did: the models' context.

    Parameters
    ----------
    user_id
        64-bit id; 0 means "no user".
    post_ids, author_ids : integer [S]
        The posts of the history, oldest first. Post id 0 is an empty slot, holes are legal.
    actions : f32 [S, A]
        Multi-hot over the model's action columns; values need not be 0 or 1. A row of zeros means "no action".
    product_surface : i32 [S], optional
        Where the engagement happened; zeros if absent. An index outside the model's table adds nothing.
    continuous : f32 [S, 8], optional
        Continuous actions; column 1 is the dwell time in seconds.
    ip_embeddings : f32 [n, D], optional
        Added to the user token where the model's ``num_ip_hashes`` is positive (there is no IP table).
    ip_hashes : i32 [n], optional
        Carried along; no model reads them (PHOENIX §1).
    """

    user_id: int
    post_ids: U64
    author_ids: U64
    actions: F32
    product_surface: I32 | None = None
    continuous: F32 | None = None
    ip_embeddings: F32 | None = None
    ip_hashes: I32 | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        user = np.asarray(self.user_id)
        if user.ndim != 0:
            raise ParameterError(f"user_id has shape {user.shape}, must be one integer")
        put(self, "user_id", int(as_uint64(user.reshape(1), name="user_id")[0]))
        put(self, "post_ids", _ids(self.post_ids, "post_ids"))
        rows = len(self.post_ids)
        put(self, "author_ids", _ids(self.author_ids, "author_ids"))
        if len(self.author_ids) != rows:
            raise ParameterError(f"author_ids has {len(self.author_ids)} entries, post_ids has {rows}")
        put(self, "actions", _floats(self.actions, "actions", rows, None))
        if self.product_surface is not None:
            put(self, "product_surface", _int32(self.product_surface, "product_surface", rows))
        if self.continuous is not None:
            put(self, "continuous", _floats(self.continuous, "continuous", rows, None))
            if self.continuous is not None and self.continuous.shape[1] <= _DWELL_COLUMN:
                raise ParameterError(f"continuous has {self.continuous.shape[1]} columns, must have at least 2")
        if self.ip_embeddings is not None:
            put(self, "ip_embeddings", _floats(self.ip_embeddings, "ip_embeddings", None, None))
        if self.ip_hashes is not None:
            put(self, "ip_hashes", _int32(self.ip_hashes, "ip_hashes", len(np.atleast_1d(self.ip_hashes))))

    def __len__(self) -> int:
        return len(self.post_ids)

    def cut(self, length: int, keep: Keep = "oldest") -> Engagements:
        """Return at most ``length`` slots: the first ones (``oldest``, the published way) or the last (``newest``)."""
        if keep not in ("oldest", "newest"):
            raise ParameterError(f"keep is {keep!r}, must be 'oldest' or 'newest'")
        if len(self) <= length:
            return self
        part = slice(length) if keep == "oldest" else slice(len(self) - length, None)
        return replace(
            self,
            post_ids=self.post_ids[part],
            author_ids=self.author_ids[part],
            actions=self.actions[part],
            product_surface=None if self.product_surface is None else self.product_surface[part],
            continuous=None if self.continuous is None else self.continuous[part],
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Posts to score.

    Parameters
    ----------
    post_ids, author_ids : integer [C]
        Post id 0 is an empty slot, whose scores mean nothing.
    product_surface : i32 [C], optional
        Where the post would be shown; zeros if absent.
    impression_ts, created_ts : integer [C], optional
        Seconds since 1970; the post's age is used where both are given and not 0.
    slots : i32 [C], optional
        The place in the published batch, which moves a candidate's score under default RoPE (PHOENIX §3.8): the
        index if absent. Right-anchored models ignore it.
    """

    post_ids: U64
    author_ids: U64
    product_surface: I32 | None = None
    impression_ts: I32 | None = None
    created_ts: I32 | None = None
    slots: I32 | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "post_ids", _ids(self.post_ids, "post_ids"))
        put(self, "author_ids", _ids(self.author_ids, "author_ids"))
        rows = len(self.post_ids)
        if len(self.author_ids) != rows:
            raise ParameterError(f"author_ids has {len(self.author_ids)} entries, post_ids has {rows}")
        for name in ("product_surface", "impression_ts", "created_ts", "slots"):
            value = getattr(self, name)
            if value is not None:
                hint = " (seconds, not milliseconds)" if name.endswith("_ts") else ""
                put(self, name, _int32(value, name, rows, hint))
        if self.slots is not None and self.slots.size and self.slots.min() < 0:
            raise ParameterError(f"slots holds {self.slots.min()}, must be 0 or more")

    def __len__(self) -> int:
        return len(self.post_ids)

    def __getitem__(self, part: slice | npt.NDArray[Any]) -> Candidates:
        """Some of the candidates, with their columns; the slots they had stay theirs only where given."""
        columns = ("product_surface", "impression_ts", "created_ts", "slots")
        chosen = {name: None if getattr(self, name) is None else getattr(self, name)[part] for name in columns}
        return Candidates(self.post_ids[part], self.author_ids[part], **chosen)


@dataclass(frozen=True, eq=False)
class ContextFeatures:
    """One viewer as an engine sees them: rows of the tokens that count, with their original positions.

    n tokens of history; tokens that no other token can see are left out, which is exact (PHOENIX §9.4).
    """

    history_slots: int
    """S, the model's history length"""
    user_embeddings: F32
    """[n_user, D]"""
    user_valid: bool
    posts: EmbeddingRows
    """[n, n_item, D]"""
    authors: EmbeddingRows
    """[n, n_author, D]"""
    valid: npt.NDArray[np.bool_]
    """[n]; all true unless the features were asked for with every slot"""
    positions: I32
    """[1+n] RoPE positions of the user and the history tokens"""
    actions: F32
    """[n, A]"""
    product_surface: I32
    """[n]"""
    dwell: F32
    """[n] seconds"""
    ip_embeddings: F32 | None
    """[n_ip, D]; None where the model takes none"""

    @property
    def num_valid(self) -> int:
        """Tokens that others can see, user included."""
        return int(self.user_valid) + int(self.valid.sum())

    @property
    def post_embeddings(self) -> F32:
        """Rows of the posts, gathered."""
        return self.posts.values

    @property
    def author_embeddings(self) -> F32:
        """Rows of the authors, gathered."""
        return self.authors.values

    @classmethod
    def build(
        cls, tower: Tower, engagements: Engagements, *, keep: Keep = "oldest", compact: bool = True
    ) -> ContextFeatures:
        """Cut and hash; the rows of posts and authors are gathered by whoever needs them.

        Parameters
        ----------
        tower
            Configuration and tables.
        engagements
            The viewer.
        keep
            Which end of a too long history stays.
        compact
            Leave out invalid history tokens; False keeps all S slots, padded with empty ones.

        Raises
        ------
        ParameterError
            The actions have fewer columns than the model, or the IP rows another width.
        """
        config = tower.config
        history = engagements.cut(config.history_seq_len, keep)
        if history.actions.shape[1] < config.num_actions:
            raise ParameterError(
                f"actions has {history.actions.shape[1]} columns, the model needs num_actions ({config.num_actions})"
            )
        ip = history.ip_embeddings if config.num_ip_hashes > 0 else None
        if ip is not None and ip.shape[1] != config.emb_size:
            raise ParameterError(f"ip_embeddings has rows of {ip.shape[1]}, the model's emb_size is {config.emb_size}")
        slots_total = config.history_seq_len
        if not compact:
            history = _padded(history, slots_total)
        user_rows = hashing.rows_of(np.array([history.user_id], np.uint64), "user", config)[0]
        post_rows = hashing.rows_of(history.post_ids, "item", config)
        valid = post_rows[:, 0] != 0
        slots = np.flatnonzero(valid) if compact else np.arange(slots_total)
        post_rows = post_rows[slots]
        author_rows = hashing.rows_of(history.author_ids[slots], "author", config)
        if config.right_anchored_rope and tower.name == "ranker":
            positions = np.where(valid[slots], 1 + slots_total - int(valid.sum()) + slots, 0)
        else:
            positions = 1 + slots
        zeros = np.zeros(len(slots), np.int32)
        return cls(
            history_slots=slots_total,
            user_embeddings=tower.tables.gather("user", user_rows),
            user_valid=bool(user_rows[0] != 0),
            posts=EmbeddingRows(tower.tables, "item", post_rows),
            authors=EmbeddingRows(tower.tables, "author", author_rows),
            valid=valid[slots],
            positions=np.concatenate([[0], positions]).astype(np.int32),
            actions=np.ascontiguousarray(history.actions[slots, : config.num_actions]),
            product_surface=zeros if history.product_surface is None else history.product_surface[slots],
            dwell=zeros.astype(np.float32) if history.continuous is None else history.continuous[slots, _DWELL_COLUMN],
            ip_embeddings=ip,
        )


def _padded(history: Engagements, slots: int) -> Engagements:
    missing = slots - len(history)

    def pad(array: Any) -> Any:
        return None if array is None else np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))

    return replace(
        history,
        post_ids=pad(history.post_ids),
        author_ids=pad(history.author_ids),
        actions=pad(history.actions),
        product_surface=pad(history.product_surface),
        continuous=pad(history.continuous),
    )


@dataclass(frozen=True, eq=False)
class CandidateFeatures:
    """Candidates as an engine sees them; positions are final, surface and age bucket may be out of range."""

    posts: EmbeddingRows
    """[C, n_item, D]"""
    authors: EmbeddingRows
    """[C, n_author, D]"""
    valid: npt.NDArray[np.bool_]
    """[C]"""
    positions: I32
    """[C] RoPE positions"""
    product_surface: I32
    """[C]"""
    age_bucket: I32
    """[C] rows of the post age table"""

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def post_embeddings(self) -> F32:
        """Rows of the posts, gathered."""
        return self.posts.values

    @property
    def author_embeddings(self) -> F32:
        """Rows of the authors, gathered."""
        return self.authors.values

    @classmethod
    def build(cls, tower: Tower, candidates: Candidates) -> CandidateFeatures:
        """Hash; rows are gathered by whoever needs them."""
        config = tower.config
        post_rows = hashing.rows_of(candidates.post_ids, "item", config)
        author_rows = hashing.rows_of(candidates.author_ids, "author", config)
        count, start = len(candidates), 1 + config.history_seq_len
        valid = post_rows[:, 0] != 0
        if config.right_anchored_rope:
            positions = np.where(valid, start, 0)
        else:
            positions = start + (np.arange(count) if candidates.slots is None else candidates.slots)
        zeros = np.zeros(count, np.int32)
        return cls(
            posts=EmbeddingRows(tower.tables, "item", post_rows),
            authors=EmbeddingRows(tower.tables, "author", author_rows),
            valid=valid,
            positions=positions.astype(np.int32),
            product_surface=zeros if candidates.product_surface is None else candidates.product_surface,
            age_bucket=_age_buckets(candidates, config),
        )


def post_age_bucket(
    impression_ts: npt.NDArray[np.integer[Any]], created_ts: npt.NDArray[np.integer[Any]], granularity_mins: int
) -> I32:
    """Row of the post age table (PHOENIX §2.5): minutes since creation in steps of ``granularity_mins``, plus one.

    Bucket 0 stands for an unknown time (0) or a post from the future, the last one for 4,800 minutes and more.
    """
    # In 32 bits, wrapping, as the published code computes it.
    impression, created = impression_ts.astype(np.int32), created_ts.astype(np.int32)
    minutes = (impression - created) // 60
    bucket = np.clip(minutes // granularity_mins + 1, 0, MAX_POST_AGE_MINUTES // granularity_mins + 1)
    known = (minutes >= 0) & (impression != 0) & (created != 0)
    return np.where(known, bucket, 0).astype(np.int32)


def _age_buckets(candidates: Candidates, config: PhoenixConfig) -> I32:
    if candidates.impression_ts is None or candidates.created_ts is None:
        return np.zeros(len(candidates), np.int32)
    return post_age_bucket(candidates.impression_ts, candidates.created_ts, config.post_age_granularity_mins)

"""``CandidateBatch``: the posts of one request as columns (``PostCandidate`` of HOME_MIXER §1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.ids import as_uint64
from xfast.mixer.enums import BotMakerCategory, BrandSafetyVerdict, SafetyLabel, ServedType, VisibilityReason
from xfast.mixer.heads import HEAD_INDEX, HEADS
from xfast.mixer.times import age_ms, created_ms
from xfast.pipeline import Column, ColumnarBatch, Field, Ragged

__all__ = ["CandidateBatch", "decode_cell", "encode_cell"]

_U64 = Field(np.uint64)
_I64 = Field(np.int64)
_I32 = Field(np.int32)
_F64 = Field(np.float64, fill=np.nan)
_BOOL = Field(np.bool_, fill=False)
_U8 = Field(np.uint8)
_OBJECT = Field(np.object_, fill=None)
_TEXT = Field(np.object_, fill="", optional=False)


class CandidateBatch(ColumnarBatch):
    """Posts as columns; see :attr:`schema` for names and types.

    Ids are uint64 columns. Optional cells carry a validity mask. ``phoenix_scores`` is one ``[N, 22]`` matrix in the
    order of :data:`xfast.mixer.heads.HEADS` with NaN for a head that is unset. Beyond the reference's fields there are
    the author's name, verification, media entities, the post's true creation time, and ``unscored``, set where no model
    gave a score.
    """

    key: ClassVar[str | None] = "tweet_id"
    schema: ClassVar[Mapping[str, Field]] = MappingProxyType(
        {
            "tweet_id": Field(np.uint64, optional=False),
            "author_id": Field(np.uint64, optional=False),
            "tweet_text": _TEXT,
            "in_reply_to_tweet_id": _U64,
            "retweeted_tweet_id": _U64,
            "retweeted_user_id": _U64,
            "quoted_tweet_id": _U64,
            "quoted_user_id": _U64,
            "phoenix_scores": Field(np.float64, fill=np.nan, optional=False, width=len(HEADS)),
            "prediction_request_id": _U64,
            "last_scored_at_ms": _U64,
            "weighted_score": _F64,
            "score": _F64,
            "served_type": _U8,
            "in_network": _BOOL,
            "ancestors": Field(np.uint64, optional=False, ragged=True),
            "min_video_duration_ms": _I32,
            "quoted_video_duration_ms": _I32,
            "author_followers_count": _I32,
            "author_screen_name": _OBJECT,
            "retweeted_screen_name": _OBJECT,
            "visibility_reason": _OBJECT,
            "drop_ancillary_posts": _BOOL,
            "subscription_author_id": _U64,
            "tweet_type_metrics": _OBJECT,
            "author_blocks_viewer": _BOOL,
            "quoted_author_blocks_viewer": _BOOL,
            "filtered_topic_ids": Field(np.int64, ragged=True),
            "unfiltered_topic_ids": Field(np.int64, ragged=True),
            "following_replied_user_ids": Field(np.uint64, optional=False, ragged=True),
            "has_media": _BOOL,
            "language_code": _OBJECT,
            "fav_count": _I64,
            "reply_count": _I64,
            "repost_count": _I64,
            "quote_count": _I64,
            "mutual_follow_jaccard": _F64,
            "brand_safety_verdict": _U8,
            "safety_labels": _OBJECT,
            # Ours, beyond HOME_MIXER §1.
            "created_at_ms": _I64,
            "author_verified": _BOOL,
            "author_protected": _BOOL,
            "media": _OBJECT,
            "unscored": _BOOL,
            "core_data_failed": _BOOL,
        }
    )

    @property
    def tweet_id(self) -> npt.NDArray[np.uint64]:
        """Own ids ``[N]``."""
        return self.values("tweet_id")

    @property
    def author_id(self) -> npt.NDArray[np.uint64]:
        """Author ids ``[N]``; the retweeter's for a retweet; 0 where a source did not know."""
        return self.values("author_id")

    @property
    def original_id(self) -> npt.NDArray[np.uint64]:
        """The retweeted id where set, else the own id."""
        return self._else("retweeted_tweet_id", self.tweet_id)

    @property
    def original_author_id(self) -> npt.NDArray[np.uint64]:
        """The retweeted author where set, else the author."""
        return self._else("retweeted_user_id", self.author_id)

    def _else(self, name: str, other: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        if not self.has(name):
            return other
        column = self.column(name)
        return column.values if column.valid is None else np.where(column.valid, column.values, other)

    def is_set(self, name: str) -> npt.NDArray[np.bool_]:
        """Validity mask of a column; all false where nobody wrote it."""
        return self.valid(name)

    def is_true(self, name: str) -> npt.NDArray[np.bool_]:
        """Cells of a boolean column that are set and true."""
        column = self.column(name)
        values: npt.NDArray[np.bool_] = column.values
        return values if column.valid is None else values & column.valid

    def is_false(self, name: str) -> npt.NDArray[np.bool_]:
        """Cells of a boolean column that are set and false."""
        column = self.column(name)
        values: npt.NDArray[np.bool_] = ~column.values
        return values if column.valid is None else values & column.valid

    def ages_ms(self, now_ms: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Age and whether it is known: from ``created_at_ms`` where a store knew it, else from the id."""
        if not self.has("created_at_ms"):
            return age_ms(self.tweet_id, now_ms)
        column = self.column("created_at_ms")
        created = column.values
        if column.valid is not None:
            created = np.where(column.valid, created, created_ms(self.tweet_id))
        ages = now_ms - created
        return ages, ages >= 0

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """Build from JSON-like records with the field names of HOME_MIXER §1.

        Ids may be written signed or unsigned, ``phoenix_scores`` as a mapping of heads, ``visibility_reason`` as
        ``{"kind", "action"}``, ``served_type`` as its number, verdicts by name or number. The inverse is
        :meth:`to_records`.

        Raises
        ------
        DataError
            An unknown field, head, served type or verdict.
        """
        rows: list[dict[str, Any]] = []
        for record in records:
            row = {name: value for name, value in record.items() if value is not None}
            for name in row:
                decode = _DECODERS.get(name)
                if decode is not None:
                    row[name] = decode(row[name])
                elif cls.schema.get(name) is not None and cls.schema[name].dtype == np.uint64:
                    row[name] = as_uint64([] if cls.schema[name].ragged and not row[name] else row[name], name=name)
            rows.append(row)
        return cls.from_rows(rows)

    def to_records(self) -> list[dict[str, Any]]:
        """JSON-ready records of all set cells; :meth:`from_records` reads them back."""
        records = self.to_rows()
        for record in records:
            for name, encode in _ENCODERS.items():
                if name in record:
                    record[name] = encode(record[name])
        return records


def _decode_scores(value: Any) -> npt.NDArray[np.float64]:
    heads = np.full(len(HEADS), np.nan)
    for name, probability in value.items():
        if name not in HEAD_INDEX:
            raise DataError(f"phoenix_scores has no head {name!r}, it has {', '.join(HEADS)}")
        if probability is not None:
            heads[HEAD_INDEX[name]] = probability
    return heads


def _encode_scores(value: Any) -> dict[str, float]:
    return {name: probability for name, probability in zip(HEADS, value, strict=True) if probability == probability}


def _decode_reason(value: Any) -> VisibilityReason:
    if isinstance(value, VisibilityReason):
        return value
    return VisibilityReason(value["kind"], value.get("action"), value.get("detail"))


def _decode_labels(value: Any) -> tuple[SafetyLabel, ...]:
    return tuple(
        label
        if isinstance(label, SafetyLabel)
        else SafetyLabel(
            label["label_type"],
            label.get("description"),
            None if label.get("source") is None else BotMakerCategory(label["source"]),
        )
        for label in value
    )


_DECODERS: dict[str, Any] = {
    "phoenix_scores": _decode_scores,
    "visibility_reason": _decode_reason,
    "safety_labels": _decode_labels,
    "served_type": ServedType.decode,
    "brand_safety_verdict": lambda value: (
        BrandSafetyVerdict.parse(value) if isinstance(value, str) else BrandSafetyVerdict(value)
    ),
    "tweet_type_metrics": lambda value: bytes.fromhex(value) if isinstance(value, str) else bytes(value),
}

_ENCODERS: dict[str, Any] = {
    "phoenix_scores": _encode_scores,
    "visibility_reason": lambda r: {"kind": r.kind, "action": r.action, "detail": r.detail},
    "safety_labels": lambda labels: [
        {"label_type": s.label_type, "description": s.description, "source": s.source} for s in labels
    ],
    "tweet_type_metrics": lambda value: value.hex(),
}


def encode_cell(name: str, value: Any) -> Any:
    """A set cell of a column as JSON has it."""
    encode = _ENCODERS.get(name)
    return value if encode is None else encode(value)


def decode_cell(name: str, value: Any) -> Any:
    """The inverse of :func:`encode_cell`."""
    decode = _DECODERS.get(name)
    return value if decode is None else decode(value)


def optional_ids(values: npt.NDArray[np.uint64], valid: npt.NDArray[np.bool_] | None = None) -> Column:
    """A column of ids where 0 means none."""
    present = values != 0
    return Column(values, present if valid is None else present & valid)


def empty_lists(length: int, dtype: npt.DTypeLike = np.uint64) -> Ragged:
    """A column of ``length`` empty lists."""
    return Ragged(np.empty(0, dtype), np.zeros(length + 1, np.int64))

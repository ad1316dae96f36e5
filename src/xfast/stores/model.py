"""What a store answers with: columns for many ids at once, and a few small records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.events.ragged import Ragged

__all__ = ["Applied", "Counts", "EraseReceipt", "Labels", "Posts", "Relation", "ServedEntry", "ServedResponse", "Users"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]


class Relation(IntEnum):
    """A directed edge from a user to a user (to a topic for ``TOPIC``)."""

    FOLLOW = 1
    BLOCK = 2
    MUTE = 3
    SUBSCRIBE = 4
    TOPIC = 5


@dataclass(frozen=True, eq=False)
class Users:
    """Accounts, one row per asked id and in that order; ``found`` is False and the rest empty for strangers.

    ``state`` holds numbers of :class:`xfast.events.AccountState` (UNKNOWN for strangers: treat as active),
    ``followers`` and ``following`` count the follows that the store has seen.
    """

    user_id: U64
    found: Bools
    state: U8
    screen_name: Texts
    display_name: Texts
    description: Texts
    languages: Texts
    """Tuples of BCP 47 codes, most used first."""
    country_code: Texts
    age_years: I32
    subscription_level: U8
    created_at_ms: I64
    followers: I64
    following: I64

    def __len__(self) -> int:
        return len(self.user_id)


@dataclass(frozen=True, eq=False)
class Posts:
    """Posts, one row per asked id and in that order.

    ``found`` is False for an unknown or deleted post (``deleted`` tells the two apart); its other columns are 0 or
    empty. References are 0 where there is none.
    """

    post_id: U64
    found: Bools
    deleted: Bools
    author_id: U64
    created_at_ms: I64
    text: Texts
    language: Texts
    in_reply_to_post_id: U64
    in_reply_to_user_id: U64
    source_post_id: U64
    source_user_id: U64
    quoted_post_id: U64
    quoted_user_id: U64
    conversation_id: U64
    subscription_author_id: U64
    nullcast: Bools
    media: Ragged
    """Items of :data:`xfast.events.MEDIA_DTYPE`."""
    topic_ids: Ragged

    def __len__(self) -> int:
        return len(self.post_id)

    @property
    def has_media(self) -> Bools:
        """[N] whether the post shows a photo, video or GIF."""
        return np.asarray(self.media.lengths > 0)

    @property
    def has_video(self) -> Bools:
        """[N] whether the post shows a video."""
        return self.video_duration_ms >= 0

    @property
    def video_duration_ms(self) -> I32:
        """[N] int32: the duration of the shortest video, -1 without a video."""
        from xfast.events import MediaKind

        none = np.iinfo(np.int32).max
        items = self.media.values
        durations = np.where(items["kind"] == MediaKind.VIDEO, items["duration_ms"], none).astype(np.int32)
        shortest = np.full(len(self), none, np.int32)
        np.minimum.at(shortest, np.repeat(np.arange(len(self)), self.media.lengths), durations)
        return np.where(shortest == none, np.int32(-1), shortest).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of posts or users: rows ``offsets[i]:offsets[i + 1]`` belong to the i-th asked id, by label name."""

    offsets: I64
    label: Texts
    category: U8
    source: Texts
    rule_id: I64
    score: npt.NDArray[np.float32]
    time_ms: I64

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def names(self) -> list[tuple[str, ...]]:
        """The label names per asked id."""
        bounds = self.offsets.tolist()
        return [tuple(self.label[start:stop]) for start, stop in pairwise(bounds)]


@dataclass(frozen=True, eq=False)
class Counts:
    """Engagement counts, one row per asked post (HOME_MIXER §6, EngagementCounts); 0 for strangers."""

    post_id: U64
    favorites: I64
    replies: I64
    reposts: I64
    quotes: I64
    impressions: I64


@dataclass(frozen=True)
class ServedEntry:
    """One thing that a page showed: ``kind`` is tweet, promoted_tweet, who_to_follow or prompt (HOME_MIXER §12)."""

    kind: str
    position: int
    post_id: int = 0
    source_post_id: int = 0
    author_id: int = 0
    source_author_id: int = 0
    in_reply_to_post_id: int = 0
    score: float | None = None
    served_type: str = ""
    impression_id: str = ""
    user_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class ServedResponse:
    """One page that was served; ``served_ms`` is None once it was truncated out of the dated history."""

    request_id: int
    served_ms: int | None
    request_type: str = "OTHER"
    entries: tuple[ServedEntry, ...] = ()

    def to_json(self) -> str:
        """The page as JSON, without what the table has in columns of its own."""
        return json.dumps({"request_type": self.request_type, "entries": [asdict(entry) for entry in self.entries]})

    @classmethod
    def from_json(cls, request_id: int, served_ms: int | None, text: str) -> ServedResponse:
        """Read what :meth:`to_json` wrote."""
        data: dict[str, Any] = json.loads(text)
        entries = tuple(ServedEntry(**{**each, "user_ids": tuple(each["user_ids"])}) for each in data["entries"])
        return cls(request_id, served_ms, data["request_type"], entries)


@dataclass(frozen=True)
class Applied:
    """What became of a batch of events."""

    events: int
    """How many there were."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Per variant, how many changed the store: neither repeated nor overtaken by a later event."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Events that cannot count: ``unknown`` variants, and ``erased`` users'."""


@dataclass(frozen=True)
class EraseReceipt:
    """Proof of an erasure: which rows of which table went, and when."""

    user_id: int
    erased_ms: int
    rows: Mapping[str, int]

    @property
    def total(self) -> int:
        """Rows in all."""
        return sum(self.rows.values())

    def to_json(self) -> str:
        """The receipt as JSON, as the store keeps it."""
        return json.dumps({"user_id": self.user_id, "erased_ms": self.erased_ms, "rows": dict(self.rows)})

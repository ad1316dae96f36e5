"""What a feed consists of: posts, ads, suggestions, prompts, a pushed post (HOME_MIXER §1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo, WhoToFollowUser
from xfast.mixer.enums import BrandSafetyVerdict, SafetyLabelType, ServedType, VisibilityReason

__all__ = ["FeedItem", "FeedItems", "Prompt", "PushToHomePost", "ScoredPost", "WhoToFollowModule", "scored_posts"]


@dataclass(frozen=True, slots=True)
class ScoredPost:
    """A post of the final list; 0 means unset in id and time fields, as on the wire."""

    tweet_id: int
    author_id: int = 0
    retweeted_tweet_id: int = 0
    retweeted_user_id: int = 0
    in_reply_to_tweet_id: int = 0
    score: float = 0.0
    in_network: bool = False
    served_type: ServedType = ServedType.UNDEFINED
    last_scored_timestamp_ms: int = 0
    prediction_request_id: int = 0
    ancestors: tuple[int, ...] = ()
    screen_names: dict[int, str] = field(default_factory=dict)
    visibility_reason: VisibilityReason | None = None
    tweet_type_metrics: bytes = b""
    following_replied_user_ids: tuple[int, ...] = ()
    brand_safety_verdict: BrandSafetyVerdict = BrandSafetyVerdict.MEDIUM_RISK
    safety_label_types: tuple[SafetyLabelType, ...] = ()
    tweet_text: str = ""
    quoted_user_id: int = 0
    author_verified: bool | None = None
    media: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class WhoToFollowModule:
    """Suggested accounts, shown as one item."""

    users: tuple[WhoToFollowUser, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A serialised prompt."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PushToHomePost:
    """The post of a tapped notification, on top of the feed."""

    tweet_id: int
    author_id: int = 0
    in_reply_to_tweet_id: int = 0
    conversation_id: int = 0
    facepile: tuple[int, ...] = ()
    served_type: ServedType = ServedType.FOR_YOU_PUSH_TO_HOME


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One item of a feed and its position."""

    item: ScoredPost | AdInfo | WhoToFollowModule | Prompt | PushToHomePost | None = None
    position: int = 0

    def at(self, position: int) -> FeedItem:
        """The same item elsewhere."""
        return replace(self, position=position)


class FeedItems:
    """A batch of feed items, as the pipeline framework wants batches."""

    __slots__ = ("items",)

    def __init__(self, items: Sequence[FeedItem] = ()) -> None:
        self.items = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[FeedItem]:
        return iter(self.items)

    def take(self, indices: Any) -> Self:
        """Items in the given order."""
        return type(self)([self.items[index] for index in np.asarray(indices, np.int64).tolist()])

    @classmethod
    def concat(cls, batches: Sequence[Self]) -> Self:
        """All items of several batches."""
        return cls([item for batch in batches for item in batch.items])

    def of_type(self, kind: type) -> list[Any]:
        """The payloads of one kind, in order."""
        return [item.item for item in self.items if isinstance(item.item, kind)]


def scored_posts(batch: CandidateBatch, *, missing_verdict: BrandSafetyVerdict) -> list[ScoredPost]:
    """The output form of candidates.

    Parameters
    ----------
    missing_verdict
        What a candidate without a verdict gets: medium risk as published, unspecified in fixed mode.
    """
    posts = []
    for row in batch.to_rows():
        names = {}
        if row.get("author_screen_name"):
            names[row["author_id"]] = row["author_screen_name"]
        if row.get("retweeted_screen_name") and "retweeted_user_id" in row:
            names[row["retweeted_user_id"]] = row["retweeted_screen_name"]
        members = SafetyLabelType.__members__
        posts.append(
            ScoredPost(
                tweet_id=row["tweet_id"],
                author_id=row.get("author_id", 0),
                retweeted_tweet_id=row.get("retweeted_tweet_id", 0),
                retweeted_user_id=row.get("retweeted_user_id", 0),
                in_reply_to_tweet_id=row.get("in_reply_to_tweet_id", 0),
                score=float(np.float32(row.get("score", 0.0))),
                in_network=row.get("in_network", False),
                served_type=ServedType(row.get("served_type", 0)),
                last_scored_timestamp_ms=row.get("last_scored_at_ms", 0),
                prediction_request_id=row.get("prediction_request_id", 0),
                ancestors=tuple(row.get("ancestors", ())),
                screen_names=names,
                visibility_reason=row.get("visibility_reason"),
                tweet_type_metrics=row.get("tweet_type_metrics", b""),
                following_replied_user_ids=tuple(row.get("following_replied_user_ids", ())),
                brand_safety_verdict=BrandSafetyVerdict(row.get("brand_safety_verdict", missing_verdict)),
                safety_label_types=tuple(
                    members[label.label_type] for label in row.get("safety_labels", ()) if label.label_type in members
                ),
                tweet_text=row.get("tweet_text", ""),
                quoted_user_id=row.get("quoted_user_id", 0),
                author_verified=row.get("author_verified"),
                media=tuple(row.get("media") or ()),
            )
        )
    return posts

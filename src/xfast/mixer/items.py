"""What a feed consists of: posts, ads, suggestions, prompts, a pushed post (HOME_MIXER §1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo, WhoToFollowUser
from xfast.mixer.enums import BrandSafetyVerdict, SafetyLabelType, ServedType, VisibilityReason

__all__ = ["FeedItem", "FeedItems", "Prompt", "PushToHomePost", "ScoredPost", "WhoToFollowModule", "scored_posts"]

_LABELS = SafetyLabelType.__members__
_SERVED_TYPES, _VERDICTS = {each.value: each for each in ServedType}, {each.value: each for each in BrandSafetyVerdict}


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
        return FeedItem(self.item, position)


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

    def cells(name: str, unset: Any = None) -> list[Any]:
        if not batch.has(name):
            return [unset] * len(batch)
        if batch.schema[name].ragged:
            return batch.ragged(name).items()
        column = batch.column(name)
        values: list[Any] = column.values.tolist()
        if column.valid is None or np.count_nonzero(column.valid) == len(values):
            return values
        return [value if there else unset for value, there in zip(values, column.valid.tolist(), strict=True)]

    authors, originals = cells("author_id"), cells("retweeted_user_id", 0)
    label_types: dict[int, tuple[SafetyLabelType, ...]] = {}  # by identity: most posts share a few tuples
    labels = cells("safety_labels", ())
    for each in labels:
        if id(each) not in label_types:
            label_types[id(each)] = tuple(_LABELS[one.label_type] for one in each if one.label_type in _LABELS)
    # In the order of ScoredPost's fields.
    columns = (
        cells("tweet_id"),
        authors,
        cells("retweeted_tweet_id", 0),
        originals,
        cells("in_reply_to_tweet_id", 0),
        batch.column("score").filled(0.0).astype(np.float32).tolist(),
        cells("in_network", False),
        [_SERVED_TYPES[number] for number in cells("served_type", 0)],
        cells("last_scored_at_ms", 0),
        cells("prediction_request_id", 0),
        map(tuple, cells("ancestors", ())),
        map(_names, authors, cells("author_screen_name"), originals, cells("retweeted_screen_name")),
        cells("visibility_reason"),
        cells("tweet_type_metrics", b""),
        map(tuple, cells("following_replied_user_ids", ())),
        [_VERDICTS[number] for number in cells("brand_safety_verdict", missing_verdict)],
        [label_types[id(each)] for each in labels],
        cells("tweet_text", ""),
        cells("quoted_user_id", 0),
        cells("author_verified"),
        map(tuple, cells("media", ())),
    )
    return [ScoredPost(*values) for values in zip(*columns, strict=True)]


def _names(author: int, name: str | None, original: int, original_name: str | None) -> dict[int, str]:
    """Screen names by user, each only if known."""
    names = {author: name} if name else {}
    if original and original_name:
        names[original] = original_name
    return names

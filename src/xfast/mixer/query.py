"""``ScoredPostsQuery``: what a request asks, and what query hydrators learn about its viewer (HOME_MIXER §1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.ids import snowflake_time_ms
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.deciders import Decider, sampled
from xfast.mixer.params import Params

__all__ = [
    "BloomFilterEntry",
    "Cursor",
    "ReplyCell",
    "ScoredPostsQuery",
    "ServedEntry",
    "ServedItem",
    "ServedResponse",
    "UserFeatures",
]

#: A topic request with more topics than this is a bulk one; duplicates count (HOME_MIXER §1).
BULK_TOPICS = 6
#: Share of requests that count as shadow traffic: 0.5 %, the August reading of an ambiguous 0.5.
SHADOW_SHARE = 0.005


def _no_ids() -> npt.NDArray[np.uint64]:
    return np.empty(0, np.uint64)


@dataclass(slots=True)
class UserFeatures:
    """Lists of the viewer's social graph; ids as uint64 arrays (stored signed, compared after a bit-cast)."""

    muted_keywords: list[str] = field(default_factory=list)
    blocked_user_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    muted_user_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    followed_user_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    subscribed_user_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    follower_count: int | None = None


@dataclass(frozen=True, slots=True)
class BloomFilterEntry:
    """A serialised filter of impressions: 64-bit words, capacity and target rate of false positives."""

    bloom_filter: npt.NDArray[np.uint64]
    size_cap: int
    false_positive_rate: float


@dataclass(frozen=True, slots=True)
class ServedItem:
    """One id of a served entry."""

    tweet_id: int
    source_tweet_id: int | None = None
    author_id: int | None = None
    source_author_id: int | None = None
    in_reply_to_tweet_id: int | None = None


@dataclass(frozen=True, slots=True)
class ServedEntry:
    """One entry of a response: ``TWEET``, ``PROMOTED_TWEET``, ``WHO_TO_FOLLOW`` or ``PROMPT``."""

    entity_type: str
    items: tuple[ServedItem, ...] = ()
    position: int = 0
    user_ids: tuple[int, ...] = ()
    score: float | None = None
    served_type: str | None = None
    impression_id: str | None = None


@dataclass(frozen=True, slots=True)
class ServedResponse:
    """What one earlier request showed."""

    served_time_ms: int | None
    entries: tuple[ServedEntry, ...] = ()
    request_type: str = "OTHER"
    request_id: int = 0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the timeline a request continues: ``TOP``, ``BOTTOM`` or ``GAP``."""

    kind: str
    value: str = ""


class ReplyCell:
    """(author, parent) pairs of in-network replies; written once, by the Thunder source, read after selection."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]] | None = None

    def set(self, authors: npt.NDArray[np.uint64], parents: npt.NDArray[np.uint64]) -> bool:
        """Write the pairs; false when they were written before."""
        if self._pairs is not None:
            return False
        self._pairs = (authors, parents)
        return True

    def get(self) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Authors and parents; empty before they are written."""
        return self._pairs if self._pairs is not None else (_no_ids(), _no_ids())


@dataclass(slots=True)
class ScoredPostsQuery:
    """One request. Times are ms since 1970; unset optional values are ``None``.

    Raises
    ------
    ParameterError
        ``user_id`` 0, where a service builds the query (:meth:`checked`).
    """

    # The request.
    user_id: int = 0
    client_app_id: int = 0
    country_code: str = ""
    language_code: str = ""
    seen_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    served_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    in_network_only: bool = False
    is_bottom_request: bool = False
    is_top_request: bool = False
    topic_ids: list[int] = field(default_factory=list)
    excluded_topic_ids: list[int] = field(default_factory=list)
    exclude_videos: bool = False
    request_id: int = 0
    prediction_id: int = 0
    request_time_ms: int = 0
    ip_address: str = ""
    user_agent: str = ""
    time_zone: int = 0
    device_network_type: int = 0
    client_version: str = ""
    device_id: str = ""
    mobile_device_id: str = ""
    mobile_device_ad_id: str = ""
    is_preview: bool = False
    is_polling: bool = False
    cursor: Cursor | None = None
    request_context: str = ""
    push_to_home_post_id: int | None = None
    # From the viewer lookup.
    user_roles: list[str] = field(default_factory=list)
    muted_keywords: list[str] = field(default_factory=list)
    follower_count: int | None = None
    subscription_level: str | None = None
    user_age_in_years: int | None = None
    # From hydrators.
    bloom_filter_entries: list[BloomFilterEntry] = field(default_factory=list)
    scoring_sequence: Any = None
    retrieval_sequence: Any = None
    user_features: UserFeatures = field(default_factory=UserFeatures)
    cached_posts: CandidateBatch | None = None
    has_cached_posts: bool = False
    new_user_topic_ids: list[int] = field(default_factory=list)
    in_network_replies: ReplyCell = field(default_factory=ReplyCell)
    viewer_minhash: npt.NDArray[np.uint64] | None = None
    user_demographics: Any = None
    ip_location: Any = None
    user_inferred_gender: str | None = None
    user_inferred_gender_score: float | None = None
    followed_grok_topics: npt.NDArray[np.bool_] | None = None
    inferred_grok_topics: npt.NDArray[np.bool_] | None = None
    followed_starter_packs: npt.NDArray[np.bool_] | None = None
    served_history: list[ServedResponse] = field(default_factory=list)
    who_to_follow_eligible: bool = False
    non_polling_timestamps: list[int] | None = None
    impressed_post_ids: npt.NDArray[np.uint64] = field(default_factory=_no_ids)
    # Switches.
    params: Params = field(default_factory=Params)
    decider: Decider | None = None
    shadow_traffic: bool | None = None
    # Where pipeline B keeps the full result, trace included, of pipeline A; ``None`` unless someone explains.
    explain: list[Any] | None = None
    # Where it keeps the final posts of pipeline A as columns, predictions included; ``None`` unless someone asks.
    ranked: list[CandidateBatch] | None = None

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        # Hydrators of the graph write into it one list at a time.
        twin.user_features = replace(self.user_features)
        return twin

    def checked(self) -> Self:
        """This query, if it names a viewer."""
        if self.user_id == 0:
            raise ParameterError("user_id is 0, a request must name its viewer")
        return self

    @property
    def is_topic_request(self) -> bool:
        """Topics were asked for."""
        return bool(self.topic_ids)

    @property
    def is_bulk_topic_request(self) -> bool:
        """More than six topics were asked for; duplicates count."""
        return len(self.topic_ids) > BULK_TOPICS

    @property
    def has_excluded_topics(self) -> bool:
        """Topics were excluded."""
        return bool(self.excluded_topic_ids)

    @property
    def has_new_user_topics(self) -> bool:
        """A new viewer's chosen topics are to shape the feed."""
        return bool(self.new_user_topic_ids)

    @property
    def is_shadow_traffic(self) -> bool:
        """A deterministic 0.5 % of requests, by request id, unless the caller decided."""
        if self.shadow_traffic is not None:
            return self.shadow_traffic
        return sampled(self.request_id, SHADOW_SHARE)

    @property
    def account_age_ms(self) -> int | None:
        """Age of the viewer's account by its id; ``None`` when it is from the future."""
        age = self.request_time_ms - snowflake_time_ms(self.user_id)
        return age if age >= 0 else None

    def decides(self, name: str) -> bool:
        """Whether a decider is on for this request; off when there is none."""
        return self.decider is not None and self.decider.is_on(name, self.request_id)

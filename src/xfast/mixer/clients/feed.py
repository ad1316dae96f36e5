"""Sources of candidates and feed items beside retrieval, and where side effects publish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from xfast.mixer.clients.common import I64, U64, Maybe

if TYPE_CHECKING:
    from xfast.mixer.query import ScoredPostsQuery

__all__ = [
    "AdInfo",
    "AdsClient",
    "EventSink",
    "InNetworkPosts",
    "PromptsClient",
    "ReplyMixerClient",
    "ThunderClient",
    "TweetMixerClient",
    "WhoToFollowClient",
    "WhoToFollowUser",
]


@dataclass(frozen=True, slots=True)
class InNetworkPosts:
    """Posts of followed authors, newest first; negative or 0 means none in the relation columns."""

    post_ids: I64
    author_ids: I64
    in_reply_to_ids: I64
    source_post_ids: I64
    conversation_ids: I64


class ThunderClient(Protocol):
    """One channel to the in-network store."""

    def in_network(
        self,
        *,
        user_id: int,
        following_ids: U64,
        max_results: int,
        exclude_ids: U64,
        algorithm: str,
        is_video_request: bool,
        debug: bool,
    ) -> Maybe[InNetworkPosts]:
        """Newest posts of the followed authors."""
        ...


class TweetMixerClient(Protocol):
    """Popularity and co-engagement recommendations."""

    def recommend(
        self, query: ScoredPostsQuery, *, product: str, excluded_ids: U64 | None, max_results: int
    ) -> Maybe[tuple[U64, U64]]:
        """(post ids, author ids; 0 where the author is unknown)."""
        ...


@dataclass(frozen=True, slots=True)
class AdInfo:
    """One ad of the index (``AdIndexInfo``)."""

    post_id: int
    author_id: int = 0
    account_id: int = 0
    impression_id: int = 0
    insert_position: int = 0
    risk: str = "BsrUnknown"
    handles: tuple[int, ...] = ()
    keywords: tuple[str, ...] = ()
    text: str = ""


class AdsClient(Protocol):
    """The ad index."""

    def ads(self, query: ScoredPostsQuery) -> Maybe[Sequence[AdInfo]]:
        """Ads for a request, in the order in which they should be placed."""
        ...


@dataclass(frozen=True, slots=True)
class WhoToFollowUser:
    """A suggested account and why."""

    user_id: int
    score: float = 0.0
    reason: str = ""


class WhoToFollowClient(Protocol):
    """Account suggestions."""

    def suggest(self, query: ScoredPostsQuery, excluded_user_ids: Sequence[int]) -> Maybe[Sequence[WhoToFollowUser]]:
        """Suggestions, best first."""
        ...


class PromptsClient(Protocol):
    """Prompts to show in the timeline."""

    def prompts(self, query: ScoredPostsQuery, types: Sequence[str], surface: str) -> Maybe[Sequence[Any]]:
        """Injections; each has ``serialize() -> bytes``."""
        ...


class ReplyMixerClient(Protocol):
    """Scored repliers of a post."""

    def repliers(self, query: ScoredPostsQuery, post_id: int) -> Maybe[Sequence[int]]:
        """Author ids of scored replies, best first; 0 where the author is unknown."""
        ...


class EventSink(Protocol):
    """Where side effects publish (a Kafka topic, the event log, a list in tests)."""

    def publish(self, topic: str, records: Sequence[Mapping[str, Any]]) -> Maybe[None]:
        """Publish records to a topic."""
        ...

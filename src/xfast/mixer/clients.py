"""The collaborators of the mixer as protocols: models, stores, services. Each has an embedded default.

Methods may be plain or ``async`` (:func:`answer` waits where needed), take and return columns, and ask for many posts
or users at once; there is no call per candidate anywhere.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import SafetyLabelType, VisibilityReason

if TYPE_CHECKING:
    from xfast.mixer.query import BloomFilterEntry, ScoredPostsQuery, ServedResponse

__all__ = [
    "AdInfo",
    "AdsClient",
    "Clock",
    "CoreData",
    "GizmoduckUser",
    "PhoenixClient",
    "PredictRequest",
    "Prediction",
    "Retrieval",
    "RetrievalClient",
    "RetrievalRequest",
    "UserProfiles",
    "ValueModelClient",
    "ValueModelRequest",
    "ValueModelResponse",
    "answer",
    "sequence_length",
    "system_clock",
]

T = TypeVar("T")
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Maybe: TypeAlias = T | Awaitable[T]

Clock = Callable[[], int]


def system_clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def answer(value: T | Awaitable[T]) -> T:
    """The value, waited for where it is awaitable."""
    if inspect.isawaitable(value):
        waited: T = await value
        return waited
    return value


def sequence_length(sequence: Any) -> int:
    """Number of actions in a viewer's history; 0 when unset or unknown."""
    return len(sequence) if hasattr(sequence, "__len__") else 0


# -- ranking model ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What the ranking model is asked: a viewer's history and the candidates, with the contexts in ``query``."""

    cluster: str
    query: ScoredPostsQuery
    sequence: Any
    product_surface: int
    candidates: CandidateBatch


def _last_rows(ids: U64, wanted: U64) -> tuple[I64, Mask]:
    """For each wanted id the last row that has it, and whether there is one."""
    if not len(ids):
        return np.empty(0, np.int64), np.zeros(len(wanted), np.bool_)
    order = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids[order], wanted, side="right") - 1
    rows = order[np.maximum(place, 0)]
    return rows, (place >= 0) & (ids[rows] == wanted)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer, one row per post.

    Attributes
    ----------
    post_ids
        Original ids ``[M]``; of a repeated id the last row counts.
    log_probs
        ``[M, A]``: natural logarithms, column = action number; NaN where the model has no such action.
    continuous
        ``[M, K]``: continuous outputs as they are.
    """

    post_ids: U64
    log_probs: npt.NDArray[np.floating[Any]]
    continuous: npt.NDArray[np.floating[Any]]

    def rows_of(self, post_ids: U64) -> tuple[I64, Mask]:
        """The answer's row per wanted post, and the mask of posts that have one."""
        return _last_rows(self.post_ids, post_ids)

    def probabilities(
        self, post_ids: U64, actions: Sequence[int] | None = None
    ) -> tuple[npt.NDArray[np.float64], Mask]:
        """``exp(log_probs)`` per wanted post ``[N, A]``, NaN rows for absent ones, and the mask of found ones.

        ``actions`` picks columns, in that order.
        """
        rows, found = self.rows_of(post_ids)
        if not len(self.post_ids):
            width = self.log_probs.shape[1] if actions is None else len(actions)
            return np.full((len(post_ids), width), np.nan), found
        chosen = self.log_probs[rows] if actions is None else self.log_probs[np.ix_(rows, np.asarray(actions))]
        values = np.exp(chosen, dtype=np.float64)
        values[~found] = np.nan
        return values, found


class PhoenixClient(Protocol):
    """The ranking model."""

    def predict(self, request: PredictRequest) -> Maybe[Prediction]:
        """Score the candidates of a request."""
        ...


# -- retrieval model --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """What the retrieval model is asked."""

    cluster: str
    query: ScoredPostsQuery
    sequence: Any
    max_results: int
    topic_ids: tuple[int, ...] = ()
    mode: int | None = None
    with_contexts: bool = True


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Hits, best first; groups already flattened in their order. 0 in the parent and retweet columns means none."""

    post_ids: U64
    author_ids: U64
    in_reply_to_ids: U64 | None = None
    retweeted_ids: U64 | None = None
    scores: npt.NDArray[np.floating[Any]] | None = None


class RetrievalClient(Protocol):
    """The retrieval model over its corpus."""

    def retrieve(self, request: RetrievalRequest) -> Maybe[Retrieval]:
        """Find posts for a viewer's history."""
        ...


# -- value model ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ValueModelRequest:
    """What the value model is asked (HOME_MIXER §8.3); the candidates carry ids, network, heads and current scores."""

    cluster: str
    value_model_id: str
    user_id: int
    request_time_ms: int
    following_count: int
    new_user_age_threshold_secs: int
    dpp_theta: float | None
    dpp_max_selected_rank: int | None
    top_k: int
    candidates: CandidateBatch
    vqv_ineligible: Mask


@dataclass(frozen=True, slots=True)
class ValueModelResponse:
    """New scores by own post id."""

    tweet_ids: U64
    scores: npt.NDArray[np.float64]

    def lookup(self, tweet_ids: U64) -> tuple[npt.NDArray[np.float64], Mask]:
        """Score per wanted id (the last entry of an id wins) and the mask of answered ones."""
        rows, found = _last_rows(self.tweet_ids, tweet_ids)
        scores = np.zeros(len(tweet_ids))
        if not len(rows):
            return scores, found
        scores[found] = self.scores[rows[found]]
        return scores, found


class ValueModelClient(Protocol):
    """The value model."""

    def rank(self, request: ValueModelRequest) -> Maybe[ValueModelResponse]:
        """Rewrite scores."""
        ...


# -- viewer: graph, features, history ---------------------------------------------------------------------------------


class SocialGraphClient(Protocol):
    """Lists of a viewer and blocks against them; ids as uint64."""

    def blocked_user_ids(self, user_id: int) -> Maybe[U64]:
        """Users whom the viewer blocks."""
        ...

    def muted_user_ids(self, user_id: int) -> Maybe[U64]:
        """Users whom the viewer mutes."""
        ...

    def followed_user_ids(self, user_id: int) -> Maybe[U64]:
        """Users whom the viewer follows."""
        ...

    def subscribed_user_ids(self, user_id: int) -> Maybe[U64]:
        """Users whom the viewer pays for."""
        ...

    def blocked_by(self, user_id: int, author_ids: U64) -> Maybe[Mask]:
        """Mask of the authors who block the viewer."""
        ...


@dataclass(frozen=True, slots=True)
class SequenceRequest:
    """A viewer's history as the ranking or the retrieval model wants it (the user-action-sequence service)."""

    user_id: int
    cluster: str
    window_ms: int
    max_length: int
    aggregation: str
    source_data_type: str
    include_realtime: bool | None
    use_xds: bool
    prediction_id: int | None = None


class UserActionsClient(Protocol):
    """Engagement histories."""

    def sequence(self, request: SequenceRequest) -> Maybe[Any]:
        """The history (``xfast.phoenix.Engagements`` with a ``length``), ``None`` when there is none to be had."""
        ...


class UserFeaturesClient(Protocol):
    """What stores know about a viewer beside the graph."""

    def muted_keywords(self, user_id: int) -> Maybe[list[str]]:
        """Words that the viewer mutes."""
        ...

    def followed_topics(self, user_id: int) -> Maybe[list[int]]:
        """Topic ids that the viewer follows."""
        ...

    def inferred_topics(self, user_id: int) -> Maybe[list[int]]:
        """Topic ids that the viewer's engagements point to, most likely first."""
        ...

    def starter_packs(self, user_id: int) -> Maybe[npt.NDArray[np.bool_] | None]:
        """Flags ``[20]`` of followed starter packs; ``None`` without a row."""
        ...

    def demographics(self, user_id: int) -> Maybe[Any]:
        """What the viewer declared about themselves; ``None`` if nothing."""
        ...

    def impression_filters(self, user_id: int) -> Maybe[list[BloomFilterEntry]]:
        """Serialised impression filters of the home timeline."""
        ...

    def impressed_post_ids(self, user_id: int) -> Maybe[U64]:
        """Posts that were on the viewer's screen, newest first."""
        ...

    def minhash(self, user_id: int) -> Maybe[U64 | None]:
        """MinHash signature of the viewer's follows."""
        ...


class GenderClient(Protocol):
    """Declared or predicted gender; the embedded default knows only what was declared."""

    def lookup(self, user_id: int) -> Maybe[tuple[str, float] | None]:
        """A stored label with its score."""
        ...

    def predict(self, user_id: int) -> Maybe[tuple[str, float] | None]:
        """A fresh prediction; asked only for accounts younger than a day."""
        ...


class IpLocationClient(Protocol):
    """Where an address is; the embedded default does not know."""

    def locate(self, ip_address: str) -> Maybe[Any]:
        """A location, or ``None``; never fails."""
        ...


class ServedHistoryClient(Protocol):
    """What was served to a viewer, per platform."""

    def read(self, user_id: int, platform: str) -> Maybe[list[ServedResponse]]:
        """Responses, newest first."""
        ...

    def append(self, user_id: int, platform: str, response: ServedResponse) -> Maybe[None]:
        """Add the newest response."""
        ...

    def delete(self, user_id: int, platform: str, served_times_ms: Sequence[int]) -> Maybe[None]:
        """Forget responses by their time."""
        ...

    def read_timestamps(self, user_id: int) -> Maybe[list[int]]:
        """Times of non-polling requests, newest first."""
        ...

    def write_timestamps(self, user_id: int, timestamps: Sequence[int]) -> Maybe[None]:
        """Replace those times."""
        ...


class PostCacheClient(Protocol):
    """Scored candidates of a recent request, as bytes under a key."""

    def get(self, key: str) -> Maybe[bytes | None]:
        """The payload, ``None`` when absent or empty."""
        ...

    def set(self, key: str, payload: bytes, ttl_secs: int) -> Maybe[None]:
        """Keep a payload."""
        ...


# -- posts and authors ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CoreData:
    """Essentials of posts, one row per asked id. 0 means none in id columns; ``found`` rows only."""

    found: Mask
    author_ids: U64
    texts: npt.NDArray[np.object_]
    in_reply_to_ids: U64
    retweeted_ids: U64
    retweeted_user_ids: U64
    conversation_ids: U64 | None = None
    created_at_ms: I64 | None = None


@dataclass(frozen=True, slots=True)
class Quotes:
    """Quoted post and its author per asked id; 0 means none."""

    quoted_ids: U64
    quoted_user_ids: U64


class PostsClient(Protocol):
    """Everything about posts that candidates need, by batch of ids ``[N]``."""

    def core_data(self, post_ids: U64) -> Maybe[CoreData]:
        """Author, text, relations."""
        ...

    def quotes(self, post_ids: U64) -> Maybe[Quotes]:
        """Quoted posts."""
        ...

    def video_durations(self, post_ids: U64) -> Maybe[tuple[npt.NDArray[np.int32], Mask, Mask]]:
        """Shortest own video in ms, the mask of posts with a video, and the mask of posts that are known at all."""
        ...

    def has_media(self, post_ids: U64) -> Maybe[Mask]:
        """Posts with media."""
        ...

    def media(self, post_ids: U64) -> Maybe[npt.NDArray[np.object_]]:
        """Media entities per post (a tuple of mappings), ``None`` without."""
        ...

    def subscription_authors(self, post_ids: U64) -> Maybe[U64]:
        """The author for whose subscribers a post is reserved; 0 for everyone."""
        ...

    def language_codes(self, post_ids: U64) -> Maybe[npt.NDArray[np.object_]]:
        """Language per post, ``None`` when unknown."""
        ...

    def engagement_counts(self, post_ids: U64) -> Maybe[npt.NDArray[np.int64]]:
        """``[N, 4]``: favorites, replies, reposts, quotes."""
        ...

    def topics(self, post_ids: U64, experiment: int) -> Maybe[list[list[int] | None]]:
        """Topic ids per post under a filtering experiment; ``None`` or empty when unlabelled."""
        ...


@dataclass(frozen=True, slots=True)
class GizmoduckUser:
    """A user as candidates show them; ``None`` for what is unknown."""

    screen_name: str | None = None
    followers_count: int | None = None
    verified: bool | None = None
    protected: bool | None = None


@dataclass(frozen=True, slots=True)
class UserProfiles:
    """Profiles as columns, one row per asked id.

    Attributes
    ----------
    screen_names
        ``None`` where unknown.
    followers_counts
        -1 where unknown.
    verified, protected
        1, 0, or -1 where unknown.
    failed
        Row -> why the profile could not be had.
    """

    screen_names: npt.NDArray[np.object_]
    followers_counts: npt.NDArray[np.int64]
    verified: npt.NDArray[np.int8]
    protected: npt.NDArray[np.int8]
    failed: Mapping[int, str]

    @classmethod
    def from_users(cls, users: Sequence[GizmoduckUser | Exception]) -> UserProfiles:
        """Columns of single profiles, for clients that have them one by one."""

        def flag(value: bool | None) -> int:
            return -1 if value is None else int(value)

        known = [GizmoduckUser() if isinstance(user, Exception) else user for user in users]
        names = np.empty(len(known), np.object_)
        names[:] = [user.screen_name for user in known]
        return cls(
            names,
            np.array([-1 if user.followers_count is None else user.followers_count for user in known], np.int64),
            np.array([flag(user.verified) for user in known], np.int8),
            np.array([flag(user.protected) for user in known], np.int8),
            {row: str(user) for row, user in enumerate(users) if isinstance(user, Exception)},
        )


class UsersClient(Protocol):
    """User profiles (Gizmoduck)."""

    def users(self, user_ids: U64) -> Maybe[UserProfiles]:
        """Profiles, one row per id."""
        ...


class MinHashClient(Protocol):
    """MinHash signatures of authors' followers."""

    def signatures(self, user_ids: U64) -> Maybe[list[U64 | None]]:
        """One signature per id, ``None`` when there is none."""
        ...


# -- safety -----------------------------------------------------------------------------------------------------------

VisibilityResult = VisibilityReason | Exception | None


class VisibilityClient(Protocol):
    """Visibility filtering."""

    def visibility(
        self, query: ScoredPostsQuery, post_ids: Sequence[int], level: str
    ) -> Maybe[Mapping[int, VisibilityResult]]:
        """Reason per post at a safety level (``TimelineHome`` or ``TimelineHomeRecommendations``); absent: visible."""
        ...


@dataclass(frozen=True, slots=True)
class PostLabel:
    """A label as a store has it."""

    label_type: str
    source: str | None = None
    rule_id: int | None = None

    @property
    def number(self) -> int:
        """Numeric type; unknown names sort last."""
        member = SafetyLabelType.__members__.get(self.label_type)
        return 1_000 if member is None else int(member)


class LabelsClient(Protocol):
    """Safety labels of posts."""

    def labels(self, post_ids: U64) -> Maybe[Mapping[int, Sequence[PostLabel] | Exception]]:
        """Labels per post; absent: none, an exception: the lookup of that post failed."""
        ...


# -- sources other than retrieval -------------------------------------------------------------------------------------


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

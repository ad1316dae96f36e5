"""What the mixer asks about posts and their authors, safety included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients.common import I64, U64, Mask, Maybe
from xfast.mixer.enums import SafetyLabelType, VisibilityReason

if TYPE_CHECKING:
    from xfast.mixer.query import ScoredPostsQuery

__all__ = [
    "CoreData",
    "GizmoduckUser",
    "LabelsClient",
    "MinHashClient",
    "PostLabel",
    "PostsClient",
    "Quotes",
    "UserProfiles",
    "UsersClient",
    "VisibilityClient",
    "VisibilityResult",
]


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


VisibilityResult = VisibilityReason | Exception | None


class VisibilityClient(Protocol):
    """Visibility filtering."""

    def visibility(
        self, query: ScoredPostsQuery, post_ids: Sequence[int], level: str
    ) -> Maybe[Mapping[int, VisibilityResult]]:
        """Reason per post at a safety level (``TimelineHome`` or ``TimelineHomeRecommendations``); absent: visible."""
        ...


class PostLabel(NamedTuple):
    """A label as a store has it; a tuple, because labels are looked up by their hash for every post of a page."""

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

"""The events as Python values: one frozen dataclass per variant, and the schema that the other forms are derived from.

The annotations carry the column type of each field (``Id``, ``Int32``, ``Text``, …). :data:`SCHEMAS` reads them once;
the protobuf codec, the columns of :class:`~xfast.events.EventBatch` and the Arrow schema all follow it, so a field is
declared here and in ``network_event.proto`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, get_type_hints


class Column:
    """How one field is stored: ``dtype`` of its NumPy column, ``ragged`` for lists, ``enum`` for named numbers."""

    __slots__ = ("dtype", "enum", "ragged")

    def __init__(self, dtype: str, *, ragged: bool = False, enum: type[IntEnum] | None = None) -> None:
        self.dtype, self.ragged, self.enum = dtype, ragged, enum

    def __repr__(self) -> str:
        return f"Column({self.dtype!r}, ragged={self.ragged}, enum={self.enum.__name__ if self.enum else None})"


class MediaKind(IntEnum):
    """What a media item is."""

    UNKNOWN = 0
    PHOTO = 1
    VIDEO = 2
    GIF = 3


class LabelCategory(IntEnum):
    """What a label is about: the safety of people, or of the brands shown next to the post."""

    UNKNOWN = 0
    SAFETY = 1
    BRAND = 2


class AccountState(IntEnum):
    """The state of an account; DECISIONS "account state" says what each hides."""

    UNKNOWN = 0
    ACTIVE = 1
    SUSPENDED = 2
    PROTECTED = 3
    DEACTIVATED = 4
    ERASED = 5


class SubscriptionLevel(IntEnum):
    """What the user pays for."""

    NONE = 0
    BASIC = 1
    PREMIUM = 2
    PREMIUM_PLUS = 3


Id = Annotated[int, Column("uint64")]
Ids = Annotated[tuple[int, ...], Column("uint64", ragged=True)]
Int32 = Annotated[int, Column("int32")]
Int64 = Annotated[int, Column("int64")]
Float = Annotated[float, Column("float32")]
Flag = Annotated[bool, Column("bool")]
Text = Annotated[str, Column("object")]
Texts = Annotated[tuple[str, ...], Column("object", ragged=True)]


@dataclass(frozen=True, slots=True)
class Media:
    """One photo, video or GIF of a post; ``duration_ms`` is 0 where there is none or it is not known."""

    kind: MediaKind
    duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Post:
    """A post, reply, repost (``source_post_id``) or quote (``quoted_post_id``) comes into being.

    ``created_at_ms`` 0 means: at the time of the event. References are 0 where there is none.
    """

    post_id: Id
    author_id: Id
    created_at_ms: Int64 = 0
    text: Text = ""
    language: Text = ""
    in_reply_to_post_id: Id = 0
    in_reply_to_user_id: Id = 0
    source_post_id: Id = 0
    source_user_id: Id = 0
    quoted_post_id: Id = 0
    quoted_user_id: Id = 0
    conversation_id: Id = 0
    media: Annotated[tuple[Media, ...], Column("media", ragged=True)] = ()
    topic_ids: Ids = ()
    subscription_author_id: Id = 0
    nullcast: Flag = False

    kind: ClassVar[str] = "post"

    @property
    def is_reply(self) -> bool:
        """Whether it answers a post or a user."""
        return self.in_reply_to_post_id != 0 or self.in_reply_to_user_id != 0

    @property
    def is_repost(self) -> bool:
        """Whether it shows another post as its own."""
        return self.source_post_id != 0


@dataclass(frozen=True, slots=True)
class Delete:
    """A post is deleted."""

    post_id: Id
    author_id: Id = 0

    kind: ClassVar[str] = "delete"


@dataclass(frozen=True, slots=True)
class _UserPair:
    user_id: Id
    target_user_id: Id


class Follow(_UserPair):
    """``user_id`` follows ``target_user_id``."""

    __slots__ = ()
    kind: ClassVar[str] = "follow"


class Unfollow(_UserPair):
    """``user_id`` no longer follows ``target_user_id``."""

    __slots__ = ()
    kind: ClassVar[str] = "unfollow"


class Block(_UserPair):
    """``user_id`` blocks ``target_user_id``."""

    __slots__ = ()
    kind: ClassVar[str] = "block"


class Unblock(_UserPair):
    """``user_id`` lifts a block."""

    __slots__ = ()
    kind: ClassVar[str] = "unblock"


class Mute(_UserPair):
    """``user_id`` mutes ``target_user_id``."""

    __slots__ = ()
    kind: ClassVar[str] = "mute"


class Unmute(_UserPair):
    """``user_id`` lifts a mute."""

    __slots__ = ()
    kind: ClassVar[str] = "unmute"


class Subscribe(_UserPair):
    """``user_id`` subscribes to the exclusive posts of ``target_user_id``."""

    __slots__ = ()
    kind: ClassVar[str] = "subscribe"


class Unsubscribe(_UserPair):
    """``user_id`` ends a subscription."""

    __slots__ = ()
    kind: ClassVar[str] = "unsubscribe"


@dataclass(frozen=True, slots=True)
class _Keyword:
    user_id: Id
    keyword: Text


class MuteKeyword(_Keyword):
    """``user_id`` mutes a word, hashtag or phrase."""

    __slots__ = ()
    kind: ClassVar[str] = "mute_keyword"


class UnmuteKeyword(_Keyword):
    """``user_id`` lifts a keyword mute."""

    __slots__ = ()
    kind: ClassVar[str] = "unmute_keyword"


@dataclass(frozen=True, slots=True)
class _TopicInterest:
    user_id: Id
    topic_id: Id


class FollowTopic(_TopicInterest):
    """``user_id`` follows a topic."""

    __slots__ = ()
    kind: ClassVar[str] = "follow_topic"


class UnfollowTopic(_TopicInterest):
    """``user_id`` no longer follows a topic."""

    __slots__ = ()
    kind: ClassVar[str] = "unfollow_topic"


@dataclass(frozen=True, slots=True)
class Engagement:
    """``user_id`` did ``action`` on a post, or took it back (``removed``).

    ``action`` is a number of the ``proto`` vocabulary of :mod:`xfast.actions` (favorite 1, reply 4, …). ``dwell_ms`` is
    the time on the post for a dwell, after the click for a click, watched for a video view.
    """

    user_id: Id
    post_id: Id
    action: Int32
    author_id: Id = 0
    surface: Int32 = 0
    dwell_ms: Int32 = 0
    request_id: Id = 0
    removed: Flag = False

    kind: ClassVar[str] = "engagement"


@dataclass(frozen=True, slots=True)
class Impression:
    """A post was shown to ``user_id`` at ``position`` (from 0) of the page that ``request_id`` served."""

    user_id: Id
    post_id: Id
    author_id: Id = 0
    surface: Int32 = 0
    position: Int32 = 0
    request_id: Id = 0

    kind: ClassVar[str] = "impression"


@dataclass(frozen=True, slots=True)
class Label:
    """A safety or brand label is put on a post (``post_id``) or a user (``user_id``), or lifted (``removed``)."""

    label: Text
    category: Annotated[LabelCategory, Column("uint8", enum=LabelCategory)]
    post_id: Id = 0
    user_id: Id = 0
    source: Text = ""
    rule_id: Int64 = 0
    score: Float = 0.0
    removed: Flag = False

    kind: ClassVar[str] = "label"


@dataclass(frozen=True, slots=True)
class Account:
    """The account of ``user_id`` enters ``state``."""

    user_id: Id
    state: Annotated[AccountState, Column("uint8", enum=AccountState)]

    kind: ClassVar[str] = "account"


@dataclass(frozen=True, slots=True)
class Profile:
    """What an account declares about itself; each event replaces the previous profile."""

    user_id: Id
    screen_name: Text = ""
    display_name: Text = ""
    description: Text = ""
    languages: Texts = ()
    country_code: Text = ""
    age_years: Int32 = 0
    subscription_level: Annotated[SubscriptionLevel, Column("uint8", enum=SubscriptionLevel)] = SubscriptionLevel.NONE
    created_at_ms: Int64 = 0

    kind: ClassVar[str] = "profile"


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variant that this release does not know; ``data`` is the whole event as it came."""

    data: bytes

    kind: ClassVar[str] = "unknown"


Body = (
    Post
    | Delete
    | Follow
    | Unfollow
    | Block
    | Unblock
    | Mute
    | Unmute
    | MuteKeyword
    | UnmuteKeyword
    | Subscribe
    | Unsubscribe
    | FollowTopic
    | UnfollowTopic
    | Engagement
    | Impression
    | Label
    | Account
    | Profile
    | Unknown
)


class Kind(IntEnum):
    """The variant of an event: its field number in ``network_event.proto``, 0 for an unknown one."""

    UNKNOWN = 0
    POST = 10
    DELETE = 11
    FOLLOW = 12
    UNFOLLOW = 13
    BLOCK = 14
    UNBLOCK = 15
    MUTE = 16
    UNMUTE = 17
    MUTE_KEYWORD = 18
    UNMUTE_KEYWORD = 19
    SUBSCRIBE = 20
    UNSUBSCRIBE = 21
    FOLLOW_TOPIC = 22
    UNFOLLOW_TOPIC = 23
    ENGAGEMENT = 24
    IMPRESSION = 25
    LABEL = 26
    ACCOUNT = 27
    PROFILE = 28

    @property
    def label(self) -> str:
        """The name in tables and in the ``oneof``: lower case."""
        return self.name.lower()


BODIES: Mapping[Kind, type[Any]] = MappingProxyType(
    {
        Kind[cls.kind.upper()]: cls
        for cls in (
            *(Post, Delete, Follow, Unfollow, Block, Unblock, Mute, Unmute, MuteKeyword, UnmuteKeyword),
            *(Subscribe, Unsubscribe, FollowTopic, UnfollowTopic, Engagement, Impression, Label, Account, Profile),
        )
    }
)
"""The dataclass of every known variant."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a variant: its name, its column, and its value when it is left out (``required``: it cannot be)."""

    name: str
    column: Column
    default: Any
    required: bool


def _schema(cls: type[Any]) -> tuple[Field, ...]:
    hints = get_type_hints(cls, include_extras=True)
    result = []
    for field in fields(cls):
        column = next(part for part in hints[field.name].__metadata__ if isinstance(part, Column))
        required = field.default is MISSING
        result.append(Field(field.name, column, None if required else field.default, required))
    return tuple(result)


SCHEMAS: Mapping[Kind, tuple[Field, ...]] = MappingProxyType({kind: _schema(cls) for kind, cls in BODIES.items()})
"""The fields of every known variant, in the order of its dataclass."""


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """One thing that changes the network.

    Parameters
    ----------
    body
        What happened: a :class:`Post`, :class:`Follow`, :class:`Engagement`, …
    time_ms
        When it happened, Unix milliseconds.
    event_id
        Unique per event, so that applying it twice has the effect of once; 0 = none was given.
    """

    body: Body
    time_ms: int
    event_id: int = 0

    @property
    def kind(self) -> str:
        """The name of the variant, as in the ``oneof``."""
        return self.body.kind

    def to_bytes(self) -> bytes:
        """Encode as protobuf; an unknown event gives back the bytes it came as.

        Raises
        ------
        ParameterError
            A field is out of the range of its type; the message names it.
        """
        from xfast.events.wire import encode

        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> NetworkEvent:
        """Decode protobuf; a variant of a later release becomes :class:`Unknown` and keeps its bytes.

        Raises
        ------
        DataError
            The bytes are not a ``NetworkEvent``.
        """
        from xfast.events.wire import decode

        return decode(data)

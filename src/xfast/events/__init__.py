"""Network events: everything that changes the world, as Python values, protobuf, columns and Arrow.

One :class:`NetworkEvent` carries one change (a post, a follow, an engagement, …). The same events travel as

- bytes, ``event.to_bytes()`` and ``NetworkEvent.from_bytes(data)``: the event log and Kafka;
- columns, :class:`EventBatch`: stores, training, everything that is fast;
- Arrow tables and Parquet files, :func:`to_arrow`, :func:`read_parquet`, …: on disk (extra ``data``).
"""

from xfast.events.arrow import arrow_schema, from_arrow, read_parquet, scan_parquet, to_arrow, write_parquet
from xfast.events.batch import MEDIA_DTYPE, Columns, EventBatch
from xfast.events.model import (
    BODIES,
    SCHEMAS,
    Account,
    AccountState,
    Block,
    Body,
    Delete,
    Engagement,
    Follow,
    FollowTopic,
    Impression,
    Kind,
    Label,
    LabelCategory,
    Media,
    MediaKind,
    Mute,
    MuteKeyword,
    NetworkEvent,
    Post,
    Profile,
    Subscribe,
    SubscriptionLevel,
    Unblock,
    Unfollow,
    UnfollowTopic,
    Unknown,
    Unmute,
    UnmuteKeyword,
    Unsubscribe,
)
from xfast.events.ragged import Ragged
from xfast.events.wire import decode_all, encode_all, message_class

__all__ = [
    "BODIES",
    "MEDIA_DTYPE",
    "SCHEMAS",
    "Account",
    "AccountState",
    "Block",
    "Body",
    "Columns",
    "Delete",
    "Engagement",
    "EventBatch",
    "Follow",
    "FollowTopic",
    "Impression",
    "Kind",
    "Label",
    "LabelCategory",
    "Media",
    "MediaKind",
    "Mute",
    "MuteKeyword",
    "NetworkEvent",
    "Post",
    "Profile",
    "Ragged",
    "Subscribe",
    "SubscriptionLevel",
    "Unblock",
    "Unfollow",
    "UnfollowTopic",
    "Unknown",
    "Unmute",
    "UnmuteKeyword",
    "Unsubscribe",
    "arrow_schema",
    "decode_all",
    "encode_all",
    "from_arrow",
    "message_class",
    "read_parquet",
    "scan_parquet",
    "to_arrow",
    "write_parquet",
]

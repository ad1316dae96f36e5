"""What the mixer asks about a viewer: graph, history, features, what was served before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients.common import U64, Mask, Maybe

if TYPE_CHECKING:
    from xfast.mixer.query import BloomFilterEntry, ServedResponse

__all__ = [
    "GenderClient",
    "IpLocation",
    "IpLocationClient",
    "PostCacheClient",
    "SequenceRequest",
    "ServedHistoryClient",
    "SocialGraphClient",
    "UserActionsClient",
    "UserFeaturesClient",
]


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


@dataclass(frozen=True, slots=True)
class IpLocation:
    """Where a request comes from.

    Attributes
    ----------
    country
        ISO code, unset when unknown.
    embeddings
        ``[n, D]`` float32: vectors that a ranking model with ``num_ip_hashes`` adds to its user token.
    """

    country: str | None = None
    embeddings: npt.NDArray[np.float32] | None = None


class IpLocationClient(Protocol):
    """Where an address is; the embedded default does not know."""

    def locate(self, ip_address: str) -> Maybe[IpLocation | None]:
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

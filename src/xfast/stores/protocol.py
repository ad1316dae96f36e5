"""The one interface: what the mixer asks of a store, and what feeds it.

Every read takes many ids and costs a constant number of round trips. Ids are unsigned 64-bit. Implementations are
thread-safe; ``xfast.stores.testing.StoreContract`` tells whether one behaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from xfast.events import EventBatch, NetworkEvent
from xfast.events.ragged import Ragged
from xfast.sketch import BloomFilter
from xfast.stores.cache import CacheStats
from xfast.stores.history import History, HistoryOptions
from xfast.stores.model import Applied, Counts, EraseReceipt, Labels, Posts, Relation, ServedResponse, Users

__all__ = ["Store"]


@runtime_checkable
class Store(Protocol):
    """Viewers, histories, posts, what was served and seen, and cached candidates.

    Failures of the backend raise :class:`xfast.errors.StoreError`, bad arguments :class:`xfast.errors.ParameterError`.
    """

    # Feeding ----------------------------------------------------------------------------------------------------------

    def apply(self, events: EventBatch | Iterable[NetworkEvent]) -> Applied:
        """Take in events, all or none.

        Idempotent, and independent of order where events carry different times: what has a state (a follow, a profile,
        a label, a post) is decided by the latest event, what happens (an engagement, an impression) counts once per
        user, post, kind and time. A user in state ERASED is erased on the spot, and later events of theirs are ignored.
        """
        ...

    def erase(self, user_id: int, *, now_ms: int) -> EraseReceipt:
        """Remove all that is known of a user: profile, relations both ways, keywords, history, impressions, pages,
        cached candidates, and their posts with labels and counts. A tombstone keeps late events from bringing it back.
        """
        ...

    def erasures(self, user_id: int) -> list[EraseReceipt]:
        """The receipts of a user, oldest first."""
        ...

    # Viewers ----------------------------------------------------------------------------------------------------------

    def users(self, user_ids: npt.ArrayLike) -> Users:
        """Profiles, account states and follow counts; the columns may be read-only."""
        ...

    def user_ids(self, *, after: int | None = None, limit: int = 10_000) -> npt.NDArray[np.uint64]:
        """Accounts with a profile, a follow or a state, without erased ones, a page at a time: in the order of their
        ids as signed numbers, behind ``after``.
        """
        ...

    def related(self, user_ids: npt.ArrayLike, relation: Relation, *, inverse: bool = False) -> Ragged:
        """Whom each user follows, blocks, mutes, …: a list of ascending uint64 per user; ``inverse``: by whom."""
        ...

    def has_relation(self, sources: npt.ArrayLike, relation: Relation, target: int) -> npt.NDArray[np.bool_]:
        """Tell for each source whether it has the relation to one target ("does this author block the viewer?")."""
        ...

    def muted_keywords(self, user_ids: npt.ArrayLike) -> list[tuple[str, ...]]:
        """The muted keywords of each user, in alphabetical order."""
        ...

    def signatures(self, user_ids: npt.ArrayLike, *, num_positions: int = 256) -> npt.NDArray[np.uint32]:
        """MinHash signatures of the follow lists, [N, num_positions]; all 2**32 - 1 where nobody is followed."""
        ...

    # Histories --------------------------------------------------------------------------------------------------------

    def histories(self, user_ids: npt.ArrayLike, options: HistoryOptions, *, now_ms: int) -> list[History]:
        """The engagement history of each user as a model's sequence."""
        ...

    # Posts ------------------------------------------------------------------------------------------------------------

    def posts(self, post_ids: npt.ArrayLike) -> Posts:
        """Posts with text, references, media, topics; the columns may be read-only."""
        ...

    def posts_by(self, author_ids: npt.ArrayLike) -> Ragged:
        """The ids of each author's posts that are not deleted, ascending."""
        ...

    def labels(self, post_ids: npt.ArrayLike, *, of_users: bool = False) -> Labels:
        """The labels on posts, or on users."""
        ...

    def counts(self, post_ids: npt.ArrayLike) -> Counts:
        """How often posts were liked, answered, reposted, quoted and seen."""
        ...

    # Seen and served --------------------------------------------------------------------------------------------------

    def seen(self, user_id: int, *, since_ms: int | None = None, limit: int = 5000) -> npt.NDArray[np.uint64]:
        """The posts that a user was shown, the latest first, each once."""
        ...

    def impression_filters(self, user_id: int) -> list[BloomFilter]:
        """The Bloom filters over all impressions of a user, oldest first."""
        ...

    def record_served(self, user_id: int, response: ServedResponse) -> None:
        """Keep a page that was served; the same request again replaces it."""
        ...

    def served(self, user_id: int, *, limit: int = 100) -> list[ServedResponse]:
        """The pages that were served, the latest first, those without a date last."""
        ...

    def truncate_served(self, user_id: int, *, keep: int = 50) -> int:
        """Forget the dates of the dated pages behind the newest ``keep``; return how many (HOME_MIXER §12)."""
        ...

    def record_request(self, user_id: int, time_ms: int, *, keep: int = 10) -> None:
        """Prepend the time of a request; the newest ``keep`` stay."""
        ...

    def request_times(self, user_id: int) -> list[int]:
        """The times of the last requests, newest first."""
        ...

    # Cached candidates ------------------------------------------------------------------------------------------------

    def put_candidates(self, key: str, payload: bytes, *, user_id: int, now_ms: int, ttl_ms: int) -> None:
        """Keep a user's serialised candidates for a while."""
        ...

    def get_candidates(self, key: str, *, now_ms: int) -> bytes | None:
        """What was kept under the key, None if nothing or expired."""
        ...

    def drop_candidates(self, user_ids: Sequence[int]) -> int:
        """Forget all cached candidates of users; return how many."""
        ...

    # Upkeep -----------------------------------------------------------------------------------------------------------

    def trim(self, *, now_ms: int, impressions_ms: int, engagements_ms: int, served_ms: int) -> dict[str, int]:
        """Drop what is older than the given ages, and expired candidates; return rows per table."""
        ...

    def cache_stats(self) -> CacheStats:
        """Hits and misses of the in-process cache."""
        ...

    def sync(self) -> None:
        """Return when everything applied so far survives a power cut."""
        ...

    def ping(self) -> None:
        """Raise StoreError if the backend does not answer."""
        ...

    def close(self) -> None:
        """Release connections; every later call raises StoreError."""
        ...

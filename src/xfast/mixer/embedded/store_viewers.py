"""Viewers out of :mod:`xfast.stores`: graph, keywords, topics, histories, impressions, pages, cached candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients import Clock, SequenceRequest, system_clock
from xfast.mixer.query import BloomFilterEntry, ServedEntry, ServedItem, ServedResponse
from xfast.stores import Aggregation, HistoryOptions, Relation, Store
from xfast.stores import ServedEntry as StoredEntry
from xfast.stores import ServedResponse as StoredResponse

__all__ = ["StoreViewers"]

U64 = npt.NDArray[np.uint64]
#: Older engagements say little about today's interests.
_TOPIC_HISTORY = 200
_DAY_MS = 86_400_000


class StoreViewers:
    """Everything that query hydrators ask about a viewer, one batched read each.

    Parameters
    ----------
    store
        Any :class:`xfast.stores.Store`.
    clock
        Milliseconds since 1970.
    """

    def __init__(self, store: Store, *, clock: Clock = system_clock) -> None:
        self._store = store
        self._clock = clock

    def _related(self, user_id: int, relation: Relation) -> U64:
        values: U64 = self._store.related([user_id], relation).values
        return values

    def blocked_user_ids(self, user_id: int) -> U64:
        """Users whom the viewer blocks."""
        return self._related(user_id, Relation.BLOCK)

    def muted_user_ids(self, user_id: int) -> U64:
        """Users whom the viewer mutes."""
        return self._related(user_id, Relation.MUTE)

    def followed_user_ids(self, user_id: int) -> U64:
        """Users whom the viewer follows."""
        return self._related(user_id, Relation.FOLLOW)

    def subscribed_user_ids(self, user_id: int) -> U64:
        """Users whom the viewer pays for."""
        return self._related(user_id, Relation.SUBSCRIBE)

    def blocked_by(self, user_id: int, author_ids: U64) -> npt.NDArray[np.bool_]:
        """Mask of the authors who block the viewer."""
        authors, inverse = np.unique(author_ids, return_inverse=True)
        return self._store.has_relation(authors, Relation.BLOCK, user_id)[inverse]

    def sequence(self, request: SequenceRequest) -> Any:
        """The viewer's history as :class:`xfast.phoenix.Engagements`; empty for a new viewer."""
        options = HistoryOptions(
            max_length=request.max_length,
            window_ms=request.window_ms,
            aggregation=Aggregation.parse(request.aggregation, Aggregation.DENSE),
            include_realtime=bool(request.include_realtime),
        )
        return self._store.histories([request.user_id], options, now_ms=self._clock())[0].engagements()

    def muted_keywords(self, user_id: int) -> list[str]:
        """Words that the viewer mutes."""
        return list(self._store.muted_keywords([user_id])[0])

    def followed_topics(self, user_id: int) -> list[int]:
        """Topics that the viewer follows."""
        topics: list[int] = self._related(user_id, Relation.TOPIC).view(np.int64).tolist()
        return topics

    def inferred_topics(self, user_id: int) -> list[int]:
        """Topics of recently engaged posts, most frequent first, ties by id."""
        options = HistoryOptions(max_length=_TOPIC_HISTORY, aggregation=Aggregation.DENSE)
        history = self._store.histories([user_id], options, now_ms=self._clock())[0]
        topics = self._store.posts(history.post_ids).topic_ids.values.view(np.int64)
        names, counts = np.unique(topics, return_counts=True)
        ranked: list[int] = names[np.argsort(-counts, kind="stable")].tolist()
        return ranked

    def starter_packs(self, user_id: int) -> None:
        """Nothing: a network without starter packs."""

    def demographics(self, user_id: int) -> dict[str, Any] | None:
        """What the profile declares: country, languages, age; ``None`` without a profile."""
        users = self._store.users([user_id])
        if not users.found[0]:
            return None
        return {
            "country_code": users.country_code[0],
            "languages": tuple(users.languages[0] or ()),
            "age_years": int(users.age_years[0]) or None,
        }

    def impression_filters(self, user_id: int) -> list[BloomFilterEntry]:
        """Bloom filters of what was on the viewer's screen."""
        return [
            BloomFilterEntry(found.words, found.size_cap, found.false_positive_rate)
            for found in self._store.impression_filters(user_id)
        ]

    def impressed_post_ids(self, user_id: int) -> U64:
        """Posts of the last two days' screens."""
        return self._store.seen(user_id, since_ms=self._clock() - 2 * _DAY_MS)

    def minhash(self, user_id: int) -> U64 | None:
        """Signature of the viewer's follows."""
        return self.signatures(np.array([user_id], np.uint64))[0]

    def signatures(self, user_ids: U64) -> list[U64 | None]:
        """Signatures of follow lists; ``None`` for users who follow nobody."""
        table = self._store.signatures(user_ids)
        nobody = (table == np.uint32(2**32 - 1)).all(axis=1)
        return [None if empty else row.astype(np.uint64) for row, empty in zip(table, nobody, strict=True)]

    def read(self, user_id: int, platform: str) -> list[ServedResponse]:
        """Served pages, newest first."""
        return [_from_stored(page) for page in self._store.served(user_id)]

    def append(self, user_id: int, platform: str, response: ServedResponse) -> None:
        """Keep a served page under its request id, or its time where it has none."""
        served = response.served_time_ms
        entries = tuple(_to_stored(entry, item) for entry in response.entries for item in entry.items or (None,))
        page = StoredResponse(response.request_id or served or 0, served, response.request_type, entries)
        self._store.record_served(user_id, page)

    def delete(self, user_id: int, platform: str, served_times_ms: Sequence[int]) -> None:
        """Forget the dates of pages beyond the newest 50 (the store keeps count itself)."""
        self._store.truncate_served(user_id)

    def read_timestamps(self, user_id: int) -> list[int]:
        """Times of earlier requests, newest first."""
        return self._store.request_times(user_id)

    def write_timestamps(self, user_id: int, timestamps: Sequence[int]) -> None:
        """Record the newest of the times; the store keeps the others."""
        if timestamps:
            self._store.record_request(user_id, timestamps[0])

    def get(self, key: str) -> bytes | None:
        """Cached candidates."""
        return self._store.get_candidates(key, now_ms=self._clock())

    def set(self, key: str, payload: bytes, ttl_secs: int) -> None:
        """Keep candidates; the viewer is the key's third part."""
        parts = key.split(":")
        user = int(parts[2]) if len(parts) > 2 and parts[2].isdigit() else 0
        self._store.put_candidates(key, payload, user_id=user, now_ms=self._clock(), ttl_ms=ttl_secs * 1_000)


def _to_stored(entry: ServedEntry, item: ServedItem | None) -> StoredEntry:
    return StoredEntry(
        kind=entry.entity_type.lower(),
        position=entry.position,
        post_id=item.tweet_id if item else 0,
        source_post_id=(item.source_tweet_id or 0) if item else 0,
        author_id=(item.author_id or 0) if item else 0,
        source_author_id=(item.source_author_id or 0) if item else 0,
        in_reply_to_post_id=(item.in_reply_to_tweet_id or 0) if item else 0,
        score=entry.score,
        served_type=entry.served_type or "",
        impression_id=entry.impression_id or "",
        user_ids=entry.user_ids,
    )


def _from_stored(page: StoredResponse) -> ServedResponse:
    entries = []
    for entry in page.entries:
        item = ServedItem(
            entry.post_id,
            entry.source_post_id or None,
            entry.author_id or None,
            entry.source_author_id or None,
            entry.in_reply_to_post_id or None,
        )
        entries.append(
            ServedEntry(
                entry.kind.upper(),
                (item,) if entry.post_id else (),
                entry.position,
                entry.user_ids,
                entry.score,
                entry.served_type or None,
                entry.impression_id or None,
            )
        )
    return ServedResponse(page.served_ms, tuple(entries), page.request_type, page.request_id)

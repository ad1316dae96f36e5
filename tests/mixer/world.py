"""An in-memory world that implements every collaborator protocol of the mixer, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from xfast.ids import as_int64, as_uint64
from xfast.mixer.clients import (
    AdInfo,
    CoreData,
    GizmoduckUser,
    InNetworkPosts,
    PostLabel,
    Prediction,
    Quotes,
    Retrieval,
    UserProfiles,
    ValueModelResponse,
    WhoToFollowUser,
)
from xfast.mixer.enums import VisibilityReason
from xfast.mixer.pipelines import Collaborators
from xfast.mixer.query import BloomFilterEntry, ServedResponse
from xfast.pipeline import NoCache

NOW_MS = 1_778_880_000_000
EPOCH_MS = 1_288_834_974_657


def post_id(age_ms: int, sequence: int = 0) -> int:
    """The id of a post made ``age_ms`` before :data:`NOW_MS`."""
    return ((NOW_MS - age_ms - EPOCH_MS) << 22) | sequence


@dataclass
class FakePost:
    author: int
    text: str = ""
    parent: int = 0
    retweeted: int = 0
    quoted: int = 0
    conversation: int = 0
    video_ms: int | None = None
    media: tuple[Any, ...] | None = None
    subscription: int = 0
    language: str | None = "en"
    topics: tuple[int, ...] = ()
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass
class History:
    size: int

    def __len__(self) -> int:
        return self.size


@dataclass
class FakeWorld:
    """Everything that the mixer asks; tests change the tables, ``fail`` names methods that raise."""

    posts_table: dict[int, FakePost] = field(default_factory=dict)
    follows: dict[int, list[int]] = field(default_factory=dict)
    blocks: dict[int, list[int]] = field(default_factory=dict)
    mutes: dict[int, list[int]] = field(default_factory=dict)
    subscriptions: dict[int, list[int]] = field(default_factory=dict)
    keywords: dict[int, list[str]] = field(default_factory=dict)
    topic_follows: dict[int, list[int]] = field(default_factory=dict)
    impressed: dict[int, list[int]] = field(default_factory=dict)
    filters: dict[int, list[BloomFilterEntry]] = field(default_factory=dict)
    history_sizes: dict[int, int] = field(default_factory=dict)
    profiles: dict[int, GizmoduckUser] = field(default_factory=dict)
    post_labels: dict[int, list[PostLabel]] = field(default_factory=dict)
    hidden: dict[int, VisibilityReason] = field(default_factory=dict)
    retrieved: list[int] = field(default_factory=list)
    recommended: list[int] = field(default_factory=list)
    popular: list[int] = field(default_factory=list)
    predictions: dict[int, dict[int, float]] = field(default_factory=dict)
    default_probability: float | None = 0.1
    ad_list: list[AdInfo] = field(default_factory=list)
    suggestions: list[WhoToFollowUser] = field(default_factory=list)
    prompt_list: list[Any] = field(default_factory=list)
    reply_authors: list[int] = field(default_factory=list)
    served: dict[int, list[ServedResponse]] = field(default_factory=dict)
    times: dict[int, list[int]] = field(default_factory=dict)
    cache: dict[str, bytes] = field(default_factory=dict)
    published: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    fail: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise RuntimeError(f"{name} is down")

    # Graph.
    def blocked_user_ids(self, user_id: int) -> Any:
        self._called("blocked_user_ids")
        return as_uint64(self.blocks.get(user_id, []))

    def muted_user_ids(self, user_id: int) -> Any:
        self._called("muted_user_ids")
        return as_uint64(self.mutes.get(user_id, []))

    async def followed_user_ids(self, user_id: int) -> Any:
        self._called("followed_user_ids")
        return as_uint64(self.follows.get(user_id, []))

    def subscribed_user_ids(self, user_id: int) -> Any:
        return as_uint64(self.subscriptions.get(user_id, []))

    def blocked_by(self, user_id: int, author_ids: Any) -> Any:
        self._called("blocked_by")
        return np.array([user_id in self.blocks.get(author, []) for author in author_ids.tolist()], np.bool_)

    # Viewer.
    def sequence(self, request: Any) -> Any:
        self._called("sequence")
        return History(self.history_sizes.get(request.user_id, 0))

    def muted_keywords(self, user_id: int) -> list[str]:
        return self.keywords.get(user_id, [])

    def followed_topics(self, user_id: int) -> list[int]:
        return self.topic_follows.get(user_id, [])

    def inferred_topics(self, user_id: int) -> list[int]:
        return []

    def starter_packs(self, user_id: int) -> Any:
        return None

    def demographics(self, user_id: int) -> Any:
        return None

    def impression_filters(self, user_id: int) -> list[BloomFilterEntry]:
        return self.filters.get(user_id, [])

    def impressed_post_ids(self, user_id: int) -> Any:
        return as_uint64(self.impressed.get(user_id, []))

    def minhash(self, user_id: int) -> Any:
        return np.arange(256, dtype=np.uint64)

    def signatures(self, user_ids: Any) -> Any:
        return [np.arange(256, dtype=np.uint64) for _ in user_ids]

    def lookup(self, user_id: int) -> Any:
        return None

    def predict_gender(self, user_id: int) -> Any:
        return None

    def locate(self, ip_address: str) -> Any:
        return None

    def read(self, user_id: int, platform: str) -> list[ServedResponse]:
        self._called("read")
        return self.served.get(user_id, [])

    def append(self, user_id: int, platform: str, response: ServedResponse) -> None:
        self._called("append")
        self.served.setdefault(user_id, []).insert(0, response)

    def delete(self, user_id: int, platform: str, served_times_ms: Sequence[int]) -> None:
        gone = set(served_times_ms)
        self.served[user_id] = [r for r in self.served[user_id] if r.served_time_ms not in gone]

    def read_timestamps(self, user_id: int) -> list[int]:
        return self.times.get(user_id, [])

    def write_timestamps(self, user_id: int, timestamps: Sequence[int]) -> None:
        self.times[user_id] = list(timestamps)

    def get(self, key: str) -> bytes | None:
        self._called("cache_get")
        return self.cache.get(key)

    def set(self, key: str, payload: bytes, ttl_secs: int) -> None:
        self._called("cache_set")
        self.cache[key] = payload

    # Posts.
    def core_data(self, post_ids: Any) -> CoreData:
        self._called("core_data")
        rows = [self.posts_table.get(post) for post in post_ids.tolist()]
        originals = [self.posts_table.get(row.retweeted) if row else None for row in rows]

        def ids(name: str) -> Any:
            return as_uint64([getattr(row, name) if row else 0 for row in rows])

        return CoreData(
            found=np.array([row is not None for row in rows], np.bool_),
            author_ids=ids("author"),
            texts=np.array([row.text if row else "" for row in rows], np.object_),
            in_reply_to_ids=ids("parent"),
            retweeted_ids=ids("retweeted"),
            retweeted_user_ids=as_uint64([original.author if original else 0 for original in originals]),
            conversation_ids=ids("conversation"),
        )

    def _rows(self, post_ids: Any) -> list[FakePost]:
        return [self.posts_table.get(post, FakePost(0)) for post in post_ids.tolist()]

    def quotes(self, post_ids: Any) -> Quotes:
        self._called("quotes")
        rows = self._rows(post_ids)
        quoted = [self.posts_table.get(row.quoted, FakePost(0)).author for row in rows]
        return Quotes(as_uint64([row.quoted for row in rows]), as_uint64(quoted))

    def video_durations(self, post_ids: Any) -> Any:
        self._called("video_durations")
        rows = self._rows(post_ids)
        known = np.array([post in self.posts_table for post in post_ids.tolist()], np.bool_)
        has = np.array([row.video_ms is not None for row in rows], np.bool_)
        return np.array([row.video_ms or 0 for row in rows], np.int32), has, known

    def has_media(self, post_ids: Any) -> Any:
        return np.array([row.media is not None for row in self._rows(post_ids)], np.bool_)

    def media(self, post_ids: Any) -> Any:
        out = np.empty(len(post_ids), np.object_)
        for index, row in enumerate(self._rows(post_ids)):
            out[index] = row.media
        return out

    def subscription_authors(self, post_ids: Any) -> Any:
        return as_uint64([row.subscription for row in self._rows(post_ids)])

    def language_codes(self, post_ids: Any) -> Any:
        return np.array([row.language for row in self._rows(post_ids)], np.object_)

    def engagement_counts(self, post_ids: Any) -> Any:
        return np.array([row.counts for row in self._rows(post_ids)], np.int64).reshape(-1, 4)

    def topics(self, post_ids: Any, experiment: int) -> Any:
        return [list(row.topics) or None for row in self._rows(post_ids)]

    def users(self, user_ids: Any) -> Any:
        self._called("users")
        found = [self.profiles.get(user, GizmoduckUser(f"user{user}", 10)) for user in user_ids.tolist()]
        return UserProfiles.from_users(found)

    # Safety.
    def visibility(self, query: Any, post_ids: Sequence[int], level: str) -> Any:
        self._called("visibility")
        return {post: self.hidden[post] for post in post_ids if post in self.hidden}

    def labels(self, post_ids: Any) -> Any:
        self._called("labels")
        return {post: self.post_labels[post] for post in post_ids.tolist() if post in self.post_labels}

    # Sources and models.
    def in_network(self, *, following_ids: Any, exclude_ids: Any, max_results: int, **_: Any) -> InNetworkPosts:
        self._called("in_network")
        followed, excluded = set(following_ids.tolist()), set(exclude_ids.tolist())
        ids = [p for p, row in self.posts_table.items() if row.author in followed and p not in excluded]
        ids = sorted(ids, reverse=True)[:max_results]
        rows = [self.posts_table[post] for post in ids]

        def column(name: str) -> Any:
            return as_int64(as_uint64([getattr(row, name) for row in rows]))

        return InNetworkPosts(
            as_int64(as_uint64(ids)), column("author"), column("parent"), column("retweeted"), column("conversation")
        )

    def recommend(self, query: Any, **_: Any) -> Any:
        self._called("recommend")
        return as_uint64(self.recommended), as_uint64([self.posts_table[p].author for p in self.recommended])

    def retrieve(self, request: Any) -> Retrieval:
        self._called("retrieve")
        ids = self.retrieved[: request.max_results]
        return Retrieval(as_uint64(ids), as_uint64([self.posts_table[p].author for p in ids]))

    def fresh_and_popular(self, query: Any, max_results: int) -> Any:
        self._called("fresh_and_popular")
        ids = self.popular[:max_results]
        return as_uint64(ids), as_uint64([self.posts_table[p].author for p in ids])

    def predict(self, request: Any) -> Prediction:
        self._called("predict")
        ids = np.unique(request.candidates.original_id)
        table = np.full((len(ids), 49), -np.inf)
        for row, post in enumerate(ids.tolist()):
            if self.default_probability is not None:
                table[row, 1] = np.log(self.default_probability)
            for action, probability in self.predictions.get(post, {}).items():
                table[row, action] = np.log(probability)
        keep = np.array([self.default_probability is not None or p in self.predictions for p in ids.tolist()], np.bool_)
        return Prediction(ids[keep], table[keep], np.zeros((int(keep.sum()), 8)))

    def rank(self, request: Any) -> ValueModelResponse:
        self._called("rank")
        scores = request.candidates.column("score")
        return ValueModelResponse(request.candidates.tweet_id[scores.mask()], scores.values[scores.mask()])

    # Feed items.
    def ads(self, query: Any) -> Sequence[AdInfo]:
        self._called("ads")
        return self.ad_list

    def suggest(self, query: Any, excluded_user_ids: Sequence[int]) -> Any:
        return [user for user in self.suggestions if user.user_id not in excluded_user_ids]

    def prompts(self, query: Any, types: Sequence[str], surface: str) -> Any:
        return self.prompt_list

    def repliers(self, query: Any, post: int) -> Any:
        self._called("repliers")
        return self.reply_authors

    def publish(self, topic: str, records: Sequence[Mapping[str, Any]]) -> None:
        self._called("publish")
        self.published.setdefault(topic, []).extend(records)

    def collaborators(self, **changes: Any) -> Collaborators:
        """All protocols answered by this object."""
        gender = type("Gender", (), {"lookup": self.lookup, "predict": self.predict_gender})()
        known = {item.name for item in fields(Collaborators)} - {"egress", "request_cache_sites", "shadow_clusters"}
        parts: dict[str, Any] = dict.fromkeys(known, self)
        parts.update(gender=gender, thunder={"amp": [self]}, make_cache=lambda name: NoCache())
        return Collaborators(**{**parts, **changes})

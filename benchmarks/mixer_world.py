"""Clients that answer whole columns from memory at once, so that a benchmark of the mixer measures the mixer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from xfast.mixer.clients import AdInfo, CoreData, InNetworkPosts, PostLabel, Prediction, Quotes, Retrieval, UserProfiles
from xfast.mixer.pipelines import Collaborators
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import NoCache

NOW_MS = 1_778_880_000_000
EPOCH_MS = 1_288_834_974_657


class History:
    """A history whose length alone matters here."""

    def __len__(self) -> int:
        return 100


class ColumnWorld:
    """``size`` candidates, a third of them in-network."""

    def __init__(self, size: int) -> None:
        rng = np.random.default_rng(0)
        ages = rng.integers(1_000, 100_000_000, size)
        self.ids = np.sort(((NOW_MS - ages - EPOCH_MS) << 22).astype(np.uint64) + np.arange(size, dtype=np.uint64))
        self.authors = rng.integers(1, 700, size).astype(np.uint64)
        self.inside = size // 3
        self.log_probs = np.log(rng.uniform(0.01, 0.3, (size, 49)))
        self.continuous = np.zeros((size, 8))
        self.zeros, self.no, self.yes = np.zeros(size, np.uint64), np.zeros(size, np.bool_), np.ones(size, np.bool_)
        self.durations, self.counts = np.zeros(size, np.int32), np.zeros((size, 4), np.int64)
        self.followers, self.flags = np.full(size, 100, np.int64), np.zeros(size, np.int8)
        self.texts, self.languages, self.names, self.nothing = (
            np.full(size, text, np.object_) for text in ("a post", "en", "someone", None)
        )
        self.adverts = [AdInfo(900 + i, author_id=5, insert_position=1 + 4 * i) for i in range(8)]
        self.reviewed = (PostLabel("GROK_SFA"), PostLabel("PTOS_REVIEWED"))

    def query(self) -> ScoredPostsQuery:
        return ScoredPostsQuery(user_id=1 << 40, request_id=1, prediction_id=2, request_time_ms=NOW_MS)

    def collaborators(self) -> Collaborators:
        parts: dict[str, Any] = dict.fromkeys((item.name for item in fields(Collaborators)), self)
        parts.update(thunder={"amp": [self]}, make_cache=lambda name: NoCache(), egress=None)
        parts.update(request_cache_sites=(), shadow_clusters=())
        return Collaborators(**parts)

    def __getattr__(self, name: str) -> Any:
        # Everything that a viewer may have and this one has not.
        if name.startswith("_"):
            raise AttributeError(name)
        if name.endswith("user_ids") or name == "impressed_post_ids":
            return lambda user_id: np.arange(1, 300, dtype=np.uint64) + (np.uint64(1) << np.uint64(50))
        if name in ("muted_keywords", "followed_topics", "inferred_topics", "impression_filters", "read_timestamps"):
            return lambda user_id: []
        if name in ("read", "suggest", "prompts"):
            return lambda *args: []
        return lambda *args, **kwargs: None

    def ads(self, query: Any) -> Any:
        return self.adverts

    def sequence(self, request: Any) -> Any:
        return History()

    def in_network(self, **_: Any) -> InNetworkPosts:
        part = slice(0, self.inside)
        zeros = np.zeros(self.inside, np.int64)
        return InNetworkPosts(self.ids[part].view(np.int64), self.authors[part].view(np.int64), zeros, zeros, zeros)

    def recommend(self, query: Any, **_: Any) -> Any:
        return self.ids[:0], self.authors[:0]

    def retrieve(self, request: Any) -> Retrieval:
        return Retrieval(self.ids[self.inside :], self.authors[self.inside :])

    def fresh_and_popular(self, query: Any, max_results: int) -> Any:
        return self.ids[:0], self.authors[:0]

    # A client's own work is not the mixer's, so every column is ready before anyone asks for it.

    def blocked_by(self, user_id: int, authors: Any) -> Any:
        return self.no[: len(authors)]

    def core_data(self, ids: Any) -> CoreData:
        count = len(ids)
        zeros = self.zeros[:count]
        return CoreData(self.yes[:count], zeros, self.texts[:count], zeros, zeros, zeros)

    def quotes(self, ids: Any) -> Quotes:
        return Quotes(self.zeros[: len(ids)], self.zeros[: len(ids)])

    def video_durations(self, ids: Any) -> Any:
        return self.durations[: len(ids)], self.no[: len(ids)], self.yes[: len(ids)]

    def has_media(self, ids: Any) -> Any:
        return self.no[: len(ids)]

    def media(self, ids: Any) -> Any:
        return self.nothing[: len(ids)]

    def subscription_authors(self, ids: Any) -> Any:
        return self.zeros[: len(ids)]

    def language_codes(self, ids: Any) -> Any:
        return self.languages[: len(ids)]

    def engagement_counts(self, ids: Any) -> Any:
        return self.counts[: len(ids)]

    def users(self, ids: Any) -> Any:
        count = len(ids)
        flags = self.flags[:count]
        return UserProfiles(self.names[:count], self.followers[:count], flags, flags, {})

    def predict(self, request: Any) -> Any:
        if isinstance(request, int):
            return None
        return Prediction(self.ids, self.log_probs, self.continuous)

    def rank(self, request: Any) -> Any:
        from xfast.mixer.clients import ValueModelResponse

        return ValueModelResponse(request.candidates.tweet_id, request.candidates.column("score").filled(0.0))

    def visibility(self, query: Any, ids: Any, level: str) -> Any:
        return {}

    def labels(self, ids: Any) -> Any:
        return dict.fromkeys(ids.tolist(), self.reviewed)

    def signatures(self, ids: Any) -> Any:
        return [None] * len(ids)

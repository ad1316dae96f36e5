"""Clients that answer whole columns from memory at once, so that a benchmark of the mixer measures the mixer."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from xfast.mixer.clients import CoreData, InNetworkPosts, Prediction, Quotes, Retrieval, UserProfiles
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
        self.probabilities = np.log(rng.uniform(0.01, 0.3, (size, 49)))

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
        if name in ("muted_keywords", "followed_topics", "inferred_topics", "impression_filters"):
            return lambda user_id: []
        return lambda *args, **kwargs: None

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

    def blocked_by(self, user_id: int, authors: Any) -> Any:
        return np.zeros(len(authors), np.bool_)

    def core_data(self, ids: Any) -> CoreData:
        zeros = np.zeros(len(ids), np.uint64)
        texts = np.full(len(ids), "a post", np.object_)
        return CoreData(np.ones(len(ids), np.bool_), zeros, texts, zeros, zeros, zeros)

    def quotes(self, ids: Any) -> Quotes:
        zeros = np.zeros(len(ids), np.uint64)
        return Quotes(zeros, zeros)

    def video_durations(self, ids: Any) -> Any:
        return np.zeros(len(ids), np.int32), np.zeros(len(ids), np.bool_), np.ones(len(ids), np.bool_)

    def has_media(self, ids: Any) -> Any:
        return np.zeros(len(ids), np.bool_)

    def media(self, ids: Any) -> Any:
        return np.full(len(ids), None, np.object_)

    def subscription_authors(self, ids: Any) -> Any:
        return np.zeros(len(ids), np.uint64)

    def language_codes(self, ids: Any) -> Any:
        return np.full(len(ids), "en", np.object_)

    def engagement_counts(self, ids: Any) -> Any:
        return np.zeros((len(ids), 4), np.int64)

    def users(self, ids: Any) -> Any:
        return UserProfiles(
            np.full(len(ids), "someone", np.object_),
            np.full(len(ids), 100, np.int64),
            np.zeros(len(ids), np.int8),
            np.zeros(len(ids), np.int8),
            {},
        )

    def predict(self, request: Any) -> Any:
        if isinstance(request, int):
            return None
        return Prediction(self.ids, self.probabilities, np.zeros((len(self.ids), 8)))

    def rank(self, request: Any) -> Any:
        from xfast.mixer.clients import ValueModelResponse

        return ValueModelResponse(request.candidates.tweet_id, request.candidates.column("score").filled(0.0))

    def visibility(self, query: Any, ids: Any, level: str) -> Any:
        return {}

    def labels(self, ids: Any) -> Any:
        return {}

    def signatures(self, ids: Any) -> Any:
        return [None] * len(ids)

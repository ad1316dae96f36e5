"""The mixer without model, store and I/O: filters, ranking scorer, blenders, pipeline overhead.

Rivals are the obvious versions: one Python object per candidate, sets and comprehensions, ``sorted``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from xfast.mixer import filters as f
from xfast.mixer.ads import PartitionOrganic, SafeGap
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import BrandSafetyVerdict
from xfast.mixer.heads import HEADS
from xfast.mixer.items import ScoredPost
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS
from xfast.mixer.query import ScoredPostsQuery, UserFeatures
from xfast.mixer.scorers import RankingScorer
from xfast.pipeline import Column, Ragged

NOW_MS = 1_778_880_000_000
EPOCH_MS = 1_288_834_974_657


def make_batch(size: int, rng: np.random.Generator) -> CandidateBatch:
    """Candidates of a busy request: 700 authors, a third retweets, a fifth replies, some videos, topics for all."""
    ages = rng.integers(1_000, 180_000_000, size)
    ids = ((NOW_MS - ages - EPOCH_MS) << 22).astype(np.uint64) + np.arange(size, dtype=np.uint64)
    authors = rng.integers(1, 700, size).astype(np.uint64)
    retweets, replies = rng.random(size) < 0.3, rng.random(size) < 0.2
    heads = rng.random((size, len(HEADS))) * 0.2
    lengths = rng.integers(0, 3, size)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    topics = Ragged(rng.integers(1, 100, offsets[-1]), offsets)
    return CandidateBatch(
        {
            "tweet_id": ids,
            "author_id": authors,
            "retweeted_tweet_id": Column(rng.integers(1, 1 << 60, size).astype(np.uint64), retweets),
            "retweeted_user_id": Column(rng.integers(1, 700, size).astype(np.uint64), retweets),
            "in_reply_to_tweet_id": Column(rng.integers(1, 1 << 60, size).astype(np.uint64), replies),
            "quoted_user_id": Column(rng.integers(1, 700, size).astype(np.uint64), rng.random(size) < 0.1),
            "min_video_duration_ms": Column(rng.integers(1_000, 60_000, size).astype(np.int32), rng.random(size) < 0.2),
            "in_network": rng.random(size) < 0.5,
            "author_blocks_viewer": np.zeros(size, np.bool_),
            "quoted_author_blocks_viewer": np.zeros(size, np.bool_),
            "tweet_text": np.array(["a post about nothing much"] * size, np.object_),
            "filtered_topic_ids": topics,
            "phoenix_scores": heads,
            "score": heads[:, 0],
        }
    )


def make_query(batch: CandidateBatch, rng: np.random.Generator) -> ScoredPostsQuery:
    """A viewer with 500 seen ids, 300 blocks and mutes, 1,000 follows, excluded topics."""
    query = ScoredPostsQuery(user_id=(1 << 60) + 1, request_time_ms=NOW_MS, excluded_topic_ids=[5])
    query.seen_ids = rng.choice(batch.tweet_id, 500, replace=False)
    query.served_ids = rng.integers(1, 1 << 60, 100).astype(np.uint64)
    query.impressed_post_ids = rng.integers(1, 1 << 60, 500).astype(np.uint64)
    query.exclude_videos = True
    query.user_features = UserFeatures(
        blocked_user_ids=rng.integers(1, 1 << 40, 300).astype(np.uint64),
        muted_user_ids=rng.integers(1, 1 << 40, 300).astype(np.uint64),
        followed_user_ids=rng.integers(1, 700, 1_000).astype(np.uint64),
    )
    return query


def pre_score_filters() -> list[Any]:
    """The fourteen filters that run before scoring, in order."""
    return [
        f.DropDuplicatesFilter(),
        f.CoreDataHydrationFilter(),
        f.AgeFilter(),
        f.SelfTweetFilter(),
        f.RetweetDeduplicationFilter(),
        f.IneligibleSubscriptionFilter(),
        f.PreviouslySeenPostsFilter(),
        f.PreviouslySeenPostsBackupFilter(),
        f.PreviouslyServedPostsFilter(),
        f.MutedKeywordFilter(),
        f.AuthorSocialgraphFilter(),
        f.VideoFilter(),
        f.TopicIdsFilter(),
        f.NewUserTopicIdsFilter(),
    ]


def run_filters(query: ScoredPostsQuery, batch: CandidateBatch, filters: list[Any]) -> CandidateBatch:
    """What the pipeline does with filters, without its bookkeeping."""
    for component in filters:
        if component.enable(query):
            result = component.filter(query, batch)
            if result is not None:
                batch = batch.take(result.kept)
    return batch


class Filters:
    """14 filters over a batch with 500 seen ids."""

    params = ([1_000, 2_800],)
    param_names = ("candidates",)

    def setup(self, size: int) -> None:
        rng = np.random.default_rng(0)
        self.batch = make_batch(size, rng)
        self.query = make_query(self.batch, rng)
        self.filters = pre_score_filters()
        self.rows = self.batch.to_rows()

    def time_fourteen_filters(self, size: int) -> None:
        # A fresh view each time: gathered columns must not be remembered between rounds.
        run_filters(self.query, CandidateBatch(self.batch._columns), self.filters)

    def time_rival_python_objects(self, size: int) -> None:
        query, seen = self.query, set(self.query.seen_ids.tolist())
        blocked = set(query.user_features.blocked_user_ids.tolist()) | set(query.user_features.muted_user_ids.tolist())
        served, met, originals, kept = set(query.served_ids.tolist()), set(), set(), []
        for row in self.rows:
            original = row.get("retweeted_tweet_id", row["tweet_id"])
            related = {row["tweet_id"], original, row.get("in_reply_to_tweet_id", 0)}
            age = NOW_MS - ((row["tweet_id"] >> 22) + EPOCH_MS)
            if row["tweet_id"] in met or original in originals or not 0 <= age <= 172_800_000:
                continue
            met.add(row["tweet_id"])
            originals.add(original)
            if related & seen or related & served or row["author_id"] in blocked or "min_video_duration_ms" in row:
                continue
            if 5 not in row.get("filtered_topic_ids", ()):
                kept.append(row)


class Ranking:
    """The ranking scorer: 22 heads, diversity, network factor."""

    params = ([1_000, 2_800],)
    param_names = ("candidates",)

    def setup(self, size: int) -> None:
        rng = np.random.default_rng(1)
        self.batch = make_batch(size, rng)
        self.query = make_query(self.batch, rng)
        self.scorer = RankingScorer()
        names = (*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS, *CONTINUOUS_WEIGHTS)
        self.weights = [getattr(self.query.params, name) for name in names]
        self.heads = self.batch.values("phoenix_scores").tolist()
        self.authors = self.batch.author_id.tolist()

    def time_ranking_scorer(self, size: int) -> None:
        self.scorer.score(self.query, self.batch)

    def time_rival_python_lists(self, size: int) -> None:
        scores = [sum(w * p for w, p in zip(self.weights, row, strict=True)) for row in self.heads]
        seen: dict[int, int] = {}
        for row in sorted(range(size), key=lambda row: -scores[row]):
            count = seen.get(self.authors[row], 0)
            scores[row] *= 0.75 * 0.5**count + 0.25
            seen[self.authors[row]] = count + 1


class Blending:
    """Both ads blenders over a page."""

    params = (["SafeGap", "PartitionOrganic"],)
    param_names = ("blender",)

    def setup(self, name: str) -> None:
        verdicts = [BrandSafetyVerdict.SAFE, BrandSafetyVerdict.LOW_RISK, BrandSafetyVerdict.MEDIUM_RISK]
        self.posts = [
            ScoredPost(i + 1, author_id=i, score=1 - i / 100, brand_safety_verdict=verdicts[i % 3], tweet_text="a cat")
            for i in range(50)
        ]
        self.ads = [AdInfo(900 + i, insert_position=1 + 4 * i, keywords=("crypto", "ice cream")) for i in range(12)]
        self.blender = {"SafeGap": SafeGap, "PartitionOrganic": PartitionOrganic}[name](35)

    def time_blend(self, name: str) -> None:
        self.blender.blend(self.posts, self.ads)


class Overhead:
    """1,500 candidates, every component enabled, clients that answer from memory at once; pipeline A, and the whole."""

    def setup(self) -> None:
        from benchmarks.mixer_world import ColumnWorld
        from xfast.mixer.pipelines import MixerSettings, for_you_pipeline, scored_posts_pipeline

        self.world = ColumnWorld(1_500)
        parts, settings = self.world.collaborators(), MixerSettings(production=False)
        self.pipeline = scored_posts_pipeline(parts, settings)
        self.feed = for_you_pipeline(parts, settings, self.pipeline)
        self.query = self.world.query()
        self.loop = asyncio.new_event_loop()
        self.time_request()

    def time_request_awaited(self) -> None:
        """In the caller's loop, as a server runs it; side effects aside."""
        self.loop.run_until_complete(self.pipeline.execute(self.query))

    def time_request(self) -> None:
        self.pipeline.run(self.query)

    def time_request_explained(self) -> None:
        self.pipeline.run(self.query, explain=True)

    def time_for_you_awaited(self) -> None:
        """With pipeline B around it: 35 posts and eight ads become a feed."""
        self.loop.run_until_complete(self.feed.execute(self.query))

    def teardown(self) -> None:
        self.loop.run_until_complete(self.feed.drain())
        self.loop.run_until_complete(self.pipeline.drain())
        self.loop.close()
        self.pipeline.close()

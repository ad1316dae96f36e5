"""Feed: sources, filters, the ranker and the weights of HOME_MIXER §8.2, over one network at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events import EventBatch
from xfast.feed.network import Network
from xfast.mixer import filters
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import ServedType
from xfast.mixer.heads import CONTINUOUS_NUMBERS, HEADS
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery, UserFeatures
from xfast.mixer.scorers import RankingScorer
from xfast.phoenix.artifacts import Corpus, Tower
from xfast.phoenix.features import Candidates
from xfast.phoenix.ranker import Ranker
from xfast.phoenix.retriever import Retriever
from xfast.pipeline import Column, Filter
from xfast.thunder import ManualClock, PostStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Feed", "FeedItem", "FeedPage", "Removed"]

_SURFACE = 1  # home timeline ranking (HOME_MIXER §8.1)
_PER_AUTHOR = 20
_RETRIEVED = 200


@dataclass(frozen=True)
class FeedItem:
    """One post of a page."""

    rank: int
    post_id: int
    author_id: int
    author: str
    text: str
    in_network: bool
    source: str
    score: float
    probabilities: dict[str, float]
    """What the viewer is predicted to do: every discrete head that the model fills, by action name."""
    continuous: dict[str, float]
    """Predicted times in the model's normalised units."""
    terms: dict[str, float] = field(default_factory=dict)
    """With ``explain``: weight times prediction of every head, then the factors for diversity and network."""

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The likeliest actions."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]

    def why(self, count: int = 3) -> list[tuple[str, float]]:
        """The largest weighted terms by magnitude; empty without ``explain``."""
        weighted = [(name.removesuffix(" x weight"), value) for name, value in self.terms.items() if "x weight" in name]
        return sorted((pair for pair in weighted if pair[1] != 0), key=lambda pair: -abs(pair[1]))[:count]


@dataclass(frozen=True)
class Removed:
    """A candidate that did not reach the ranking, and the filter that took it out."""

    post_id: int
    filter: str


@dataclass(frozen=True)
class FeedPage:
    """A ranked page; iterates over its items."""

    user_id: int
    items: list[FeedItem]
    candidates: int
    removed: list[Removed] = field(default_factory=list)
    """With ``explain``: every candidate that a filter removed."""

    def __iter__(self) -> Iterator[FeedItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> FeedItem:
        return self.items[index]


class Feed:
    """The "For You" feed of one network, at one moment of its event stream.

    Parameters
    ----------
    events
        What happened, any order; later events than ``now_ms`` are not looked at.
    ranker, retrieval
        The two models.
    now_ms
        The moment, Unix milliseconds; that of the last event if left out.
    params
        Weights and switches; the preset 2026-08 if left out.

    Raises
    ------
    ParameterError
        There are no events.
    """

    def __init__(
        self,
        events: EventBatch,
        ranker: Tower,
        retrieval: Tower,
        *,
        now_ms: int | None = None,
        params: Params | None = None,
    ) -> None:
        if len(events) == 0:
            raise ParameterError("events is empty, a feed needs at least one event")
        self.params = params or Params()
        self.network = Network.of(events, int(events.time_ms.max()) if now_ms is None else now_ms)
        self.ranker = Ranker(ranker)
        self._store = self._fill_store()
        self._retriever = self._build_corpus(retrieval)
        self._filters: list[Filter[ScoredPostsQuery, CandidateBatch]] = [
            filters.DropDuplicatesFilter(),
            filters.AgeFilter(),
            filters.SelfTweetFilter(),
            filters.RetweetDeduplicationFilter(),
            filters.IneligibleSubscriptionFilter(),
            filters.PreviouslySeenPostsFilter(),
            filters.MutedKeywordFilter(),
            filters.AuthorSocialgraphFilter(),
        ]
        self._scorer = RankingScorer()

    @classmethod
    def demo(cls, seed: int = 0, *, train: bool = False, on_progress: Callable[[str], None] | None = None) -> Feed:
        """The synthetic network and the small models that the package ships for it (``xfast.feed.demo``).

        Parameters
        ----------
        seed
            Of the network. The shipped models know seed 0; for another one they are trained here, in a minute or two.
        train
            Train the models here even for seed 0.
        on_progress
            Gets a line of text now and then.
        """
        from xfast.feed.demo import demo_feed

        return demo_feed(seed, train=train, on_progress=on_progress)

    @classmethod
    def movielens(cls, folder: str | Path, *, on_progress: Callable[[str], None] | None = None) -> Feed:
        """Train on a MovieLens folder (100K or 1M layout) and stand at its last rating (``xfast.feed.demo``)."""
        from xfast.feed.demo import movielens_feed

        return movielens_feed(folder, on_progress=on_progress)

    @property
    def users(self) -> npt.NDArray[np.uint64]:
        """Ids of everyone that the events mention, ascending."""
        return self.network.users

    def for_you(self, user_id: int, limit: int = 35, *, explain: bool = False) -> FeedPage:
        """Rank posts for a viewer.

        Parameters
        ----------
        user_id
            A user of the network.
        limit
            At most so many posts.
        explain
            Add the terms of every score, and the candidates that filters removed.

        Raises
        ------
        ParameterError
            An unknown user, or ``limit`` below 1.
        """
        if limit < 1:
            raise ParameterError(f"limit is {limit}, must be at least 1")
        query = self._query(self.network.check_user(user_id))
        batch = self._candidates(query)
        found = len(batch)
        removed: list[Removed] = []
        for each in self._filters:
            mask = each.keep(query, batch)
            if explain:
                removed += [Removed(int(post), type(each).__name__) for post in batch.tweet_id[~mask]]
            batch = batch.take(np.flatnonzero(mask))
        batch = self._score(query, batch)
        order = np.argsort(-batch.values("score"), kind="stable")[:limit]
        terms = self._scorer.terms(query, batch) if explain else {}
        items = [self._item(rank, int(row), batch, terms) for rank, row in enumerate(order, 1)]
        return FeedPage(user_id, items, found, removed)

    def _query(self, user_id: int) -> ScoredPostsQuery:
        network = self.network
        return ScoredPostsQuery(
            user_id=user_id,
            request_time_ms=network.now_ms,
            seen_ids=network.seen(user_id),
            params=self.params,
            user_features=UserFeatures(
                muted_keywords=network.muted_keywords.get(user_id, []),
                blocked_user_ids=network.blocks.of(user_id),
                muted_user_ids=network.mutes.of(user_id),
                followed_user_ids=network.follows.of(user_id),
                subscribed_user_ids=network.subscriptions.of(user_id),
                follower_count=len(network.follows.to(user_id)),
            ),
        )

    def _candidates(self, query: ScoredPostsQuery) -> CandidateBatch:
        """In-network posts from Thunder, then out-of-network ones from retrieval."""
        followed = query.user_features.followed_user_ids
        near = self._store.in_network(query.user_id, followed, query.seen_ids)["post_id"].astype(np.uint64)
        history = self._engagements(query.user_id, self._retriever.config.history_seq_len)
        hits = self._retriever.search(
            self._retriever.encode(history, keep="newest"), _RETRIEVED, exclude_ids=query.seen_ids
        )
        posts = self.network.posts
        ids = np.concatenate([near, hits.post_ids])
        rows = self.network.row_of(ids)
        served = np.repeat(
            [int(ServedType.FOR_YOU_IN_NETWORK), int(ServedType.FOR_YOU_PHOENIX_RETRIEVAL)], [len(near), len(hits)]
        )
        authors = posts["author_id"][rows]
        return CandidateBatch(
            {
                "tweet_id": ids,
                "author_id": authors,
                "tweet_text": posts["text"][rows],
                "served_type": served.astype(np.uint8),
                "in_network": np.isin(authors, followed) | (authors == np.uint64(query.user_id)),
                "created_at_ms": posts["created_at_ms"][rows],
                "author_blocks_viewer": np.isin(authors, self.network.blocks.to(query.user_id)),
                **{
                    name: _optional(posts[column][rows])
                    for name, column in (
                        ("in_reply_to_tweet_id", "in_reply_to_post_id"),
                        ("retweeted_tweet_id", "source_post_id"),
                        ("retweeted_user_id", "source_user_id"),
                        ("quoted_tweet_id", "quoted_post_id"),
                        ("quoted_user_id", "quoted_user_id"),
                        ("subscription_author_id", "subscription_author_id"),
                        ("min_video_duration_ms", "duration_ms"),
                    )
                },
            },
            length=len(ids),
        )

    def _engagements(self, user_id: int, length: int) -> Any:
        return self.network.engagements(user_id, num_actions=self.ranker.config.num_actions, length=length)

    def _score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> CandidateBatch:
        config = self.ranker.config
        context = self.ranker.encode(self._engagements(query.user_id, config.history_seq_len), keep="newest")
        seconds = np.full(len(batch), query.request_time_ms // 1000)
        scores = self.ranker.score(
            context,
            Candidates(
                batch.original_id,
                batch.original_author_id,
                np.full(len(batch), _SURFACE),
                seconds,
                batch.values("created_at_ms") // 1000,
            ),
        )
        predictions = np.full((len(batch), len(HEADS)), np.nan)
        vocabulary = self.ranker.vocabulary
        columns = vocabulary.heads(config.num_actions)
        for index, head in enumerate(HEADS):
            if head in columns:
                predictions[:, index] = scores.probabilities[:, columns[head]]
            elif head in CONTINUOUS_NUMBERS and CONTINUOUS_NUMBERS[head] < config.num_continuous_actions:
                predictions[:, index] = scores.continuous[:, CONTINUOUS_NUMBERS[head]]
        scored = batch.with_columns({"phoenix_scores": predictions})
        return scored.with_columns(self._scorer.score(query, scored).columns)

    def _item(self, rank: int, row: int, batch: CandidateBatch, terms: Any) -> FeedItem:
        heads = batch.values("phoenix_scores")[row]
        filled = {name: float(value) for name, value in zip(HEADS, heads, strict=True) if not np.isnan(value)}
        author = int(batch.author_id[row])
        return FeedItem(
            rank=rank,
            post_id=int(batch.tweet_id[row]),
            author_id=author,
            author=self.network.names.get(author, str(author)),
            text=str(batch.values("tweet_text")[row]),
            in_network=bool(batch.values("in_network")[row]),
            source=ServedType(int(batch.values("served_type")[row])).name.lower(),
            score=float(batch.values("score")[row]),
            probabilities={name: value for name, value in filled.items() if name not in CONTINUOUS_NUMBERS},
            continuous={name: value for name, value in filled.items() if name in CONTINUOUS_NUMBERS},
            terms={name: float(values[row]) for name, values in terms.items()},
        )

    def _fill_store(self) -> PostStore:
        posts, now = self.network.posts, self.network.now_ms // 1000
        store = PostStore(
            retention_seconds=self.params.max_post_age,
            max_original_per_author=_PER_AUTHOR,
            max_results=self.params.thunder_max_results,
            clock=ManualClock(now),
        )
        shown = ~posts["nullcast"]
        store.insert(
            {
                "post_id": posts["post_id"][shown],
                "author_id": posts["author_id"][shown],
                "created_at": posts["created_at_ms"][shown] // 1000,
                "in_reply_to_post_id": posts["in_reply_to_post_id"][shown],
                "in_reply_to_user_id": posts["in_reply_to_user_id"][shown],
                "is_reply": posts["in_reply_to_post_id"][shown] != 0,
                "is_retweet": posts["source_post_id"][shown] != 0,
                "source_post_id": posts["source_post_id"][shown],
                "source_user_id": posts["source_user_id"][shown],
                "has_video": posts["duration_ms"][shown] > 0,
                "conversation_id": posts["conversation_id"][shown],
            },
            now=now + 1,
        )
        return store

    def _build_corpus(self, tower: Tower) -> Retriever:
        """Vectors of every original post young enough to be shown; reposts lead to their original."""
        posts = self.network.posts
        age = self.network.now_ms - posts["created_at_ms"]
        fresh = (age >= 0) & (age <= self.params.max_post_age * 1000) & (posts["source_post_id"] == 0)
        fresh &= ~posts["nullcast"]
        ids, authors = posts["post_id"][fresh], posts["author_id"][fresh]
        vectors = Retriever(tower).encode_candidates(Candidates(ids, authors))
        return Retriever(tower, Corpus(ids, authors, vectors))


def _optional(values: npt.NDArray[Any]) -> Column:
    """A column in which 0 means unset."""
    return Column(values, values != 0)

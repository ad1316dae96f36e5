"""Popularity and co-engagement from the event stream: the tweet mixer, the fallback and the repliers."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from xfast.actions import NEGATIVE, PROTO
from xfast.events import Delete, Engagement, NetworkEvent, Post
from xfast.mixer.clients import Clock, system_clock
from xfast.mixer.query import ScoredPostsQuery

__all__ = ["Discovery"]

U64 = npt.NDArray[np.uint64]
_HOUR_MS = 3_600_000
#: How fast attention to a post fades.
_HALF_LIFE_MS = 6 * _HOUR_MS
_NEGATIVE_ACTIONS = frozenset(PROTO.column(name) for name in NEGATIVE)
#: A reply or a share says more than a look.
_WEIGHTS = {
    PROTO.column(name): weight
    for name, weight in {
        "favorite": 1.0,
        "reply": 3.0,
        "retweet": 2.0,
        "quote": 3.0,
        "share": 3.0,
        "click": 0.3,
        "dwell": 0.1,
        "vqv": 0.3,
        "photo_expand": 0.2,
        "follow_author": 3.0,
    }.items()
}
_RECENT_PER_USER = 20
_NEIGHBOURS = 50


class Discovery:
    """What is popular now, and what is liked together; bounded, thread-safe, fed by :meth:`apply`.

    Parameters
    ----------
    clock
        Milliseconds since 1970.
    max_posts
        Posts remembered; the oldest fall out.
    per_author
        Posts of one author in one answer.
    """

    def __init__(self, *, clock: Clock = system_clock, max_posts: int = 200_000, per_author: int = 3) -> None:
        self._clock, self._max_posts, self._per_author = clock, max_posts, per_author
        self._lock = threading.Lock()
        self._posts: OrderedDict[int, Post] = OrderedDict()
        self._born: dict[int, int] = {}
        self._heat: dict[int, tuple[float, int]] = {}
        self._together: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self._recent: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=_RECENT_PER_USER))
        self._replies: defaultdict[int, list[int]] = defaultdict(list)

    def apply(self, events: Iterable[NetworkEvent]) -> None:
        """Take in posts, deletions and engagements; other events do not matter here."""
        with self._lock:
            for event in events:
                body = event.body
                if isinstance(body, Post):
                    self._add(body, event.time_ms)
                elif isinstance(body, Delete):
                    self._drop(body.post_id)
                elif isinstance(body, Engagement) and not body.removed:
                    self._engage(body, event.time_ms)

    def _add(self, post: Post, time_ms: int) -> None:
        if post.in_reply_to_post_id:
            self._replies[post.in_reply_to_post_id].append(post.post_id)
        if post.source_post_id or post.nullcast:
            return
        self._posts[post.post_id] = post
        self._born[post.post_id] = post.created_at_ms or time_ms
        while len(self._posts) > self._max_posts:
            self._drop(next(iter(self._posts)))

    def _drop(self, post_id: int) -> None:
        for table in (self._posts, self._born, self._heat, self._together, self._replies):
            table.pop(post_id, None)

    def _engage(self, body: Engagement, time_ms: int) -> None:
        if body.action in _NEGATIVE_ACTIONS or body.post_id not in self._posts:
            return
        weight = _WEIGHTS.get(body.action, 0.0)
        heat, since = self._heat.get(body.post_id, (0.0, time_ms))
        self._heat[body.post_id] = (_cooled(heat, since, time_ms) + weight, max(since, time_ms))
        if weight < 1:
            return
        recent = self._recent[body.user_id]
        for other in recent:
            if other != body.post_id:
                for first, second in ((other, body.post_id), (body.post_id, other)):
                    neighbours = self._together[first]
                    neighbours[second] = neighbours.get(second, 0.0) + weight
                    if len(neighbours) > 2 * _NEIGHBOURS:
                        best = sorted(neighbours.items(), key=lambda pair: -pair[1])[:_NEIGHBOURS]
                        self._together[first] = dict(best)
        if body.post_id not in recent:
            recent.append(body.post_id)

    def _popularity(self, query: ScoredPostsQuery, now: int) -> dict[int, float]:
        """Heat of fresh posts, doubled for the viewer's language and for asked or chosen topics."""
        oldest = now - query.params.max_post_age * 1_000
        topics = {topic % 2**64 for topic in (*query.topic_ids, *query.new_user_topic_ids)}
        scores = {}
        for post_id, post in self._posts.items():
            born = self._born[post_id]
            if not oldest <= born <= now or post.in_reply_to_post_id:
                continue
            heat, since = self._heat.get(post_id, (0.0, now))
            score = _cooled(heat, since, now) + 0.5 ** ((now - born) / _HALF_LIFE_MS)
            score *= 2 if query.language_code and post.language == query.language_code else 1
            scores[post_id] = score * (2 if topics.intersection(post.topic_ids) else 1)
        return scores

    def _ranked(self, scores: dict[int, float], excluded: set[int], max_results: int) -> tuple[U64, U64]:
        per_author: defaultdict[int, int] = defaultdict(int)
        posts, authors = [], []
        for post_id, _ in sorted(scores.items(), key=lambda pair: (-pair[1], -pair[0])):
            author = self._posts[post_id].author_id
            if post_id in excluded or per_author[author] >= self._per_author:
                continue
            per_author[author] += 1
            posts.append(post_id)
            authors.append(author)
            if len(posts) == max_results:
                break
        return np.array(posts, np.uint64), np.array(authors, np.uint64)

    def recommend(
        self, query: ScoredPostsQuery, *, product: str, excluded_ids: U64 | None, max_results: int
    ) -> tuple[U64, U64]:
        """Posts engaged with together with the viewer's recent ones, then popular ones."""
        now = self._clock()
        with self._lock:
            scores = self._popularity(query, now)
            lift = max(scores.values(), default=0.0)
            for liked in self._recent.get(query.user_id, ()):
                for other, weight in self._together.get(liked, {}).items():
                    if other in scores:
                        scores[other] += lift + weight
            excluded = set() if excluded_ids is None else set(excluded_ids.tolist())
            return self._ranked(scores, excluded | set(self._recent.get(query.user_id, ())), max_results)

    def fresh_and_popular(self, query: ScoredPostsQuery, max_results: int) -> tuple[U64, U64]:
        """Popular and fresh posts for a viewer about whom nothing is known."""
        with self._lock:
            return self._ranked(self._popularity(query, self._clock()), set(query.seen_ids.tolist()), max_results)

    def repliers(self, query: ScoredPostsQuery, post_id: int) -> list[int]:
        """Authors of the replies to a post, the most engaged reply first."""
        now = self._clock()
        with self._lock:
            replies = [reply for reply in self._replies.get(post_id, ()) if reply in self._posts]
            heat = {reply: _cooled(*self._heat.get(reply, (0.0, now)), now) for reply in replies}
            ordered = sorted(replies, key=lambda reply: (-heat[reply], -reply))
            return list(dict.fromkeys(self._posts[reply].author_id for reply in ordered))


def _cooled(heat: float, since_ms: int, now_ms: int) -> float:
    return float(heat * 0.5 ** (max(now_ms - since_ms, 0) / _HALF_LIFE_MS))

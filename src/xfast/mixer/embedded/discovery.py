"""Popularity and co-engagement from the event stream: the tweet mixer, the fallback and the repliers.

Posts are rows of columns, so an answer is a few array operations over the posts that are fresh enough.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xfast.actions import NEGATIVE, PROTO
from xfast.errors import ParameterError
from xfast.events import AccountState, EventBatch, NetworkEvent
from xfast.events.batch import rank_within
from xfast.ids import as_uint64
from xfast.mixer.clients import Clock, system_clock
from xfast.mixer.query import ScoredPostsQuery

__all__ = ["Discovery"]

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_HOUR_MS = 3_600_000
#: How fast attention to a post fades.
_HALF_LIFE_MS = 6 * _HOUR_MS
#: A reply or a share says more than a look; negative feedback says nothing here.
_WEIGHTS = np.zeros(len(PROTO))
for _name, _weight in {
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
}.items():
    assert _name not in NEGATIVE
    _WEIGHTS[PROTO.column(_name)] = _weight
_RECENT_PER_USER = 20
_NEIGHBOURS = 50
_HIDDEN_STATES = (AccountState.SUSPENDED, AccountState.DEACTIVATED, AccountState.ERASED)

_COLUMNS = np.dtype(
    [
        ("post_id", np.uint64),
        ("author_id", np.uint64),
        ("born_ms", np.int64),
        ("heat", np.float64),
        ("heat_ms", np.int64),
        ("language", np.int32),
        ("reply", np.bool_),
        ("live", np.bool_),
    ]
)


class Discovery:
    """What is popular now, and what is liked together; bounded, thread-safe, fed by :meth:`apply`.

    Parameters
    ----------
    clock
        Milliseconds since 1970.
    max_posts
        Posts remembered, at least 1; the oldest fall out.
    per_author
        Posts of one author in one answer, at least 1.
    """

    def __init__(self, *, clock: Clock = system_clock, max_posts: int = 200_000, per_author: int = 3) -> None:
        for name, value in (("max_posts", max_posts), ("per_author", per_author)):
            if value < 1:
                raise ParameterError(f"{name} is {value}, must be at least 1")
        self._clock, self._max_posts, self._per_author = clock, max_posts, per_author
        self._lock = threading.Lock()
        self._table = np.zeros(1024, _COLUMNS)
        self._size = 0
        self._row: dict[int, int] = {}
        self._languages: dict[str, int] = {"": 0}
        self._by_topic: defaultdict[int, set[int]] = defaultdict(set)
        self._topics: dict[int, tuple[int, ...]] = {}
        self._together: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self._recent: defaultdict[int, deque[int]] = defaultdict(lambda: deque(maxlen=_RECENT_PER_USER))
        self._replies: defaultdict[int, list[int]] = defaultdict(list)
        self._states: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._row)

    # Feeding ----------------------------------------------------------------------------------------------------------

    def apply(self, events: EventBatch | Iterable[NetworkEvent]) -> None:
        """Take in posts, deletions, engagements and account states; other events do not matter here."""
        batch = events if isinstance(events, EventBatch) else EventBatch.from_events(events)
        with self._lock:
            self._add(batch)
            for post in batch.columns("delete")["post_id"].tolist():
                self._drop(post)
            self._engage(batch)
            accounts = batch.columns("account")
            self._set_states(accounts["user_id"].tolist(), accounts["state"].tolist())

    def set_states(self, states: Mapping[int, int]) -> None:
        """Account states (numbers of :class:`~xfast.events.AccountState`) that are known from elsewhere."""
        with self._lock:
            self._set_states(list(states), list(states.values()))

    def forget(self, user_ids: Sequence[int]) -> int:
        """Drop everything that comes from users: their posts and what they engaged with; return how many posts went."""
        with self._lock:
            table = self._table[: self._size]
            theirs = table["live"] & np.isin(table["author_id"], as_uint64(list(user_ids)))
            posts = table["post_id"][theirs].tolist()
            for post in posts:
                self._drop(post)
            for user in user_ids:
                self._recent.pop(user, None)
            return len(posts)

    def _set_states(self, users: Sequence[int], states: Sequence[int]) -> None:
        for user, state in zip(users, states, strict=True):
            if state in (AccountState.UNKNOWN, AccountState.ACTIVE):
                self._states.pop(user, None)
            else:
                self._states[user] = state

    def _add(self, batch: EventBatch) -> None:
        posts = batch.columns("post")
        if not posts.rows.size:
            return
        ids = posts["post_id"].tolist()
        for parent, reply in zip(posts["in_reply_to_post_id"].tolist(), ids, strict=True):
            if parent:
                self._replies[parent].append(reply)
        wanted = np.flatnonzero((posts["source_post_id"] == 0) & ~posts["nullcast"])
        topics = posts["topic_ids"]
        born = np.where(posts["created_at_ms"] > 0, posts["created_at_ms"], batch.time_ms[posts.rows])
        authors, replies, languages = posts["author_id"], posts["in_reply_to_post_id"], posts["language"]
        for at in wanted.tolist():
            if ids[at] in self._row:
                continue  # a post that is announced twice keeps its first form
            row = self._new_row()
            language = self._languages.setdefault(languages[at], len(self._languages))
            self._table[row] = (ids[at], authors[at], born[at], 0.0, born[at], language, replies[at] != 0, True)
            self._row[ids[at]] = row
            own = tuple(topics.values[topics.offsets[at] : topics.offsets[at + 1]].tolist())
            if own:
                self._topics[ids[at]] = own
                for topic in own:
                    self._by_topic[topic].add(ids[at])

    def _new_row(self) -> int:
        while len(self._row) >= self._max_posts:
            self._drop(next(iter(self._row)))
        if self._size == len(self._table):
            live = np.flatnonzero(self._table["live"])
            table = np.zeros(max(1024, 2 * len(live)), _COLUMNS)
            table[: len(live)] = self._table[live]
            self._table, self._size = table, len(live)
            self._row = {post: row for row, post in enumerate(table["post_id"][: len(live)].tolist())}
        self._size += 1
        return self._size - 1

    def _drop(self, post_id: int) -> None:
        row = self._row.pop(post_id, None)
        if row is not None:
            self._table["live"][row] = False
        for topic in self._topics.pop(post_id, ()):
            self._by_topic[topic].discard(post_id)
        self._together.pop(post_id, None)
        self._replies.pop(post_id, None)

    def _engage(self, batch: EventBatch) -> None:
        done = batch.columns("engagement")
        actions = done["action"]
        weights = np.where((actions >= 0) & (actions < len(PROTO)), _WEIGHTS[np.clip(actions, 0, len(PROTO) - 1)], 0.0)
        rows = np.array([self._row.get(post, -1) for post in done["post_id"].tolist()], np.int64)
        counts = np.flatnonzero((weights > 0) & ~done["removed"] & (rows >= 0))
        if not len(counts):
            return
        times = batch.time_ms[done.rows][counts]
        self._heat(rows[counts], weights[counts], times)
        strong = counts[weights[counts] >= 1]
        posts, users = done["post_id"][strong].tolist(), done["user_id"][strong].tolist()
        for user, post, weight in zip(users, posts, weights[strong].tolist(), strict=True):
            self._relate(user, post, weight)

    def _heat(self, rows: Rows, weights: F64, times: Rows) -> None:
        """Add attention: everything is cooled to the latest time that a row has seen."""
        table = self._table
        touched, inverse = np.unique(rows, return_inverse=True)
        latest = table["heat_ms"][touched]
        np.maximum.at(latest, inverse, times)
        heat = table["heat"][touched] * 0.5 ** ((latest - table["heat_ms"][touched]) / _HALF_LIFE_MS)
        np.add.at(heat, inverse, weights * 0.5 ** ((latest[inverse] - times) / _HALF_LIFE_MS))
        table["heat"][touched], table["heat_ms"][touched] = heat, latest

    def _relate(self, user: int, post: int, weight: float) -> None:
        recent = self._recent[user]
        if post in recent:
            return
        for other in recent:
            for first, second in ((other, post), (post, other)):
                neighbours = self._together[first]
                neighbours[second] = neighbours.get(second, 0.0) + weight
                if len(neighbours) > 2 * _NEIGHBOURS:
                    best = sorted(neighbours.items(), key=lambda pair: -pair[1])[:_NEIGHBOURS]
                    self._together[first] = dict(best)
        recent.append(post)

    # Answering --------------------------------------------------------------------------------------------------------

    def _popular(self, query: ScoredPostsQuery, now: int) -> tuple[Rows, F64]:
        """Rows of fresh posts that may be shown, and their heat, doubled for the viewer's language and topics."""
        table = self._table[: self._size]
        oldest = now - query.params.max_post_age * 1_000
        born = table["born_ms"]
        rows = np.flatnonzero(table["live"] & ~table["reply"] & (born >= oldest) & (born <= now))
        rows = rows[self._visible(table["author_id"][rows], query)]
        cooled = 0.5 ** (np.maximum(now - table["heat_ms"][rows], 0) / _HALF_LIFE_MS)
        scores = table["heat"][rows] * cooled + 0.5 ** ((now - born[rows]) / _HALF_LIFE_MS)
        language = self._languages.get(query.language_code, 0)
        if language:
            scores = np.where(table["language"][rows] == language, 2 * scores, scores)
        topics = {topic % 2**64 for topic in (*query.topic_ids, *query.new_user_topic_ids)}
        chosen = set().union(*(self._by_topic.get(topic, ()) for topic in topics))
        if chosen:
            scores = np.where(np.isin(table["post_id"][rows], as_uint64(list(chosen))), 2 * scores, scores)
        return rows, scores

    def _visible(self, authors: U64, query: ScoredPostsQuery) -> npt.NDArray[np.bool_]:
        hidden = [user for user, state in self._states.items() if state in _HIDDEN_STATES]
        guarded = [user for user, state in self._states.items() if state == AccountState.PROTECTED]
        seen = ~np.isin(authors, as_uint64(hidden))
        if guarded:
            friends = np.isin(authors, query.user_features.followed_user_ids) | (authors == np.uint64(query.user_id))
            seen &= friends | ~np.isin(authors, as_uint64(guarded))
        return seen

    def _ranked(self, rows: Rows, scores: F64, excluded: U64, max_results: int) -> tuple[U64, U64]:
        posts, authors = self._table["post_id"][rows], self._table["author_id"][rows]
        order = np.lexsort((~posts, -scores))
        order = order[~np.isin(posts[order], excluded)]
        order = order[rank_within(authors[order]) < self._per_author][:max_results]
        return posts[order], authors[order]

    def recommend(
        self, query: ScoredPostsQuery, *, product: str, excluded_ids: U64 | None, max_results: int
    ) -> tuple[U64, U64]:
        """Posts engaged with together with the viewer's recent ones, then popular ones."""
        now = self._clock()
        with self._lock:
            rows, scores = self._popular(query, now)
            lift = scores.max(initial=0.0)
            recent = list(self._recent.get(query.user_id, ()))
            bonus: defaultdict[int, float] = defaultdict(float)
            for liked in recent:
                for other, weight in self._together.get(liked, {}).items():
                    bonus[self._row.get(other, -1)] += lift + weight
            if bonus and len(rows):
                places = np.fromiter(bonus, np.int64, len(bonus))
                at = np.minimum(np.searchsorted(rows, places), len(rows) - 1)
                found = rows[at] == places
                np.add.at(scores, at[found], np.fromiter(bonus.values(), np.float64, len(bonus))[found])
            excluded = as_uint64(recent)
            if excluded_ids is not None:
                excluded = np.concatenate([excluded, as_uint64(excluded_ids)])
            return self._ranked(rows, scores, excluded, max_results)

    def fresh_and_popular(self, query: ScoredPostsQuery, max_results: int) -> tuple[U64, U64]:
        """Popular and fresh posts for a viewer about whom nothing is known."""
        with self._lock:
            return self._ranked(*self._popular(query, self._clock()), as_uint64(query.seen_ids), max_results)

    def repliers(self, query: ScoredPostsQuery, post_id: int) -> list[int]:
        """Authors of the replies to a post, the most engaged reply first."""
        now = self._clock()
        with self._lock:
            replies = [reply for reply in self._replies.get(post_id, ()) if reply in self._row]
            rows = np.array([self._row[reply] for reply in replies], np.int64)
            found = self._table[rows]
            found = found[self._visible(found["author_id"], query)]
            heat = found["heat"] * 0.5 ** (np.maximum(now - found["heat_ms"], 0) / _HALF_LIFE_MS)
            order = np.lexsort((~found["post_id"], -heat))
            return list(dict.fromkeys(found["author_id"][order].tolist()))

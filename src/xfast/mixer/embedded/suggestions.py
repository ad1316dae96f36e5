"""Who to follow: friends of friends, weighted by overlap of follows and by what the viewer engaged with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from xfast.actions import NEGATIVE, PROTO
from xfast.events import AccountState
from xfast.mixer.clients import WhoToFollowUser
from xfast.mixer.query import ScoredPostsQuery
from xfast.sketch import jaccard_column
from xfast.stores import Aggregation, HistoryOptions, Relation, Store

__all__ = ["FollowGraphSuggestions"]

#: Friends looked at, and candidates whose overlap is computed.
_FRIENDS = 200
_CANDIDATES = 100
_ANSWER = 20
_NEGATIVE = [PROTO.column(name) for name in NEGATIVE]


class FollowGraphSuggestions:
    """Accounts that the viewer's friends follow, best first; never blocked, muted, suspended or already followed ones.

    The score is ``log(1 + friends who follow) * (1 + MinHash overlap of follow lists) * (1 + log(1 + engaged))``, where
    ``engaged`` are the account's posts in the viewer's history.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def suggest(self, query: ScoredPostsQuery, excluded_user_ids: Sequence[int]) -> list[WhoToFollowUser]:
        """Up to 20 suggestions."""
        features = query.user_features
        friends = features.followed_user_ids
        if not len(friends):
            friends = self._store.related([query.user_id], Relation.FOLLOW).values
        known = {query.user_id, *friends.tolist(), *excluded_user_ids}
        for relation in (Relation.BLOCK, Relation.MUTE):
            known |= set(self._store.related([query.user_id], relation).values.tolist())
        second = self._store.related(friends[:_FRIENDS], Relation.FOLLOW).values
        users, counts = np.unique(second, return_counts=True)
        fresh = ~np.isin(users, np.array(sorted(known), np.uint64))
        users, counts = users[fresh], counts[fresh]
        liking = np.log1p(counts) * (1 + np.log1p(self._engaged(query, users)))
        best = np.argsort(-liking, kind="stable")[:_CANDIDATES]
        users, counts, liking = users[best], counts[best], liking[best]
        if not len(users):
            return []
        active = np.isin(self._store.users(users).state, [AccountState.UNKNOWN, AccountState.ACTIVE])
        users, counts, liking = users[active], counts[active], liking[active]
        signatures = self._store.signatures(np.concatenate([[np.uint64(query.user_id)], users]))
        overlap = jaccard_column(signatures[0], signatures[1:])
        scores = liking * (1 + overlap)
        order = np.argsort(-scores, kind="stable")[:_ANSWER]
        return [
            WhoToFollowUser(int(users[row]), float(scores[row]), f"followed by {int(counts[row])} you follow")
            for row in order.tolist()
        ]

    def _engaged(self, query: ScoredPostsQuery, users: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """How many posts of each user (ascending ids) are in the viewer's history; unpleasant ones do not count."""
        options = HistoryOptions(max_length=query.params.max_seq_length_scoring, aggregation=Aggregation.DENSE)
        (history,) = self._store.histories([query.user_id], options, now_ms=query.request_time_ms)
        pleasant = ~history.actions[:, _NEGATIVE].any(axis=1)
        authors, posts = np.unique(history.author_ids[pleasant], return_counts=True)
        counts = np.zeros(len(users), np.int64)
        _, at, found = np.intersect1d(users, authors, assume_unique=True, return_indices=True)
        counts[at] = posts[found]
        return counts

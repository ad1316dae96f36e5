"""Who to follow: friends of friends, weighted by how many friends follow them and by overlap of follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xfast.events import AccountState
from xfast.mixer.clients import WhoToFollowUser
from xfast.mixer.query import ScoredPostsQuery
from xfast.sketch import jaccard_column
from xfast.stores import Relation, Store

__all__ = ["FollowGraphSuggestions"]

#: Friends looked at, and candidates whose overlap is computed.
_FRIENDS = 200
_CANDIDATES = 100
_ANSWER = 20


class FollowGraphSuggestions:
    """Accounts that the viewer's friends follow, best first; never blocked, muted, suspended or already followed ones.

    The score is ``log(1 + friends who follow) * (1 + MinHash overlap of follow lists)``.
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
        best = np.argsort(-counts, kind="stable")[:_CANDIDATES]
        users, counts = users[best], counts[best]
        if not len(users):
            return []
        active = np.isin(self._store.users(users).state, [AccountState.UNKNOWN, AccountState.ACTIVE])
        users, counts = users[active], counts[active]
        signatures = self._store.signatures(np.concatenate([[np.uint64(query.user_id)], users]))
        overlap = jaccard_column(signatures[0], signatures[1:])
        scores = np.log1p(counts) * (1 + overlap)
        order = np.argsort(-scores, kind="stable")[:_ANSWER]
        return [
            WhoToFollowUser(int(users[row]), float(scores[row]), f"followed by {int(counts[row])} you follow")
            for row in order.tolist()
        ]

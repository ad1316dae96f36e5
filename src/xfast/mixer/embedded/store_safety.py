"""Labels and visibility out of :mod:`xfast.stores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xfast.events import AccountState
from xfast.mixer.clients import PostLabel
from xfast.mixer.enums import VisibilityReason
from xfast.mixer.hydrators.vf import RECOMMENDATIONS_LEVEL
from xfast.mixer.query import ScoredPostsQuery
from xfast.stores import Store

__all__ = ["LabelVisibility", "StoreLabels"]

U64 = npt.NDArray[np.uint64]

#: Labels that hide a post from everyone, and those that only keep it from being recommended to strangers.
HIDING = frozenset({"PDNA", "EGREGIOUS_NSFW", "SPAM", "ABUSIVE"})
NOT_RECOMMENDED = frozenset({"NSFW_HIGH_PRECISION", "GORE_AND_VIOLENCE_HIGH_PRECISION", "DO_NOT_AMPLIFY"})

_STATES = {
    int(AccountState.SUSPENDED): "AuthorIsSuspended",
    int(AccountState.DEACTIVATED): "AuthorIsDeactivated",
    int(AccountState.ERASED): "AuthorIsErased",
}


class StoreLabels:
    """Safety labels of posts, as brand safety reads them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def labels(self, post_ids: U64) -> Mapping[int, list[PostLabel]]:
        """Labels per post; posts without any are absent."""
        found = self._store.labels(post_ids)
        bounds = found.offsets.tolist()
        rows: dict[int, list[PostLabel]] = {}
        for post, start, stop in zip(post_ids.tolist(), bounds, bounds[1:], strict=False):
            if start < stop:
                rows[post] = [
                    PostLabel(found.label[at], found.source[at] or None, int(found.rule_id[at]) or None)
                    for at in range(start, stop)
                ]
        return rows


class LabelVisibility:
    """Hides what must not be seen: deleted posts, posts of suspended or deactivated authors, of protected authors from
    those who do not follow them, and posts with hiding labels.

    Parameters
    ----------
    hiding, not_recommended
        Label names that hide everywhere, and only from recommendations.
    """

    def __init__(
        self, store: Store, *, hiding: frozenset[str] = HIDING, not_recommended: frozenset[str] = NOT_RECOMMENDED
    ) -> None:
        self._store = store
        self._hiding = hiding
        self._not_recommended = not_recommended

    def visibility(
        self, query: ScoredPostsQuery, post_ids: Sequence[int], level: str
    ) -> dict[int, VisibilityReason | Exception | None]:
        """Reasons of the posts that have one."""
        ids = np.array(post_ids, np.uint64)
        posts = self._store.posts(ids)
        authors, inverse = np.unique(posts.author_id, return_inverse=True)
        states = self._store.users(authors).state[inverse]
        followed = np.isin(posts.author_id, query.user_features.followed_user_ids)
        own = posts.author_id == np.uint64(query.user_id)
        hiding = self._hiding | (self._not_recommended if level == RECOMMENDATIONS_LEVEL else frozenset())
        names = self._store.labels(ids).names()
        reasons: dict[int, VisibilityReason | Exception | None] = {}
        for row, post in enumerate(ids.tolist()):
            state = int(states[row])
            bad = sorted(hiding.intersection(names[row]))
            if posts.deleted[row]:
                reasons[post] = VisibilityReason("PostIsDeleted")
            elif posts.found[row] and state in _STATES:
                reasons[post] = VisibilityReason(_STATES[state])
            elif state == AccountState.PROTECTED and not followed[row] and not own[row]:
                reasons[post] = VisibilityReason("AuthorIsProtected")
            elif bad:
                reasons[post] = VisibilityReason("SafetyResult", "Drop", bad[0])
        return reasons

"""FollowingRepliedUsers: people whom the viewer follows and who replied, for the facepile under a post."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Hydration, Hydrator

__all__ = ["FollowingRepliedUsersHydrator", "replied_users"]

#: Only viewers with that many followers get a facepile.
_MIN_VIEWER_FOLLOWERS = 1_000


def replied_users(
    batch: CandidateBatch,
    authors: npt.NDArray[np.uint64],
    parents: npt.NDArray[np.uint64],
    *,
    min_users: int,
    max_posts: int,
) -> list[list[int]]:
    """Per post the distinct, sorted authors of in-network replies to it, without its own author.

    Only root posts with at least ``min_users`` such authors get them, and at most ``max_posts`` posts in candidate
    order; a post that qualifies with nobody still takes one of those places. Negative limits are 0.
    """
    repliers: dict[int, set[int]] = {}
    for author, parent in zip(authors.tolist(), parents.tolist(), strict=True):
        repliers.setdefault(parent, set()).add(author)
    is_reply = batch.is_set("in_reply_to_tweet_id")
    places = max(max_posts, 0)
    result: list[list[int]] = []
    for row, (tweet_id, author) in enumerate(zip(batch.tweet_id.tolist(), batch.author_id.tolist(), strict=True)):
        users = repliers.get(tweet_id, set()) - {author}
        if is_reply[row] or places == 0 or len(users) < max(min_users, 0):
            result.append([])
            continue
        places -= 1
        result.append(sorted(users))
    return result


class FollowingRepliedUsersHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``following_replied_user_ids`` from the replies that the Thunder source saw."""

    def enable(self, query: ScoredPostsQuery) -> bool:
        count = query.follower_count
        big = count is not None and count >= _MIN_VIEWER_FOLLOWERS
        return big and query.params.enable_following_replied_users_facepile

    def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        authors, parents = query.in_network_replies.get()
        users = replied_users(
            batch,
            authors,
            parents,
            min_users=query.params.following_replied_users_facepile_min_users,
            max_posts=query.params.following_replied_users_facepile_max_posts,
        )
        return Hydration({"following_replied_user_ids": users})

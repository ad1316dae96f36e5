"""Sequences: what every user saw and did, as columns over small integers, ready to be cut into training windows.

Ids become positions in three sorted lists (users, posts, authors); their table rows are computed once per model. A row
is one interaction (:func:`xfast.world.interactions`): it serves as a *token* of later histories if the user acted, and
as an *example* to predict either way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.events import EventBatch
from xfast.ids import snowflake_time_ms
from xfast.world import Interactions, interactions

__all__ = ["Sequences"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Interactions grouped by user, oldest first, ties in the order of the events.

    Attributes
    ----------
    users, posts, authors
        Ascending uint64 ids; the columns below hold positions in these.
    post_author
        [posts] i32: who wrote a post.
    created_s
        [posts] i64: when, Unix seconds (0: unknown).
    offsets
        [users + 1] i64: user ``u`` has rows ``offsets[u] : offsets[u + 1]``.
    user, post
        [R] i32.
    actions
        [R] u64 bit mask of what was done; 0 means shown only.
    time_s
        [R] i64 Unix seconds.
    order
        [R] i64: place of the row in the time order of all users.
    dwell_s, click_dwell_s
        [R] f32 seconds; 0 = not known.
    surface
        [R] i32 product surface.
    seen
        [R] i32: how many of the user's acted rows precede the row's *request*. Posts of one request are scored
        together, so none of them may see what was done with another.
    """

    users: U64
    posts: U64
    authors: U64
    post_author: I32
    created_s: I64
    offsets: I64
    user: I32
    post: I32
    actions: U64
    time_s: I64
    order: I64
    dwell_s: npt.NDArray[np.float32]
    click_dwell_s: npt.NDArray[np.float32]
    surface: I32
    seen: I32

    def __len__(self) -> int:
        return int(self.user.size)

    @classmethod
    def from_events(cls, events: EventBatch) -> Sequences:
        """Gather the interactions of a batch of network events (any order).

        Raises
        ------
        DataError
            There is neither an engagement nor an impression.
        """
        events = events.sorted()
        sequences = cls.from_interactions(interactions(events))
        posts = events.columns("post")
        known = np.isin(posts["post_id"], sequences.posts)
        where = np.searchsorted(sequences.posts, posts["post_id"][known])
        created = posts["created_at_ms"][known]
        stamped = np.where(created > 0, created, events.time_ms[posts.rows[known]]) // 1000
        sequences.created_s[where] = stamped
        return sequences

    @classmethod
    def from_interactions(cls, rows: Interactions) -> Sequences:
        """Group interactions; the creation time of a post is read from its snowflake id.

        Raises
        ------
        DataError
            There is no interaction.
        """
        if not len(rows):
            raise DataError("the events hold neither an impression nor an engagement: nothing to train on")
        users, user = np.unique(rows.user_id, return_inverse=True)
        posts, post = np.unique(rows.post_id, return_inverse=True)
        authors, author = np.unique(rows.author_id, return_inverse=True)
        post_author = np.zeros(len(posts), np.int32)
        np.maximum.at(post_author, post, author.astype(np.int32))
        order = np.lexsort((np.arange(len(rows)), user))
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=len(users)), out=offsets[1:])
        owner: I32 = user[order].astype(np.int32)
        request = rows.request_id[order]
        actions = rows.actions[order]
        return cls(
            users=users,
            posts=posts,
            authors=authors,
            post_author=post_author,
            created_s=np.asarray(snowflake_time_ms(posts)) // 1000,
            offsets=offsets,
            user=owner,
            post=post[order].astype(np.int32),
            actions=actions,
            time_s=rows.time_ms[order] // 1000,
            order=order.astype(np.int64),
            dwell_s=(rows.dwell_ms[order] / 1000).astype(np.float32),
            click_dwell_s=(rows.click_dwell_ms[order] / 1000).astype(np.float32),
            surface=rows.surface[order],
            seen=_seen(owner, request, actions != 0, offsets),
        )

    def keep(self, mask: npt.NDArray[np.bool_]) -> Sequences:
        """The rows of a mask [R]; users, posts and authors stay, so that positions keep their meaning.

        A mask must keep, of every user, the rows up to some point (what follows may not be seen by what precedes).

        Raises
        ------
        DataError
            A kept row comes after a dropped one of the same user.
        """
        if bool(np.any(mask[1:] & ~mask[:-1] & (self.user[1:] == self.user[:-1]))):
            raise DataError("the mask keeps a row that comes after a dropped row of the same user")
        columns = ("user", "post", "actions", "time_s", "order", "dwell_s", "click_dwell_s", "surface", "seen")
        picked: dict[str, Any] = {name: getattr(self, name)[mask] for name in columns}
        offsets = np.zeros_like(self.offsets)
        np.cumsum(np.bincount(picked["user"], minlength=len(self.users)), out=offsets[1:])
        return replace(self, offsets=offsets, **picked)

    def without_last(self, count: int) -> Sequences:
        """Drop the last ``count`` rows of every user."""
        ends = self.offsets[1:][self.user]
        return self.keep(np.arange(len(self)) < ends - count)

    def before(self, place: int) -> Sequences:
        """Rows whose place in the time order of all users is below ``place``."""
        return self.keep(self.order < place)

    def action_matrix(self, rows: Any, num_actions: int) -> npt.NDArray[np.float32]:
        """Actions of some rows as multi-hot vectors [..., num_actions] f32."""
        bits = np.arange(num_actions, dtype=np.uint64)
        matrix: npt.NDArray[np.float32] = ((self.actions[rows][..., None] >> bits) & np.uint64(1)).astype(np.float32)
        return matrix

    def fingerprint(self) -> int:
        """A number that changes with the data: a checkpoint refuses to go on with other data."""
        total = len(self)
        for column in (self.users[self.user], self.posts[self.post], self.actions, self.time_s.astype(np.uint64)):
            weights = np.arange(1, len(column) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            total = (total * 31 + int(np.sum(column * weights, dtype=np.uint64))) % 2**64
        return total


def _seen(user: I32, request: U64, acted: npt.NDArray[np.bool_], offsets: I64) -> I32:
    """Acted rows of the same user before the first row of the same request; request 0 stands for the row alone."""
    before: I64 = np.cumsum(acted) - acted
    before = before - before[np.minimum(offsets[:-1], len(user) - 1)][user]
    rows = np.arange(len(user))
    key = np.lexsort((rows, request, user))
    new = np.ones(len(user), bool)
    if len(user) > 1:
        same = (user[key][1:] == user[key][:-1]) & (request[key][1:] == request[key][:-1]) & (request[key][1:] != 0)
        new[1:] = ~same
    first = key[np.maximum.accumulate(np.where(new, rows, 0))]
    seen = np.empty(len(user), np.int32)
    seen[key] = before[first]
    return seen

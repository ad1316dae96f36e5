"""Truth: the hidden utility behind a synthetic network, and the exact probability of every action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.actions import DISCRETE_HEADS
from xfast.errors import ParameterError
from xfast.events import MediaKind
from xfast.ids import as_uint64
from xfast.world.people import Graph, Users
from xfast.world.writing import Form, Posts

HEADS = DISCRETE_HEADS
"""The columns of :meth:`Truth.probabilities`."""

_CHUNK = 1 << 16  # rows at a time, so that a [rows, 20] block stays in the cache


class _Head(NamedTuple):
    """An action: its probability at utility 0 for somebody who stopped at the post, and the slope of its logit."""

    base: float
    slope: float
    needs: str = ""


_HEADS = {
    "favorite": _Head(0.09, 1.1),
    "reply": _Head(0.010, 0.8),
    "retweet": _Head(0.018, 1.1),
    "photo_expand": _Head(0.22, 0.6, "photo"),
    "click": _Head(0.16, 0.7),
    "profile_click": _Head(0.035, 0.6),
    "vqv": _Head(0.42, 0.8, "video"),
    "share": _Head(0.007, 0.9),
    "share_via_dm": _Head(0.005, 0.9),
    "share_via_copy_link": _Head(0.003, 0.8),
    "quote": _Head(0.003, 0.9),
    "quoted_click": _Head(0.18, 0.6, "quote"),
    "quoted_vqv": _Head(0.34, 0.7, "quoted_video"),
    "follow_author": _Head(0.010, 0.9, "stranger"),
}
_NEGATIVE = {
    "not_interested": _Head(0.006, -0.9),
    "block_author": _Head(0.0003, -1.0),
    "mute_author": _Head(0.0005, -1.0),
    "report": _Head(0.0002, -1.0),
}
_DWELL = _Head(0.42, 1.0)
_NOT_DWELLED = 0.8  # of those who do not stop, how many are recorded as having passed by


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What no event shows: how much a user cares for a post, and the probability of each action.

    Row numbers are those of the world's ``users`` and ``posts``; :meth:`rows` finds them from ids.
    """

    users: Users
    posts: Posts
    graph: Graph
    habits: npt.NDArray[np.float32]
    media_taste: npt.NDArray[np.float32]

    def rows(
        self, user_ids: npt.ArrayLike, post_ids: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the user and post rows of ids.

        Raises
        ------
        ParameterError
            An id is not of this world.
        """
        return _find(self.users.user_id, user_ids, "user"), _find(self.posts.post_id, post_ids, "post")

    def utility(
        self, user: npt.NDArray[np.int64], post: npt.NDArray[np.int64], time_ms: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return how much users care for posts at a time, [n]: about 0 on average over what is served, spread about 1.

        A sum of: interest in the topic, taste for the author's style, the post's craft, whether they follow the author,
        whether they read its language, their fondness of its medium, its form and its age.
        """
        users, posts = self.users, self.posts
        content = posts.content[post]
        writer = posts.author[content]
        tongue = posts.language[content]
        value = 0.7 * users.interest[user, posts.topic[content]] - 0.8
        value += 0.22 * np.einsum("ij,ij->i", users.taste[user], users.style[writer])
        value += posts.craft[content]
        known = self.graph.follows(user, posts.author[post]) | (users.user_id[user] == users.user_id[writer])
        value += 0.7 * known
        value -= 2.2 * ~users.reads[user, tongue] + 0.3 * (users.language[user] != tongue)
        value += 0.4 * self.media_taste[user, posts.medium[content]]
        value -= np.array([0.0, 0.5, 0.0, 0.1], np.float32)[posts.form[post]]
        hours = np.maximum(time_ms - posts.created_ms[content], 0) / 3_600_000
        value -= 0.3 * np.log1p(hours / 6)
        return value.astype(np.float32)

    def given_dwell(
        self, user: npt.NDArray[np.int64], post: npt.NDArray[np.int64], utility: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the probability of each action for somebody who stops at the post, [n, 20] in the order of ``HEADS``.

        The column ``dwell`` holds the probability of stopping itself, ``not_dwelled`` that of passing by; explicit
        negative feedback does not depend on stopping.
        """
        posts = self.posts
        content = posts.content[post]
        quoted = np.maximum(posts.parent[content], 0)
        quotes = posts.form[content] == Form.QUOTE
        gates = {
            "photo": posts.medium[content] == MediaKind.PHOTO,
            "video": posts.medium[content] == MediaKind.VIDEO,
            "quote": quotes,
            "quoted_video": quotes & (posts.medium[quoted] == MediaKind.VIDEO),
        }
        result = np.zeros((user.size, len(HEADS)), np.float32)
        habits = self.habits[user]
        for name, head in (*_HEADS.items(), *_NEGATIVE.items()):
            column = HEADS.index(name)
            if head.needs in gates:
                some = np.flatnonzero(gates[head.needs])
            elif head.needs == "stranger":
                some = np.flatnonzero(~self.graph.follows(user, posts.author[content]))
            else:
                some = np.arange(user.size)
            result[some, column] = _chance(head, utility[some], habits[some, column])
        stops = _chance(_DWELL, utility, habits[:, HEADS.index("dwell")])
        result[:, HEADS.index("dwell")] = stops
        result[:, HEADS.index("not_dwelled")] = (1 - stops) * _NOT_DWELLED
        return result

    def probabilities(
        self, user: npt.ArrayLike, post: npt.ArrayLike, time_ms: npt.ArrayLike
    ) -> npt.NDArray[np.float32]:
        """Return the probability of every action when a user is shown a post, [n, 20] in the order of ``HEADS``.

        Parameters
        ----------
        user, post
            [n] row numbers (:meth:`rows` makes them from ids).
        time_ms
            [n] when it is shown, or one time for all.
        """
        who, what = np.asarray(user, np.int64), np.asarray(post, np.int64)
        when = np.broadcast_to(np.asarray(time_ms, np.int64), who.shape)
        result = np.empty((who.size, len(HEADS)), np.float32)
        for start in range(0, who.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            utility = self.utility(who[part], what[part], when[part])
            result[part] = self.given_dwell(who[part], what[part], utility)
            result[part, [HEADS.index(name) for name in _HEADS]] *= result[part, [HEADS.index("dwell")]]
        return result

    def dwell_seconds(
        self, user: npt.NDArray[np.int64], post: npt.NDArray[np.int64], utility: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the median seconds on the post, [n], of somebody who stops; liked posts and videos take longer."""
        content = self.posts.content[post]
        video = np.minimum(self.posts.duration_ms[content] / 1000, 60.0)
        seconds: npt.NDArray[np.float32] = np.exp(1.2 + 0.35 * utility) + 0.35 * video.astype(np.float32)
        return seconds


def draw_truth(users: Users, posts: Posts, graph: Graph, rng: np.random.Generator) -> Truth:
    """Draw the habits (who likes, who lurks) and the media tastes of the users."""
    lavish = rng.normal(0.0, 0.4, (len(users), 1))
    habits = (lavish + rng.normal(0.0, 0.35, (len(users), len(HEADS)))).astype(np.float32)
    return Truth(users, posts, graph, habits, rng.normal(0.0, 1.0, (len(users), 4)).astype(np.float32))


def _chance(head: _Head, utility: npt.NDArray[np.float32], habit: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    logit = np.float32(np.log(head.base / (1 - head.base))) + np.float32(head.slope) * utility + habit
    chance: npt.NDArray[np.float32] = 1 / (1 + np.exp(-logit))
    return chance


def _find(known: npt.NDArray[np.uint64], ids: npt.ArrayLike, what: str) -> npt.NDArray[np.int64]:
    wanted = as_uint64(ids, name=f"{what}_ids")
    place = np.minimum(np.searchsorted(known, wanted), known.size - 1)
    missing = known[place] != wanted
    if bool(missing.any()):
        raise ParameterError(f"{what}_ids holds {int(wanted[missing][0])}, which is no {what} of this world")
    return place.astype(np.int64)

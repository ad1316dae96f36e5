"""Who is shown what, and what they do: pages served by a noisy policy, outcomes drawn from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xfast.actions import vocabulary
from xfast.events.batch import rank_within
from xfast.ids import snowflake
from xfast.world.config import SyntheticConfig
from xfast.world.people import Users
from xfast.world.truth import HEADS, Truth
from xfast.world.writing import DAY_MS, Posts, daily_times

PROTO_NUMBERS = np.array([vocabulary("proto").column(name) for name in HEADS])
"""The ``proto`` number of each head."""

_POSITIVE = [
    column
    for column, name in enumerate(HEADS)
    if name not in ("dwell", "not_dwelled", "not_interested", "block_author", "mute_author", "report")
]
_CHUNK = 1 << 16
_SURFACE = 1  # home timeline ranking (HOME_MIXER §8.1)


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """The impressions in time order and what came of each. N impressions.

    ``user`` and ``post`` are row numbers; ``outcome`` [N, 20] bool in the order of :data:`xfast.world.truth.HEADS`;
    ``explored`` marks those that the policy picked blindly (unbiased by what users like).
    """

    user: npt.NDArray[np.int64]
    post: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    request_id: npt.NDArray[np.uint64]
    position: npt.NDArray[np.int32]
    explored: npt.NDArray[np.bool_]
    outcome: npt.NDArray[np.bool_]
    dwell_ms: npt.NDArray[np.int32]
    click_dwell_ms: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return int(self.user.size)

    @property
    def surface(self) -> int:
        """The product surface of all impressions."""
        return _SURFACE

    def actions(self) -> npt.NDArray[np.uint64]:
        """Return what was done as bit masks of ``proto`` numbers, [N] uint64."""
        bits = np.uint64(1) << PROTO_NUMBERS.astype(np.uint64)
        masks: npt.NDArray[np.uint64] = (self.outcome * bits).sum(axis=1, dtype=np.uint64)
        return masks


def serve(
    config: SyntheticConfig, truth: Truth, muted_topics: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Views:
    """Serve pages to users over the simulated days and draw what they do.

    Every place on a page is filled from six proposals: two recent posts of followees, two of languages they read, one
    of a topic they like in their own, one from anywhere. The policy takes the one with the highest noisy
    utility, or any (``exploration``). Nobody is shown a post twice, their own posts, posts before they exist or after
    they are deleted, other people's protected or exclusive posts, topics they mute, or anyone they blocked or muted.
    """
    users, posts = truth.users, truth.posts
    user, time_ms, request_id, position = _pages(config, users, rng)
    proposals = _propose(user, time_ms, truth, rng)
    allowed = _allowed(user[:, None], proposals, time_ms[:, None], truth, muted_topics)
    post, explored = _choose(config, user, time_ms, proposals, allowed, truth, rng)

    keep = np.flatnonzero(allowed.any(axis=1))
    keys = user[keep] * len(posts) + posts.content[post[keep]]
    keep = keep[np.sort(np.unique(keys, return_index=True)[1])]  # the first time each is shown
    if keep.size > config.impressions:
        keep = np.sort(rng.choice(keep, config.impressions, replace=False))
    user, post, time_ms, explored = user[keep], post[keep], time_ms[keep], explored[keep]
    request_id, position = request_id[keep], position[keep]

    outcome, dwell, click_dwell = _outcomes(user, post, time_ms, truth, rng)
    late = _after_falling_out(user, posts.author[posts.content[post]], time_ms, outcome, len(users))
    fine = np.flatnonzero(~late)
    # Pages are numbered from 0 without holes, in the order in which their posts were served.
    request_id, position = request_id[fine], position[fine]
    order = np.lexsort((position, request_id))
    position[order] = rank_within(request_id[order])
    return Views(
        user=user[fine],
        post=post[fine],
        time_ms=time_ms[fine],
        request_id=request_id,
        position=position.astype(np.int32),
        explored=explored[fine],
        outcome=outcome[fine],
        dwell_ms=dwell[fine],
        click_dwell_ms=click_dwell[fine],
    )


def _pages(
    config: SyntheticConfig, users: Users, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Draw requests, twice as many places as impressions are wanted, in time order; one row per place."""
    requests = -(-config.impressions * 2 // config.page_size)
    user = rng.choice(len(users), requests, p=users.reading)
    end_ms = config.start_ms + int(config.days * DAY_MS)
    begin = daily_times(config, users.language[user], config.start_ms, end_ms, rng)
    order = np.argsort(begin, kind="stable")
    user, begin = user[order], begin[order]
    number = snowflake(begin, rank_within(begin))
    place = np.tile(np.arange(config.page_size), requests)
    step = np.cumsum(rng.integers(700, 4_500, (requests, config.page_size)), axis=1).ravel()
    time_ms = np.repeat(begin, config.page_size) + step
    order = np.argsort(time_ms, kind="stable")
    spread = np.repeat(np.arange(requests), config.page_size)[order]
    return user[spread], time_ms[order], number[spread], place[order]


class _Recent:
    """Posts by group and time, to draw a recent one of a group."""

    def __init__(self, group: npt.NDArray[np.int64], posts: Posts) -> None:
        self.order = np.argsort(group, kind="stable")  # posts are in time order, so this is by group, then time
        self.span = int(posts.created_ms[-1]) + 1
        self.base = int(posts.created_ms[0])
        self.group = group[self.order]
        self.keys = self.group * (self.span - self.base) + (posts.created_ms[self.order] - self.base)

    def draw(
        self,
        group: npt.NDArray[np.int64],
        time_ms: npt.NDArray[np.int64],
        mean_back: float,
        rng: np.random.Generator,
    ) -> npt.NDArray[np.int64]:
        """Return a post of each group from before the time, mostly a recent one; -1 where there is none."""
        wanted = group * (self.span - self.base) + np.clip(time_ms - self.base, 0, self.span - self.base - 1)
        back = rng.exponential(mean_back, group.size).astype(np.int64)
        place = np.searchsorted(self.keys, wanted) - 1 - back
        inside = np.maximum(place, 0)
        return np.where((place >= 0) & (self.group[inside] == group), self.order[inside], -1)


def _propose(
    user: npt.NDArray[np.int64], time_ms: npt.NDArray[np.int64], truth: Truth, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return six proposals per place, [n, 6] post rows, -1 where a pool had none."""
    users, posts, graph = truth.users, truth.posts, truth.graph
    by_author = _Recent(posts.author, posts)
    by_language = _Recent(posts.language.astype(np.int64), posts)
    kinds = users.interest.shape[1]
    by_both = _Recent(posts.language.astype(np.int64) * kinds + posts.topic, posts)
    anywhere = _Recent(np.zeros(len(posts), np.int64), posts)

    degree = np.diff(graph.offsets)[user]
    columns = []
    for _ in range(2):
        edge = graph.offsets[user] + (rng.random(user.size) * degree).astype(np.int64)
        followee = graph.target[np.minimum(edge, graph.target.size - 1)]
        found = by_author.draw(followee, time_ms, 3.0, rng)
        columns.append(np.where(degree > 0, found, -1))
    spoken = users.language[user].astype(np.int64)
    also = np.argmax(rng.random((user.size, users.reads.shape[1]), np.float32) * users.reads[user], axis=1)
    reach = max(30.0, len(posts) / 40)
    columns.append(by_language.draw(spoken, time_ms, reach, rng))
    columns.append(by_language.draw(also, time_ms, reach, rng))
    heart = np.argmax(users.interest + rng.gumbel(0.0, 0.5, users.interest.shape), axis=1)[user]
    columns.append(by_both.draw(spoken * kinds + heart, time_ms, max(6.0, reach / 12), rng))
    columns.append(anywhere.draw(np.zeros(user.size, np.int64), time_ms, 2 * reach, rng))
    return np.stack(columns, axis=1)


def _allowed(
    user: npt.NDArray[np.int64],
    post: npt.NDArray[np.int64],
    time_ms: npt.NDArray[np.int64],
    truth: Truth,
    muted_topics: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    users, posts, graph = truth.users, truth.posts, truth.graph
    row = np.maximum(post, 0)
    content = posts.content[row]
    author, writer = posts.author[row], posts.author[content]
    user = np.broadcast_to(user, post.shape)
    fine: npt.NDArray[np.bool_] = np.logical_and(post >= 0, (author != user) & (writer != user))
    for which in (row, content):
        fine &= (posts.deleted_ms[which] == 0) | (posts.deleted_ms[which] > time_ms)
    fine &= ~muted_topics[user, posts.topic[content]]
    for guarded, check, who in (
        (users.protected[writer], graph.follows, writer),
        (users.protected[author], graph.follows, author),
        (posts.exclusive[content], graph.subscribes, writer),
    ):
        some = np.nonzero(guarded & fine)
        fine[some] = check(user[some], who[some])
    return fine


def _choose(
    config: SyntheticConfig,
    user: npt.NDArray[np.int64],
    time_ms: npt.NDArray[np.int64],
    proposals: npt.NDArray[np.int64],
    allowed: npt.NDArray[np.bool_],
    truth: Truth,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the post taken for each place, and whether blindly."""
    count, width = proposals.shape
    score = rng.gumbel(0.0, 0.8, (count, width)).astype(np.float32)
    explored = np.less(rng.random(count), config.exploration)
    judged = allowed & ~explored[:, None]
    row, column = np.nonzero(judged)
    for start in range(0, row.size, _CHUNK):
        r, c = row[start : start + _CHUNK], column[start : start + _CHUNK]
        score[r, c] += truth.utility(user[r], proposals[r, c], time_ms[r])
    score[~allowed] = -np.inf
    return proposals[np.arange(count), score.argmax(axis=1)], explored


def _outcomes(
    user: npt.NDArray[np.int64],
    post: npt.NDArray[np.int64],
    time_ms: npt.NDArray[np.int64],
    truth: Truth,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Draw what users do, exactly with the probabilities of :meth:`Truth.probabilities`."""
    stop, passed, click = (HEADS.index(name) for name in ("dwell", "not_dwelled", "click"))
    outcome = np.zeros((user.size, len(HEADS)), bool)
    dwell = np.zeros(user.size, np.float64)
    click_dwell = np.zeros(user.size, np.float64)
    for start in range(0, user.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        utility = truth.utility(user[part], post[part], time_ms[part])
        chance = truth.given_dwell(user[part], post[part], utility)
        draw = rng.random(chance.shape, np.float32)
        done = draw < chance
        done[:, _POSITIVE] &= done[:, [stop]]
        done[:, passed] = draw[:, stop] >= 1 - chance[:, passed]  # one draw for both: they exclude each other
        outcome[part] = done
        spread = rng.normal(0.0, 0.5, utility.size)
        seconds = truth.dwell_seconds(user[part], post[part], utility) * np.exp(spread)
        glance = rng.uniform(0.15, 1.4, utility.size)
        dwell[part] = np.where(done[:, stop], seconds + 1.5, glance)
        after = np.exp(2.2 + 0.3 * utility + rng.normal(0.0, 0.7, utility.size))
        click_dwell[part] = np.where(done[:, click], after, 0.0)
    limit = 900.0
    return (
        outcome,
        (np.minimum(dwell, limit) * 1000).astype(np.int32),
        (np.minimum(click_dwell, limit) * 1000).astype(np.int32),
    )


def _after_falling_out(
    user: npt.NDArray[np.int64],
    author: npt.NDArray[np.int64],
    time_ms: npt.NDArray[np.int64],
    outcome: npt.NDArray[np.bool_],
    users: int,
) -> npt.NDArray[np.bool_]:
    """Return which impressions come after the user blocked or muted the author: they never happened."""
    out = outcome[:, HEADS.index("block_author")] | outcome[:, HEADS.index("mute_author")]
    keys = user * users + author
    pairs, first = np.unique(keys[out], return_index=True)  # time order: the first is the earliest
    if not pairs.size:
        return np.zeros(user.size, bool)
    since = time_ms[out][first]
    place = np.minimum(np.searchsorted(pairs, keys), pairs.size - 1)
    late: npt.NDArray[np.bool_] = (pairs[place] == keys) & (time_ms > since[place])
    return late

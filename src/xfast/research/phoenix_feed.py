"""A trained Phoenix ranker's own feed on the synthetic network, judged by what the network hides.

A platform sees predicted probabilities and what it can look up about a post. The synthetic network also knows the true
probability of every action and how much each viewer cares. So every claim of an audit can be checked here: what the
feed was predicted to be worth to each stakeholder, what it is worth, and whether the verdict saw the sign coming.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from xfast.actions import RESEARCH18
from xfast.errors import ParameterError
from xfast.feed import Feed
from xfast.phoenix.artifacts import Tower
from xfast.research import space
from xfast.research.audit.inputs import PARAMETERS
from xfast.research.environment import F64, I64
from xfast.research.theory.covariance import WEAK, Verdict
from xfast.world import World
from xfast.world.truth import HEADS

PAGE = 10
EVERYTHING = 2_000  # more than a viewer of the demo's network has candidates
_COLUMNS: Final = [HEADS.index(action) for action in space.ACTIONS]

# Stakeholders whose utility is linear in the actions (set B): a platform can predict it from the ranker's output.
LINEAR: Final[Mapping[str, F64]] = space.stakeholders_b()
# Those that it can only look up (small_authors), or not know at all (care: how much the viewer truly cares).
OTHER: Final = ("small_authors", "care")


@dataclass(frozen=True)
class Served:
    """Every candidate of every viewer in the order of the feed.

    Attributes
    ----------
    viewer, post
        ``[N]`` row numbers of the world.
    rank
        ``[N]`` place in the viewer's feed, from 0.
    score
        ``[N]`` the feed's final score.
    predicted, true
        ``[N, 18]`` probabilities of the actions, by the ranker and by the network.
    utility
        Judge -> ``[N]`` true utility.
    predicted_utility
        Judge -> ``[N]`` utility as far as the platform can tell; unobservable judges are missing.
    topic
        ``[N]`` topic of the post.
    """

    viewer: I64
    post: I64
    rank: I64
    score: F64
    predicted: F64
    true: F64
    utility: Mapping[str, F64]
    predicted_utility: Mapping[str, F64]
    topic: I64


def params(weights: F64) -> dict[str, float]:
    """Overrides of the mixer's parameters with these 18 action weights; heads outside the 18 actions weigh nothing."""
    changed = dict.fromkeys(("QuotedVqvWeight", "ContDwellTimeWeight", "NotDwelledWeight"), 0.0)
    for key, head in PARAMETERS.items():
        if key[0].isupper():
            changed[key] = float(weights[RESEARCH18.column(head)])
    return changed


def build(world: World, ranker: Tower, retrieval: Tower) -> Feed:
    """The feed of a world at the end of its events, with pages that hold every candidate, in order of score."""
    sizes = dict.fromkeys(("RESULT_SIZE", "TOP_K_CANDIDATES_TO_SELECT", "FOR_YOU_MAX_RESULT_SIZE"), EVERYTHING)
    whole = {**sizes, "EnableAdsSource": False, "EnableVMRanker": False}
    return Feed.in_memory(ranker, retrieval, world.events(), params=whole)


def serve(world: World, feed: Feed, viewers: I64, *, mixer: Mapping[str, float] | None = None) -> Served:
    """Rank all candidates of some viewers by the real pipeline: sources, filters, ranker, scorer.

    Parameters
    ----------
    viewers
        Row numbers of users.
    mixer
        Overrides of the feed's parameters.

    Raises
    ------
    ParameterError
        Nobody has a page of candidates.
    """
    pages = [
        feed.for_you(int(world.users.user_id[row]), limit=EVERYTHING, remember=False, params=mixer) for row in viewers
    ]
    pages = [page for page in pages if len(page) > PAGE]
    if not pages:
        raise ParameterError(f"none of {len(viewers)} viewers has more than {PAGE} candidates; the world is too small")
    items = [item for page in pages for item in page]
    users = np.repeat([page.user_id for page in pages], [len(page) for page in pages])
    viewer, post = world.truth.rows(users, [item.post_id for item in items])
    now = np.full(len(items), feed.now_ms)
    true = world.truth.probabilities(viewer, post, now)[:, _COLUMNS].astype(np.float64)
    predicted = np.array([[item.probabilities.get(action, 0.0) for action in space.ACTIONS] for item in items])
    small = _small(world)[world.posts.author[post]]
    utility = {name: true @ weights for name, weights in LINEAR.items()}
    utility |= {"small_authors": small, "care": world.truth.utility(viewer, post, now).astype(np.float64)}
    return Served(
        viewer=viewer,
        post=post,
        rank=np.concatenate([np.arange(len(page)) for page in pages]),
        score=np.array([item.score for item in items]),
        predicted=predicted,
        true=true,
        utility=utility,
        predicted_utility={**{name: predicted @ w for name, w in LINEAR.items()}, "small_authors": small},
        topic=world.posts.topic[world.posts.content[post]].astype(np.int64),
    )


def _small(world: World) -> F64:
    """1 for users with at most the median number of followers: authors whom engagement leaves behind."""
    followers = np.bincount(world.follows.target, minlength=len(world.users))
    return (followers <= np.median(followers)).astype(np.float64)


@dataclass(frozen=True)
class Gain:
    """Mean over viewers of a page's utility above that of a page drawn from the same candidates by chance.

    `interval` is a 95 % bootstrap interval over viewers.
    """

    value: float
    interval: tuple[float, float]


def gain(served: Served, utility: F64, *, rng: np.random.Generator, resamples: int = 1_000) -> Gain:
    """What the first `PAGE` posts are worth beyond the average candidate, per post."""
    first, groups = _groups(served)
    pages = np.bincount(groups, utility * (served.rank < PAGE)) / PAGE
    differences = pages - np.bincount(groups, utility) / np.diff(first)
    means = differences[rng.integers(0, len(differences), (resamples, len(differences)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Gain(float(differences.mean()), (float(low), float(high)))


def _groups(served: Served) -> tuple[I64, I64]:
    """First row of every viewer (and the end), and the number of the viewer of each row."""
    first = np.append(np.flatnonzero(served.rank == 0), len(served.rank))
    return first, np.repeat(np.arange(len(first) - 1), np.diff(first))


@dataclass(frozen=True)
class Verdicted:
    """The covariance predictor on feeds of many viewers.

    Attributes
    ----------
    correlation
        Of score and utility inside the candidates of a viewer, pooled over viewers.
    interval
        95 % bootstrap interval over viewers: candidates of one viewer hang together.
    verdict
        ``abstain`` when the interval contains 0 or ``|correlation| < 0.1``.
    """

    correlation: float
    interval: tuple[float, float]
    verdict: Verdict


def best(served: Served, utility: F64, places: int) -> tuple[Served, F64]:
    """The first `places` candidates of every viewer alone: the neighbourhood in which a page is decided."""
    near = served.rank < places
    fields = {name: value[near] for name, value in vars(served).items() if isinstance(value, np.ndarray)}
    return replace(served, **fields, utility={}, predicted_utility={}), utility[near]


def predict(served: Served, utility: F64, *, rng: np.random.Generator, resamples: int = 1_000) -> Verdicted:
    """Who gains, without serving anything: the audit's predictor with viewers as the unit of sampling.

    Scores are ranked within a viewer first: a page is decided by order, and the offset of negative scores squeezes the
    lower end of the scale by a thousand.
    """
    first, groups = _groups(served)
    size = np.diff(first)
    score = -(served.rank - (size[groups] - 1) / 2.0) / size[groups]
    centred = utility - (np.bincount(groups, utility) / size)[groups]
    sums = np.stack([np.bincount(groups, v) / size for v in (score * centred, score * score, centred * centred)])

    def correlation(moments: F64) -> F64:
        return np.asarray(moments[0] / np.sqrt(np.maximum(moments[1] * moments[2], 1e-300)))

    found = float(correlation(sums.mean(axis=1)))
    drawn = rng.integers(0, len(size), (resamples, len(size)))
    low, high = np.quantile(correlation(sums[:, drawn].mean(axis=2)), [0.025, 0.975])
    sure = abs(found) >= WEAK and low * high > 0
    verdict: Verdict = "abstain" if not sure else "gains" if found > 0 else "loses"
    return Verdicted(found, (float(low), float(high)), verdict)


def variety(served: Served) -> float:
    """Mean number of different topics among the first `PAGE` posts: a utility of the set, of no single post."""
    first, _ = _groups(served)
    return float(np.mean([len(np.unique(served.topic[start : start + PAGE])) for start in first[:-1]]))

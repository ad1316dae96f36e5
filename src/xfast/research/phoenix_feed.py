"""A trained Phoenix ranker's own feed on the synthetic network, judged by what the network hides.

A platform sees predicted probabilities and what it can look up about a post. The synthetic network also knows the true
probability of every action and how much each viewer cares. So every claim of an audit can be checked here: what the
feed was predicted to be worth to each stakeholder, what it is worth, and whether the verdict saw the sign coming.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from xfast.actions import RESEARCH18
from xfast.errors import ConfigurationError, ParameterError
from xfast.feed import Feed
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import Prediction, PredictRequest
from xfast.mixer.embedded import LocalRanker
from xfast.mixer.heads import HEAD_INDEX
from xfast.mixer.params import Params
from xfast.mixer.scorers import RankingScorer, decode_heads
from xfast.phoenix import Ranker
from xfast.phoenix.artifacts import Tower
from xfast.research import space
from xfast.research.audit.inputs import PARAMETERS
from xfast.research.environment import F64, I64
from xfast.research.theory.covariance import WEAK, Verdict
from xfast.world import World
from xfast.world.truth import HEADS

PAGE = 10
#: Filters that look at chosen posts only; a pool holds what they would remove.
_AFTER_RANKING: Final = ("VFFilter", "AncillaryVFFilter", "DedupConversationFilter")
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


class Recorder:
    """The ranking model of a feed, which keeps what it was asked and what it answered."""

    def __init__(self, ranker: Tower) -> None:
        self._model = LocalRanker({"*": Ranker(ranker)})
        self.asked: list[tuple[PredictRequest, Prediction]] = []

    async def predict(self, request: PredictRequest) -> Prediction:
        """Answer as the local model does."""
        prediction = await self._model.predict(request)
        self.asked.append((request, prediction))
        return prediction


@dataclass(frozen=True)
class Pool:
    """What the feed lets its ranker choose from for one viewer: all candidates that passed the filters before scoring.

    A page needs the costly look-ups of its posts only, a study needs every candidate in order. So a viewer is served
    once by the assembled feed, and other weights score the same candidates with the mixer's own scorer.
    """

    request: PredictRequest
    prediction: Prediction

    def ranked_by(self, ranker: Tower) -> Pool:
        """The same candidates as another ranker sees them."""
        return replace(self, prediction=asyncio.run(Recorder(ranker).predict(self.request)))

    def order(self, mixer: Mapping[str, float] | None = None) -> CandidateBatch:
        """All candidates with predictions and scores, best first; ties in the order of the sources, as in the feed."""
        query, batch = self.request.query, self.request.candidates
        query = replace(query, params=query.params.override(dict(mixer or {})))
        batch = batch.with_columns({"phoenix_scores": decode_heads(self.prediction, batch.original_id)})
        batch = batch.with_columns(RankingScorer().score(query, batch).columns)
        return batch.take(np.argsort(-batch.values("score"), kind="stable"))


@dataclass(frozen=True)
class Observed:
    """A world, its feed at the end of its events, and the pools of some viewers."""

    world: World
    feed: Feed
    pools: Sequence[Pool]


def observe(world: World, ranker: Tower, retrieval: Tower, viewers: I64) -> Observed:
    """Serve viewers (row numbers of users) once by the assembled feed and keep what their ranker was asked.

    Ads and the value model are off: they change the page after the ranking that is judged here. Viewers without a page
    of candidates are left out.
    """
    recorder = Recorder(ranker)
    feed = Feed.in_memory(
        ranker,
        retrieval,
        world.events(),
        params={"EnableAdsSource": False, "EnableVMRanker": False},
        collaborators={"ranker": recorder},
    )
    pools = []
    for row in viewers:
        recorder.asked.clear()
        feed.for_you(int(world.users.user_id[row]), PAGE, remember=False)
        pools += [Pool(*asked) for asked in recorder.asked if len(asked[0].candidates) > PAGE]
    return Observed(world, feed, pools)


def agrees(feed: Feed, pool: Pool, mixer: Mapping[str, float] | None = None) -> bool:
    """Whether the assembled feed's page has the order and scores of the pool, but for posts that are removed later."""
    page = feed.for_you(pool.request.query.user_id, explain=True, remember=False, params=mixer)
    removed = {post.post_id for post in page.removed if post.filter in _AFTER_RANKING}
    ranked = pool.order(mixer)
    kept = [row for row, post in enumerate(ranked.tweet_id.tolist()) if post not in removed][: len(page)]
    same_posts = [item.post_id for item in page] == ranked.tweet_id[kept].tolist()
    return len(page) > 0 and same_posts and np.allclose([item.score for item in page], ranked.values("score")[kept])


def refused(mixer: Mapping[str, float]) -> str | None:
    """Why the assembled feed serves nobody with these overrides (it rewards harm, say); None if it does serve.

    Such weights can still order a pool: what a feed must not do is worth knowing, too.
    """
    try:
        Params().override(dict(mixer)).check()
    except ConfigurationError as error:
        return str(error)
    return None


def serve(world: World, pools: Sequence[Pool], *, mixer: Mapping[str, float] | None = None) -> Served:
    """Rank all candidates of some viewers, and look up what the world knows of them.

    Parameters
    ----------
    mixer
        Overrides of the feed's parameters.

    Raises
    ------
    ParameterError
        There are no pools.
    """
    if not pools:
        raise ParameterError(f"none of the viewers has more than {PAGE} candidates; the world is too small")
    sizes = [len(pool.request.candidates) for pool in pools]
    batch = CandidateBatch.concat([pool.order(mixer) for pool in pools])
    users = np.repeat(np.array([pool.request.query.user_id for pool in pools], np.uint64), sizes)
    now = np.repeat([pool.request.query.request_time_ms for pool in pools], sizes)
    viewer, post = world.truth.rows(users, batch.tweet_id)
    true = world.truth.probabilities(viewer, post, now)[:, _COLUMNS].astype(np.float64)
    heads = np.nan_to_num(batch.values("phoenix_scores"), nan=0.0)
    predicted = heads[:, [HEAD_INDEX[action] for action in space.ACTIONS]]
    small = _small(world)[world.posts.author[post]]
    utility = {name: true @ weights for name, weights in LINEAR.items()}
    utility |= {"small_authors": small, "care": world.truth.utility(viewer, post, now).astype(np.float64)}
    return Served(
        viewer=viewer,
        post=post,
        rank=np.concatenate([np.arange(size) for size in sizes]),
        score=batch.values("score"),
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

"""VF: asks visibility filtering about posts and everything they hang on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import Maybe, VisibilityClient, VisibilityResult
from xfast.mixer.enums import VisibilityReason
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator, answers, eager

__all__ = ["HOME_LEVEL", "RECOMMENDATIONS_LEVEL", "VFHydrator", "VisibilityPlan", "apply_visibility", "plan_visibility"]

HOME_LEVEL = "TimelineHome"
RECOMMENDATIONS_LEVEL = "TimelineHomeRecommendations"


@dataclass(frozen=True, slots=True)
class VisibilityPlan:
    """Ids to ask for at the level of the viewer's own network, and at the stricter one of recommendations."""

    home: list[int]
    recommendations: list[int]


def plan_visibility(batch: CandidateBatch) -> VisibilityPlan:
    """Which ids go to which level (HOME_MIXER §6).

    Home: in-network posts and every retweeted post, as they come. Recommendations: all other posts, all ancestors and
    all quoted posts, sorted and unique.
    """
    home: list[int] = []
    others: list[int] = batch.ragged("ancestors").values.tolist()
    retweeted, quoted = batch.column("retweeted_tweet_id"), batch.column("quoted_tweet_id")
    # A few dozen posts: loops over lists cost less than NumPy's calls.
    for post, inside, original, is_retweet in zip(
        batch.tweet_id.tolist(),
        batch.is_true("in_network").tolist(),
        retweeted.values.tolist(),
        retweeted.mask().tolist(),
        strict=True,
    ):
        (home if inside else others).append(post)
        if is_retweet:
            home.append(original)
    others += quoted.values[quoted.mask()].tolist()
    return VisibilityPlan(home, sorted(set(others)))


def apply_visibility(
    batch: CandidateBatch, home: Mapping[int, VisibilityResult], recommendations: Mapping[int, VisibilityResult]
) -> Hydration:
    """Turn both answers into ``visibility_reason`` and ``drop_ancillary_posts``.

    Recommendations win where both answer. An error on a post leaves it unchanged, and so visible; errors on what it
    hangs on are ignored.
    """
    results = {**home, **recommendations}
    reasons = np.full(len(batch), None, np.object_)
    present, ancillary = np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_)
    ok = np.ones(len(batch), np.bool_)
    errors: dict[int, str] = {}
    if results:
        drops = {post for post, reason in results.items() if isinstance(reason, VisibilityReason) and reason.drops}
        hangs_on = _hangs_on(batch) if drops else None
        for row, post in enumerate(batch.tweet_id.tolist()):
            primary = results.get(post)
            if isinstance(primary, Exception):
                ok[row], errors[row] = False, str(primary)
                continue
            reasons[row], present[row] = primary, primary is not None
            ancillary[row] = hangs_on is not None and not drops.isdisjoint(hangs_on[row])
    return Hydration(
        {"visibility_reason": Column(reasons, present), "drop_ancillary_posts": Column(ancillary)}, ok, errors
    )


def _hangs_on(batch: CandidateBatch) -> list[list[int]]:
    """Per post its ancestors, the post it quotes and the post it retweets."""
    ancestors = batch.ragged("ancestors")
    lists = [ancestors.row(row).tolist() for row in range(len(batch))]
    for name in ("quoted_tweet_id", "retweeted_tweet_id"):
        column = batch.column(name)
        for row in np.flatnonzero(column.mask()).tolist():
            lists[row].append(int(column.values[row]))
    return lists


class VFHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Ask both levels at once and apply the answers; runs for every request, after selection."""

    def __init__(self, client: VisibilityClient) -> None:
        self._client = client

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        plan = plan_visibility(batch)
        home, recommendations = await answers(
            self._ask(query, plan.home, HOME_LEVEL), self._ask(query, plan.recommendations, RECOMMENDATIONS_LEVEL)
        )
        return apply_visibility(batch, home, recommendations)

    def _ask(self, query: ScoredPostsQuery, ids: list[int], level: str) -> Maybe[Mapping[int, VisibilityResult]]:
        return self._client.visibility(query, ids, level) if ids else {}

"""VF: asks visibility filtering about posts and everything they hang on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import VisibilityClient, VisibilityResult, answer
from xfast.mixer.enums import VisibilityReason
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator

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
    in_network = batch.is_true("in_network")
    retweeted = batch.is_set("retweeted_tweet_id")
    home: list[int] = []
    others: set[int] = set()
    own, original = batch.tweet_id.tolist(), batch.values("retweeted_tweet_id").tolist()
    for row, tweet_id in enumerate(own):
        if in_network[row]:
            home.append(tweet_id)
        else:
            others.add(tweet_id)
        if retweeted[row]:
            home.append(original[row])
    others.update(batch.ragged("ancestors").values.tolist())
    others.update(batch.values("quoted_tweet_id")[batch.is_set("quoted_tweet_id")].tolist())
    return VisibilityPlan(home, sorted(others))


def apply_visibility(
    batch: CandidateBatch, home: Mapping[int, VisibilityResult], recommendations: Mapping[int, VisibilityResult]
) -> Hydration:
    """Turn both answers into ``visibility_reason`` and ``drop_ancillary_posts``.

    Recommendations win where both answer. An error on a post leaves it unchanged, and so visible; errors on what it
    hangs on are ignored.
    """
    results = {**home, **recommendations}
    reasons = np.full(len(batch), None, np.object_)
    ancillary = np.zeros(len(batch), np.bool_)
    ok = np.ones(len(batch), np.bool_)
    errors: dict[int, str] = {}
    ancestors = batch.ragged("ancestors")
    related = [batch.column(name) for name in ("quoted_tweet_id", "retweeted_tweet_id")]
    for row, post in enumerate(batch.tweet_id.tolist()):
        primary = results.get(post)
        if isinstance(primary, Exception):
            ok[row], errors[row] = False, str(primary)
            continue
        reasons[row] = primary
        hangs_on = ancestors.row(row).tolist()
        hangs_on += [column.item(row) for column in related]
        found = [results.get(other) for other in hangs_on]
        ancillary[row] = any(isinstance(reason, VisibilityReason) and reason.drops for reason in found)
    present = np.array([reason is not None for reason in reasons], np.bool_)
    return Hydration(
        {"visibility_reason": Column(reasons, present), "drop_ancillary_posts": Column(ancillary)}, ok, errors
    )


class VFHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Ask both levels at once and apply the answers; runs for every request, after selection."""

    def __init__(self, client: VisibilityClient) -> None:
        self._client = client

    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        plan = plan_visibility(batch)
        home, recommendations = await asyncio.gather(
            self._ask(query, plan.home, HOME_LEVEL), self._ask(query, plan.recommendations, RECOMMENDATIONS_LEVEL)
        )
        return apply_visibility(batch, home, recommendations)

    async def _ask(self, query: ScoredPostsQuery, ids: list[int], level: str) -> Mapping[int, VisibilityResult]:
        return await answer(self._client.visibility(query, ids, level)) if ids else {}

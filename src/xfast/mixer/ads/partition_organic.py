"""PartitionOrganic: every ad between two safe posts, everything else after it by score (HOME_MIXER §10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xfast.mixer.ads.blender import AdsBlender, Blend, ads_spacing, is_avoided, is_careful
from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import BrandSafetyVerdict
from xfast.mixer.items import ScoredPost
from xfast.pipeline import descending
from xfast.text import KeywordMatcher

__all__ = ["PartitionOrganic", "ad_drop_reason"]

_BITS = 2**64 - 1


def ad_drop_reason(ad: AdInfo, neighbours: Sequence[ScoredPost], *, unlabelled_is_low: bool = False) -> str | None:
    """Why an ad cannot stand between its neighbours: ``"bsr_low"``, ``"handle"``, ``"keyword"`` or ``None``.

    Parameters
    ----------
    unlabelled_is_low
        Fixed mode: a post without a verdict counts as low risk, so only ads that accept low risk stand beside it.
    """
    if is_careful(ad):
        risky = {BrandSafetyVerdict.LOW_RISK}
        if unlabelled_is_low:
            risky.add(BrandSafetyVerdict.UNSPECIFIED)
        if any(post.brand_safety_verdict in risky for post in neighbours):
            return "bsr_low"
    # Handles are signed ids, authors unsigned ones: compared after a bit-cast, like all lists of users.
    if ad.handles and not {h & _BITS for h in ad.handles}.isdisjoint(post.author_id & _BITS for post in neighbours):
        return "handle"
    if ad.keywords and any(KeywordMatcher(ad.keywords).match([post.tweet_text for post in neighbours])):
        return "keyword"
    return None


class PartitionOrganic(AdsBlender):
    """Split posts into safe and avoided ones, give every ad two safe neighbours, deal out the rest by score.

    Counts ``PartitionOrganic.enforcement`` with action ``drop``, ``ok``, ``handle_drop`` and ``keyword_drop``.
    """

    def place(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> Blend:
        safe = [post for post in posts if not is_avoided(post)]
        unsafe = [post for post in posts if is_avoided(post)]
        requested, _ = ads_spacing([ad.insert_position for ad in ads])
        slots = min(len(ads), (len(posts) - 1) // requested, len(safe) // 2)
        if slots == 0:
            return list(posts)
        placed, used = self._fill(safe, ads, slots)
        if not placed:
            return [*_by_score([*safe, *unsafe])]
        filler = _by_score([*(post for index, post in enumerate(safe) if index not in used), *unsafe])
        share, longer = divmod(len(filler), len(placed))
        mixed: Blend = []
        start = 0
        for index, (above, ad, below) in enumerate(placed):
            end = start + share + (1 if index >= len(placed) - longer else 0)
            mixed += [above, ad, below, *filler[start:end]]
            start = end
        return mixed

    def _fill(
        self, safe: Sequence[ScoredPost], ads: Sequence[AdInfo], slots: int
    ) -> tuple[list[tuple[ScoredPost, AdInfo, ScoredPost]], set[int]]:
        group = len(safe) // slots
        placed: list[tuple[ScoredPost, AdInfo, ScoredPost]] = []
        used: set[int] = set()
        for ad in ads:
            if len(placed) == slots:
                break
            first = len(placed) * group
            above, below = safe[first], safe[first + 1]
            reason = ad_drop_reason(ad, (above, below), unlabelled_is_low=self.quirks == "fixed")
            if reason == "bsr_low":
                self._enforced("drop")
                continue
            if is_careful(ad):
                self._enforced("ok")
            if reason is not None:
                self._enforced(f"{reason}_drop")
                continue
            placed.append((above, ad, below))
            used |= {first, first + 1}
        return placed, used

    def _enforced(self, action: str) -> None:
        if self.metrics is not None:
            self.metrics.count("PartitionOrganic.enforcement", action=action)


def _by_score(posts: Sequence[ScoredPost]) -> list[ScoredPost]:
    scores = [post.score for post in posts]
    if any(score != score for score in scores):
        return [posts[row] for row in descending(np.array(scores, np.float64)).tolist()]
    return sorted(posts, key=lambda post: -post.score)

"""What both ads blenders share: who may have ads, their spacing, and the final trim (HOME_MIXER §10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import BrandSafetyRisk, BrandSafetyVerdict
from xfast.mixer.items import FeedItem, ScoredPost
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Metrics

__all__ = ["AdsBlender", "Blend", "ads_spacing", "is_avoided", "is_careful", "plain_items"]

#: Distance of ads when theirs says nothing, and the smallest one accepted as a wish.
DEFAULT_GAP = 3
DEFAULT_MIN_GAP = 2
#: How many ads' positions speak for the spacing.
_SPACING_ADS = 4

_CAREFUL = frozenset({BrandSafetyRisk.LOW.value, BrandSafetyRisk.IAS.value})

Blend = list[ScoredPost | AdInfo]


def ads_spacing(insert_positions: Sequence[int]) -> tuple[int, int]:
    """(requested, minimal) distance between ads.

    The smallest positive difference of the first four positions, if it is at least 3, with half of it, rounded up, as
    the minimum; else 3 and 2.
    """
    ordered = sorted(insert_positions[:_SPACING_ADS])
    steps = [after - before for before, after in pairwise(ordered) if after > before]
    smallest = min(steps, default=0)
    if smallest < DEFAULT_GAP:
        return DEFAULT_GAP, DEFAULT_MIN_GAP
    return smallest, -(-smallest // 2)


def is_avoided(post: ScoredPost) -> bool:
    """No ad stands beside a medium-risk post."""
    return post.brand_safety_verdict == BrandSafetyVerdict.MEDIUM_RISK


def is_careful(ad: AdInfo) -> bool:
    """Whether the ad asked for more than the usual safety: it does not stand beside low-risk posts."""
    return ad.risk in _CAREFUL


def plain_items(blend: Sequence[ScoredPost | AdInfo]) -> list[FeedItem]:
    """Items numbered from 0."""
    return [FeedItem(item, position) for position, item in enumerate(blend)]


@dataclass
class AdsBlender:
    """Base of the blenders.

    Attributes
    ----------
    result_size
        Length of the result. In reference mode ads count, so every ad can push a post out; in fixed mode an ad never
        costs a post its place before ``result_size`` posts are reached.
    min_posts
        Fewer posts get no ads.
    metrics
        Counts ``AdsBlender.post_brand_safety_verdict`` and ``AdsBlender.ad_brand_safety_risk``.
    """

    result_size: int
    min_posts: int = 5
    quirks: Quirks = "fixed"
    metrics: Metrics | None = None

    def place(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> Blend:
        """Posts and ads in feed order."""
        raise NotImplementedError

    def blend(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> list[FeedItem]:
        """Posts and ads as numbered items; without ads, or with too few posts, the posts alone."""
        if not ads or len(posts) < self.min_posts:
            return plain_items(posts)
        self._count(posts, ads)
        mixed = self._trim(self.place(posts, ads))
        if mixed and isinstance(mixed[-1], AdInfo):
            mixed.pop()
        return plain_items(mixed)

    def _trim(self, mixed: Blend) -> Blend:
        if self.quirks == "reference":
            return mixed[: self.result_size]
        left = self.result_size
        kept: Blend = []
        for item in mixed:
            if isinstance(item, ScoredPost):
                if left == 0:
                    break
                left -= 1
            kept.append(item)
        return kept

    def _count(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> None:
        if self.metrics is None:
            return
        for verdict, count in Counter(post.brand_safety_verdict for post in posts).items():
            self.metrics.count("AdsBlender.post_brand_safety_verdict", count, verdict=verdict.pascal)
        for risk, count in Counter(ad.risk for ad in ads).items():
            self.metrics.count("AdsBlender.ad_brand_safety_risk", count, risk=risk)

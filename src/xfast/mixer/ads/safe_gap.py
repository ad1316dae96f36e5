"""SafeGap: ads go between safe neighbours near their wished places; the order of posts stays (HOME_MIXER §10)."""

from __future__ import annotations

from collections.abc import Sequence

from xfast.mixer.ads.blender import AdsBlender, Blend, ads_spacing, is_avoided
from xfast.mixer.clients import AdInfo
from xfast.mixer.items import ScoredPost

__all__ = ["SafeGap", "assign_ads_to_gaps", "best_gap", "safe_gaps"]


def safe_gaps(avoided: Sequence[bool]) -> list[int]:
    """Gaps ``g`` (between posts ``g - 1`` and ``g``) with no avoided neighbour."""
    return [gap for gap in range(1, len(avoided)) if not avoided[gap - 1] and not avoided[gap]]


def best_gap(gaps: Sequence[int], *, ideal: int, smallest: int) -> tuple[int, int] | None:
    """(index, gap) of the gap closest to ``ideal`` among those from ``smallest`` on; of two as close, the smaller."""
    best: tuple[int, int] | None = None
    for index, gap in enumerate(gaps):
        if gap >= smallest and (best is None or abs(gap - ideal) < abs(best[1] - ideal)):
            best = (index, gap)
    return best


def assign_ads_to_gaps(gaps: Sequence[int], *, ads: int, spacing: tuple[int, int], first_ideal: int) -> list[int]:
    """The gap of each ad, left to right; stops at the first ad that finds none.

    The ideal moves on from the previous *ideal*, the minimum also keeps one post between two ads.
    """
    requested, minimal = spacing
    placed: list[int] = []
    ideal, smallest, start = first_ideal, 1, 0
    for _ in range(ads):
        found = best_gap(gaps[start:], ideal=ideal, smallest=smallest)
        if found is None:
            break
        placed.append(found[1])
        start += found[0] + 1
        smallest = max(ideal + minimal, found[1] + 2)
        ideal += requested
    return placed


class SafeGap(AdsBlender):
    """Keep the order of posts; looks neither at low risk nor at handles and keywords."""

    def place(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> Blend:
        gaps = assign_ads_to_gaps(
            safe_gaps([is_avoided(post) for post in posts]),
            ads=len(ads),
            spacing=ads_spacing([ad.insert_position for ad in ads]),
            first_ideal=max(0, ads[0].insert_position),
        )
        before = dict(zip(gaps, ads, strict=False))
        mixed: Blend = []
        for index, post in enumerate(posts):
            if index in before:
                mixed.append(before[index])
            mixed.append(post)
        return mixed

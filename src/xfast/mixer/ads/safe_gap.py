"""SafeGap: ads go between safe neighbours near their wished places; the order of posts stays (HOME_MIXER §10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from xfast.mixer.ads.blender import AdsBlender, Blend, ads_spacing, is_avoided, is_careful
from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import BrandSafetyVerdict
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


def assign_ads_to_gaps(
    gaps: Sequence[int],
    *,
    ads: int,
    spacing: tuple[int, int],
    first_ideal: int,
    accepts: Callable[[int, int], bool] | None = None,
) -> list[tuple[int, int]]:
    """(ad, gap) left to right; ends with the first ad for which no gap is left.

    The ideal moves on from the previous *ideal*, the minimum also keeps one post between two ads.

    Parameters
    ----------
    accepts
        Whether an ad may stand in a gap; one that may in none is passed over. Without it every ad takes the best gap.
    """
    requested, minimal = spacing
    placed: list[tuple[int, int]] = []
    ideal, smallest, left = first_ideal, 1, list(gaps)
    for ad in range(ads):
        if best_gap(left, ideal=ideal, smallest=smallest) is None:
            break
        allowed = left if accepts is None else [gap for gap in left if accepts(ad, gap)]
        found = best_gap(allowed, ideal=ideal, smallest=smallest)
        if found is None:
            continue
        gap = found[1]
        placed.append((ad, gap))
        left = left[left.index(gap) + 1 :]
        smallest = max(ideal + minimal, gap + 2)
        ideal += requested
    return placed


def _accepts(posts: Sequence[ScoredPost], ads: Sequence[AdInfo], ad: int, gap: int) -> bool:
    unknown = BrandSafetyVerdict.UNSPECIFIED
    return not is_careful(ads[ad]) or all(post.brand_safety_verdict != unknown for post in posts[gap - 1 : gap + 1])


class SafeGap(AdsBlender):
    """Keep the order of posts; looks neither at low risk nor at handles and keywords.

    In fixed mode an ad that asked for more than the usual safety stands beside no post without a verdict.
    """

    def place(self, posts: Sequence[ScoredPost], ads: Sequence[AdInfo]) -> Blend:
        placed = assign_ads_to_gaps(
            safe_gaps([is_avoided(post) for post in posts]),
            ads=len(ads),
            spacing=ads_spacing([ad.insert_position for ad in ads]),
            first_ideal=max(0, ads[0].insert_position),
            accepts=None if self.quirks == "reference" else partial(_accepts, posts, ads),
        )
        before = {gap: ads[ad] for ad, gap in placed}
        mixed: Blend = []
        for index, post in enumerate(posts):
            if index in before:
                mixed.append(before[index])
            mixed.append(post)
        return mixed

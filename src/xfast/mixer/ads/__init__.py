"""Ads: brand safety, and the two ways to blend ads into posts (HOME_MIXER §10)."""

from xfast.mixer.ads.blender import AdsBlender, ads_spacing, plain_items
from xfast.mixer.ads.brand_safety import (
    botmaker_category,
    candidate_brand_safety,
    compute_verdict,
)
from xfast.mixer.ads.partition_organic import PartitionOrganic, ad_drop_reason
from xfast.mixer.ads.safe_gap import SafeGap, assign_ads_to_gaps, best_gap, safe_gaps

__all__ = [
    "AdsBlender",
    "PartitionOrganic",
    "SafeGap",
    "ad_drop_reason",
    "ads_spacing",
    "assign_ads_to_gaps",
    "best_gap",
    "botmaker_category",
    "candidate_brand_safety",
    "compute_verdict",
    "plain_items",
    "safe_gaps",
]

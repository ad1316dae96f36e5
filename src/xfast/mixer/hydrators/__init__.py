"""Candidate hydrators, one per module (HOME_MIXER §6)."""

from xfast.mixer.hydrators.ads_brand_safety import AdsBrandSafetyHydrator
from xfast.mixer.hydrators.ads_brand_safety_vf import AdsBrandSafetyVfHydrator
from xfast.mixer.hydrators.blocked_by import BlockedByHydrator
from xfast.mixer.hydrators.core_data import CoreDataHydrator
from xfast.mixer.hydrators.engagement_counts import EngagementCountsHydrator
from xfast.mixer.hydrators.filtered_topics import FilteredTopicsHydrator
from xfast.mixer.hydrators.following_replied_users import FollowingRepliedUsersHydrator
from xfast.mixer.hydrators.gizmoduck import GizmoduckHydrator
from xfast.mixer.hydrators.has_media import HasMediaHydrator
from xfast.mixer.hydrators.in_network import InNetworkHydrator
from xfast.mixer.hydrators.language_code import LanguageCodeHydrator
from xfast.mixer.hydrators.mutual_follow_jaccard import MutualFollowJaccardHydrator
from xfast.mixer.hydrators.quote import QuoteHydrator
from xfast.mixer.hydrators.subscription import SubscriptionHydrator
from xfast.mixer.hydrators.tweet_type_metrics import TweetTypeMetricsHydrator
from xfast.mixer.hydrators.vf import VFHydrator
from xfast.mixer.hydrators.video_duration import VideoDurationHydrator

__all__ = [
    "AdsBrandSafetyHydrator",
    "AdsBrandSafetyVfHydrator",
    "BlockedByHydrator",
    "CoreDataHydrator",
    "EngagementCountsHydrator",
    "FilteredTopicsHydrator",
    "FollowingRepliedUsersHydrator",
    "GizmoduckHydrator",
    "HasMediaHydrator",
    "InNetworkHydrator",
    "LanguageCodeHydrator",
    "MutualFollowJaccardHydrator",
    "QuoteHydrator",
    "SubscriptionHydrator",
    "TweetTypeMetricsHydrator",
    "VFHydrator",
    "VideoDurationHydrator",
]

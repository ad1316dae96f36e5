"""Query hydrators, one per module (HOME_MIXER §4)."""

from xfast.mixer.query_hydrators.cached_posts import CachedPostsQueryHydrator
from xfast.mixer.query_hydrators.followed_grok_topics import FollowedGrokTopicsQueryHydrator
from xfast.mixer.query_hydrators.followed_starter_packs import FollowedStarterPacksQueryHydrator
from xfast.mixer.query_hydrators.impressed_posts import ImpressedPostsQueryHydrator
from xfast.mixer.query_hydrators.impression_bloom_filter import ImpressionBloomFilterQueryHydrator
from xfast.mixer.query_hydrators.inferred_grok_topics import InferredGrokTopicsQueryHydrator
from xfast.mixer.query_hydrators.ip import IpQueryHydrator
from xfast.mixer.query_hydrators.mutual_follow import MutualFollowQueryHydrator
from xfast.mixer.query_hydrators.past_request_timestamps import PastRequestTimestampsQueryHydrator
from xfast.mixer.query_hydrators.retrieval_sequence import RetrievalSequenceQueryHydrator
from xfast.mixer.query_hydrators.scoring_sequence import ScoringSequenceQueryHydrator
from xfast.mixer.query_hydrators.served_history import ServedHistoryQueryHydrator
from xfast.mixer.query_hydrators.social_graph import (
    BlockedUserIdsQueryHydrator,
    FollowedUserIdsQueryHydrator,
    MutedUserIdsQueryHydrator,
    SubscribedUserIdsQueryHydrator,
)
from xfast.mixer.query_hydrators.user_action_seq import UserActionSeqQueryHydrator
from xfast.mixer.query_hydrators.user_demographics import UserDemographicsQueryHydrator
from xfast.mixer.query_hydrators.user_features import UserFeaturesQueryHydrator
from xfast.mixer.query_hydrators.user_inferred_gender import UserInferredGenderQueryHydrator

__all__ = [
    "BlockedUserIdsQueryHydrator",
    "CachedPostsQueryHydrator",
    "FollowedGrokTopicsQueryHydrator",
    "FollowedStarterPacksQueryHydrator",
    "FollowedUserIdsQueryHydrator",
    "ImpressedPostsQueryHydrator",
    "ImpressionBloomFilterQueryHydrator",
    "InferredGrokTopicsQueryHydrator",
    "IpQueryHydrator",
    "MutedUserIdsQueryHydrator",
    "MutualFollowQueryHydrator",
    "PastRequestTimestampsQueryHydrator",
    "RetrievalSequenceQueryHydrator",
    "ScoringSequenceQueryHydrator",
    "ServedHistoryQueryHydrator",
    "SubscribedUserIdsQueryHydrator",
    "UserActionSeqQueryHydrator",
    "UserDemographicsQueryHydrator",
    "UserFeaturesQueryHydrator",
    "UserInferredGenderQueryHydrator",
]

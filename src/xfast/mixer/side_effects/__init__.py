"""Side effects of both pipelines, one per module (HOME_MIXER §12)."""

from xfast.mixer.side_effects.ads_injection_logging import AdsInjectionLoggingSideEffect
from xfast.mixer.side_effects.cache_request_info import CacheRequestInfoSideEffect
from xfast.mixer.side_effects.client_events import ClientEventsSideEffect
from xfast.mixer.side_effects.for_you_response_stats import ForYouResponseStatsSideEffect
from xfast.mixer.side_effects.mutual_follow_stats import MutualFollowStatsSideEffect
from xfast.mixer.side_effects.phoenix_experiments import PhoenixExperimentsSideEffect
from xfast.mixer.side_effects.phoenix_request_cache import PhoenixRequestCacheSideEffect
from xfast.mixer.side_effects.publish_seen_ids import PublishSeenIdsSideEffect
from xfast.mixer.side_effects.redis_post_candidate_cache import RedisPostCandidateCacheSideEffect
from xfast.mixer.side_effects.reranking_kafka import RerankingKafkaSideEffect
from xfast.mixer.side_effects.scored_stats import ScoredStatsSideEffect
from xfast.mixer.side_effects.served_candidates import ServedCandidatesSideEffect
from xfast.mixer.side_effects.truncate_served_history import TruncateServedHistorySideEffect
from xfast.mixer.side_effects.update_past_request_timestamps import UpdatePastRequestTimestampsSideEffect
from xfast.mixer.side_effects.update_served_history import UpdateServedHistorySideEffect

__all__ = [
    "AdsInjectionLoggingSideEffect",
    "CacheRequestInfoSideEffect",
    "ClientEventsSideEffect",
    "ForYouResponseStatsSideEffect",
    "MutualFollowStatsSideEffect",
    "PhoenixExperimentsSideEffect",
    "PhoenixRequestCacheSideEffect",
    "PublishSeenIdsSideEffect",
    "RedisPostCandidateCacheSideEffect",
    "RerankingKafkaSideEffect",
    "ScoredStatsSideEffect",
    "ServedCandidatesSideEffect",
    "TruncateServedHistorySideEffect",
    "UpdatePastRequestTimestampsSideEffect",
    "UpdateServedHistorySideEffect",
]

"""Sources of candidates and of feed items, one per module (HOME_MIXER §5)."""

from xfast.mixer.sources.ads import AdsSource
from xfast.mixer.sources.cached_posts import CachedPostsSource
from xfast.mixer.sources.fallback import FallbackSource
from xfast.mixer.sources.phoenix import PhoenixSource
from xfast.mixer.sources.phoenix_moe import PhoenixMOESource
from xfast.mixer.sources.phoenix_topics import PhoenixTopicsSource
from xfast.mixer.sources.prompts import PromptsSource
from xfast.mixer.sources.push_to_home import PushToHomeSource
from xfast.mixer.sources.scored_posts import ScoredPostsSource
from xfast.mixer.sources.thunder import ThunderSource
from xfast.mixer.sources.tweet_mixer import TweetMixerSource
from xfast.mixer.sources.who_to_follow import WhoToFollowSource

__all__ = [
    "AdsSource",
    "CachedPostsSource",
    "FallbackSource",
    "PhoenixMOESource",
    "PhoenixSource",
    "PhoenixTopicsSource",
    "PromptsSource",
    "PushToHomeSource",
    "ScoredPostsSource",
    "ThunderSource",
    "TweetMixerSource",
    "WhoToFollowSource",
]

"""The seventeen filters of the home mixer, one per module (HOME_MIXER §7)."""

from xfast.mixer.filters.age import AgeFilter
from xfast.mixer.filters.ancillary_vf import AncillaryVFFilter
from xfast.mixer.filters.author_socialgraph import AuthorSocialgraphFilter
from xfast.mixer.filters.core_data_hydration import CoreDataHydrationFilter
from xfast.mixer.filters.dedup_conversation import DedupConversationFilter
from xfast.mixer.filters.drop_duplicates import DropDuplicatesFilter
from xfast.mixer.filters.ineligible_subscription import IneligibleSubscriptionFilter
from xfast.mixer.filters.muted_keyword import MutedKeywordFilter
from xfast.mixer.filters.new_user_topic_ids import NewUserTopicIdsFilter
from xfast.mixer.filters.previously_seen_posts import PreviouslySeenPostsFilter
from xfast.mixer.filters.previously_seen_posts_backup import PreviouslySeenPostsBackupFilter
from xfast.mixer.filters.previously_served_posts import PreviouslyServedPostsFilter
from xfast.mixer.filters.retweet_deduplication import RetweetDeduplicationFilter
from xfast.mixer.filters.self_tweet import SelfTweetFilter
from xfast.mixer.filters.topic_ids import TopicIdsFilter
from xfast.mixer.filters.vf import VFFilter
from xfast.mixer.filters.video import VideoFilter

__all__ = [
    "AgeFilter",
    "AncillaryVFFilter",
    "AuthorSocialgraphFilter",
    "CoreDataHydrationFilter",
    "DedupConversationFilter",
    "DropDuplicatesFilter",
    "IneligibleSubscriptionFilter",
    "MutedKeywordFilter",
    "NewUserTopicIdsFilter",
    "PreviouslySeenPostsBackupFilter",
    "PreviouslySeenPostsFilter",
    "PreviouslyServedPostsFilter",
    "RetweetDeduplicationFilter",
    "SelfTweetFilter",
    "TopicIdsFilter",
    "VFFilter",
    "VideoFilter",
]

"""A useful default in this process for every collaborator of the mixer.

Stores answer for viewers, posts, labels and history; Thunder and Phoenix run in-process; suggestions come from the
follow graph, ads from a campaign file, popularity and co-engagement from the event stream. Gender and location stay
unknown unless declared: nothing is inferred from a name, a face or an address.
"""

from xfast.mixer.embedded.assembly import embedded_collaborators
from xfast.mixer.embedded.campaigns import Campaign, CampaignAds
from xfast.mixer.embedded.discovery import Discovery
from xfast.mixer.embedded.interests import InterestRetrieval
from xfast.mixer.embedded.models import LocalRanker, LocalRetrieval, LocalThunder
from xfast.mixer.embedded.simple import DeclaredGender, MemorySink, NoLocation, StaticPrompts
from xfast.mixer.embedded.store_posts import StorePosts
from xfast.mixer.embedded.store_safety import LabelVisibility, StoreLabels
from xfast.mixer.embedded.store_viewers import StoreViewers
from xfast.mixer.embedded.suggestions import FollowGraphSuggestions

__all__ = [
    "Campaign",
    "CampaignAds",
    "DeclaredGender",
    "Discovery",
    "FollowGraphSuggestions",
    "InterestRetrieval",
    "LabelVisibility",
    "LocalRanker",
    "LocalRetrieval",
    "LocalThunder",
    "MemorySink",
    "NoLocation",
    "StaticPrompts",
    "StoreLabels",
    "StorePosts",
    "StoreViewers",
    "embedded_collaborators",
]

"""``xfast.Feed``: a network's events and two models in, ranked and explained posts out."""

from xfast.feed.config import FeedConfig
from xfast.feed.explain import Explanation, Story
from xfast.feed.feed import Feed
from xfast.feed.network import Erased, Network, Retention
from xfast.feed.page import (
    Account,
    FeedItem,
    FeedPage,
    PromotedItem,
    PromptItem,
    PushedItem,
    Removed,
    SuggestionsItem,
)

__all__ = [
    "Account",
    "Erased",
    "Explanation",
    "Feed",
    "FeedConfig",
    "FeedItem",
    "FeedPage",
    "Network",
    "PromotedItem",
    "PromptItem",
    "PushedItem",
    "Removed",
    "Retention",
    "Story",
    "SuggestionsItem",
]

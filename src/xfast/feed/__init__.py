"""``xfast.Feed``: a network's events and two models in, ranked and explained posts out."""

from xfast.feed.feed import Feed, FeedItem, FeedPage, Removed

__all__ = ["Feed", "FeedItem", "FeedPage", "Removed"]

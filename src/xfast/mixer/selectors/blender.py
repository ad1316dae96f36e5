"""Blender: posts, ads, prompts, suggestions and a pushed post become one feed (HOME_MIXER §11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xfast.mixer.ads.blender import AdsBlender
from xfast.mixer.ads.partition_organic import PartitionOrganic
from xfast.mixer.ads.safe_gap import SafeGap
from xfast.mixer.clients import AdInfo
from xfast.mixer.items import FeedItem, FeedItems, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Selector

__all__ = ["Assembled", "BlenderSelector"]


@dataclass(frozen=True, slots=True)
class Assembled:
    """The blended feed and how many posts and ads found no place."""

    items: list[FeedItem]
    lost_posts: int
    lost_ads: int


def _give_way(feed: list[FeedItem], size: int) -> None:
    """Take the last ads out of a feed that is too long, so that its cut costs no post its place."""
    for index in range(len(feed) - 1, -1, -1):
        if len(feed) <= size:
            return
        if isinstance(feed[index].item, AdInfo):
            del feed[index]


class BlenderSelector(Selector[ScoredPostsQuery, FeedItems]):
    """Blend by the configured ads blender, then insert prompts, the first suggestion module and the pushed post.

    In reference mode inserted items do not move the numbers of the others; in fixed mode positions are numbered last.
    """

    def __init__(self, quirks: Quirks = "fixed") -> None:
        self.quirks = quirks

    def blender(self, params: Params) -> AdsBlender:
        """The ads blender that ``AdsBlenderType`` names; anything but ``safe_gap`` is PartitionOrganic."""
        kind = SafeGap if params.ads_blender_type == "safe_gap" else PartitionOrganic
        return kind(params.result_size, params.min_posts_for_ads, self.quirks, self.metrics)

    def blend(self, params: Params, items: Sequence[FeedItem]) -> Assembled:
        """Assemble the feed."""
        batch = FeedItems(items)
        posts, ads = batch.of_type(ScoredPost), batch.of_type(AdInfo)
        blended = self.blender(params).blend(posts, ads)
        feed = list(blended)
        for index, prompt in enumerate(batch.of_type(Prompt)):
            feed.insert(index, FeedItem(prompt, params.prompts_position))
        modules = batch.of_type(WhoToFollowModule)
        if modules:
            place = min(max(params.who_to_follow_position - 1, 0), len(feed))
            feed.insert(place, FeedItem(modules[0], params.who_to_follow_position))
        pushed = batch.of_type(PushToHomePost)
        if pushed:
            feed.insert(0, FeedItem(pushed[-1], 0))
        if self.quirks == "fixed":
            _give_way(feed, params.for_you_max_result_size)
            feed = [item.at(position) for position, item in enumerate(feed)]
        shown = FeedItems(feed)
        return Assembled(feed, len(posts) - len(shown.of_type(ScoredPost)), len(ads) - len(shown.of_type(AdInfo)))

    def assemble(self, query: ScoredPostsQuery, batch: FeedItems) -> tuple[FeedItems, FeedItems]:
        made = self.blend(query.params, batch.items)
        # Placeholders, as in the release: they are only counted.
        lost_posts, lost_ads = [FeedItem(ScoredPost(0))] * made.lost_posts, [FeedItem(AdInfo(0))] * made.lost_ads
        return FeedItems(made.items), FeedItems([*lost_posts, *lost_ads])

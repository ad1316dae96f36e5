"""IneligibleSubscription: posts for subscribers only."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class IneligibleSubscriptionFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts for subscribers of an author whom the viewer does not subscribe to (HOME_MIXER §7.6).

    There is no exception for the viewer's own posts.
    """

    why = "for subscribers of the author"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        exclusive = batch.is_set("subscription_author_id")
        if not exclusive.any():
            return ~exclusive
        subscribed = IdSet(query.user_features.subscribed_user_ids)
        return ~exclusive | subscribed.contains(batch.values("subscription_author_id"))

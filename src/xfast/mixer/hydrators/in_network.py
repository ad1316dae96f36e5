"""InNetwork: is the author the viewer, or followed by them."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Hydration, Hydrator


class InNetworkHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``in_network``; a retweet counts by its retweeter. Off for cached posts, which keep theirs."""

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        authors = batch.author_id
        followed = IdSet(query.user_features.followed_user_ids)
        return Hydration({"in_network": followed.contains(authors) | (authors == np.uint64(query.user_id))})

"""SelfTweet: nobody is recommended to themselves."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class SelfTweetFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts by the viewer (HOME_MIXER §7.4).

    The viewer's retweets go too; being retweeted or quoted by others does not remove a post.
    """

    why = "the viewer's own"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        mask: Mask = batch.author_id != np.uint64(query.user_id)
        return mask

"""DedupConversation: one post per conversation."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import best_of_each, smallest_or_own
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Filter, FilterResult


class DedupConversationFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep the best post of every conversation, in the place of its first one (HOME_MIXER §7.17).

    A conversation is named by the smallest ancestor id, else by the own id (fixed mode: the original's), so that two
    retweets of one post are one conversation. An unset score counts as 0; of equal ones the earlier stays. The output
    can therefore be out of score order.
    """

    why = "another post of the conversation scores higher"

    def __init__(self, quirks: Quirks = "fixed") -> None:
        self.quirks = quirks

    def filter(self, query: ScoredPostsQuery, batch: CandidateBatch) -> FilterResult:
        ancestors = batch.ragged("ancestors")
        own = batch.original_id if self.quirks == "fixed" else batch.tweet_id
        keys = smallest_or_own(ancestors.values, ancestors.offsets, own)
        kept, removed = best_of_each(keys, np.ascontiguousarray(batch.column("score").filled(0.0)))
        return FilterResult(kept, removed)

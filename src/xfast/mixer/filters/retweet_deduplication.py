"""RetweetDeduplication: one showing per original post."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import first_of_each
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class RetweetDeduplicationFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep the first of several candidates that show the same original (HOME_MIXER §7.5).

    Score-blind on purpose: it runs before scoring, so source order decides, and an earlier retweet removes a later
    original.
    """

    why = "the same post, or a repost of it, came before"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        return first_of_each(batch.original_id)

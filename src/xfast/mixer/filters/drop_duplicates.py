"""DropDuplicates: several sources may bring the same post."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import first_of_each
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class DropDuplicatesFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep the first occurrence of every post id (HOME_MIXER §7.1); earlier sources win."""

    why = "brought by another source before"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        return first_of_each(batch.tweet_id)

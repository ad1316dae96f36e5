"""Age: only posts younger than the configured maximum."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class AgeFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep posts whose own age is known and at most ``MAX_POST_AGE`` (HOME_MIXER §7.3).

    The wrapper's age counts, never the retweeted post's; a post from the future has no age.
    """

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        ages, known = batch.ages_ms(query.request_time_ms)
        mask: Mask = known & (ages <= query.params.max_post_age * 1_000)
        return mask

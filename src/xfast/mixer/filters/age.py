"""Age: only posts younger than the configured maximum."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class AgeFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Keep posts whose own age is known and at most ``MAX_POST_AGE`` (HOME_MIXER §7.3).

    The wrapper's age counts, never the retweeted post's; a post from the future has no age.

    Parameters
    ----------
    max_age_ms
        Instead of the parameter of the request.
    """

    why = "older than MAX_POST_AGE, or from the future"

    def __init__(self, max_age_ms: int | None = None) -> None:
        self._max_age_ms = max_age_ms

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        limit = query.params.max_post_age * 1_000 if self._max_age_ms is None else self._max_age_ms
        ages, known = batch.ages_ms(query.request_time_ms)
        mask: Mask = known & (ages <= limit)
        return mask

"""AncillaryVF: posts that hang on a hidden one go with it."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class AncillaryVFFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop a post whose ancestor, quoted or retweeted post must not be shown (HOME_MIXER §7.16)."""

    why = "hangs on a post that must not be shown"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        return ~batch.is_true("drop_ancillary_posts")

"""PreviouslySeenPostsBackup: impressions by id, beside the filters."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.filters.related import any_related
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class PreviouslySeenPostsBackupFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts with a related id among ``impressed_post_ids`` (HOME_MIXER §7.8).

    The release never fills that list; in fixed mode a query hydrator does.
    """

    why = "was on screen in the last days"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        if not len(query.impressed_post_ids):
            return np.ones(len(batch), np.bool_)
        return ~any_related(batch, IdSet(query.impressed_post_ids))

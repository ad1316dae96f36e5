"""PreviouslyServedPosts: what an earlier page already contained."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import RequestContext
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.filters.related import any_related
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class PreviouslyServedPostsFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts with a related id among ``served_ids`` (HOME_MIXER §7.9).

    Runs for every request where ``EnableServedFilterAllRequests`` is on, else only when more is loaded at the bottom.
    """

    why = "served on a recent page"

    def enable(self, query: ScoredPostsQuery) -> bool:
        if query.params.enable_served_filter_all_requests:
            return True
        return query.is_bottom_request and query.request_context != RequestContext.FOREGROUND_TRUNCATE

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        if not len(query.served_ids):
            return np.ones(len(batch), np.bool_)
        return ~any_related(batch, IdSet(query.served_ids))

"""PreviouslySeenPosts: what the client or the impression store says was on screen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.filters.related import Membership, any_related
from xfast.mixer.query import BloomFilterEntry, ScoredPostsQuery
from xfast.pipeline import Filter, Mask


def open_entry(entry: BloomFilterEntry) -> Membership:
    """A :class:`xfast.sketch.BloomFilter` over a serialised entry."""
    from xfast.sketch import BloomFilter

    return BloomFilter(entry.bloom_filter, entry.size_cap, entry.false_positive_rate)


class PreviouslySeenPostsFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts with a related id among ``seen_ids`` or in an impression filter (HOME_MIXER §7.7).

    A reply to a seen post goes too; quoted posts and further ancestors are not looked at.

    Parameters
    ----------
    bloom
        Makes a filter with ``contains(ids) -> mask`` of an entry; the scheme is pluggable because the release's is
        unpublished.
    """

    why = "seen before, or answers a post seen before"

    def __init__(self, bloom: Callable[[BloomFilterEntry], Membership] = open_entry) -> None:
        self._bloom = bloom

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        hit = np.zeros(len(batch), np.bool_)
        if len(query.seen_ids):
            hit |= any_related(batch, IdSet(query.seen_ids))
        for entry in query.bloom_filter_entries:
            hit |= any_related(batch, self._bloom(entry))
        return ~hit

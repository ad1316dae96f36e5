"""Related ids: a post, the post it retweets and the post it answers are "the same" to the history filters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.pipeline import Mask

__all__ = ["Membership", "any_related", "related_ids"]


class Membership(Protocol):
    """Something that may contain ids."""

    def contains(self, ids: npt.NDArray[np.uint64]) -> Mask:
        """Mask of ids that may have been added."""
        ...


def related_ids(batch: CandidateBatch) -> Iterator[tuple[npt.NDArray[np.uint64], Mask | None]]:
    """Columns of related ids with the mask of set cells: own, retweeted, answered (HOME_MIXER, notation)."""
    yield batch.tweet_id, None
    for name in ("retweeted_tweet_id", "in_reply_to_tweet_id"):
        if batch.has(name):
            column = batch.column(name)
            yield column.values, column.valid


def any_related(batch: CandidateBatch, members: IdSet | Membership) -> Mask:
    """Mask of the posts of which a related id is, or may be, a member."""
    hit = np.zeros(len(batch), np.bool_)
    for ids, valid in related_ids(batch):
        if isinstance(members, IdSet):
            members.mark(ids, valid, hit)
        elif valid is None:
            hit |= members.contains(ids)
        elif valid.any():
            hit |= members.contains(ids) & valid
    return hit

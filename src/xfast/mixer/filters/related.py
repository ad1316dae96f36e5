"""Related ids: a post, the post it retweets and the post it answers are "the same" to the history filters."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.pipeline import Mask

__all__ = ["any_related", "related_ids"]


def related_ids(batch: CandidateBatch) -> Iterator[tuple[npt.NDArray[np.uint64], Mask | None]]:
    """Columns of related ids with the mask of set cells: own, retweeted, answered (HOME_MIXER, notation)."""
    yield batch.tweet_id, None
    for name in ("retweeted_tweet_id", "in_reply_to_tweet_id"):
        if batch.has(name):
            column = batch.column(name)
            yield column.values, column.valid


def any_related(batch: CandidateBatch, contains: Callable[[npt.NDArray[np.uint64]], Mask]) -> Mask:
    """Mask of the posts with a related id for which ``contains`` answers true."""
    hit = np.zeros(len(batch), np.bool_)
    for ids, valid in related_ids(batch):
        if valid is None:
            hit |= contains(ids)
        elif valid.any():
            hit |= contains(ids) & valid
    return hit

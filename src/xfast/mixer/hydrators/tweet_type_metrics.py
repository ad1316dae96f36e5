"""TweetTypeMetrics: what kind of post this is, as a bit string for analytics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator

__all__ = ["TweetTypeMetricsHydrator", "tweet_type_bytes", "tweet_type_flags"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
#: The first of the cumulative age bits and the largest age of each; from 12 to 24 hours none is set (HOME_MIXER §6).
_AGE_BIT = 154
_AGES = np.array([30 * _MINUTE, _HOUR, 6 * _HOUR, 12 * _HOUR])
_OLD_BIT, _OLD = 158, 24 * _HOUR
#: The first bits of the classes of followers and of own videos, and where each class but the first begins: 10 s are
#: still "up to 10 s".
_FOLLOWER_BIT, _BITS = 309, 315
_FOLLOWERS = np.array([100, 1_000, 10_000, 100_000, 1_000_000], np.uint32)
_VIDEO_BIT = 151
_VIDEO = np.array([10_001, 60_001])
#: (bit, number of served posts below which it is set).
_SERVED = ((23, 3), (32, 1), (39, 20), (40, 10), (41, 5))

Flags = npt.NDArray[np.bool_]


def tweet_type_flags(query: ScoredPostsQuery, batch: CandidateBatch) -> Flags:
    """Which bits each post has: ``[N, 315]``."""
    flags = np.zeros((len(batch), _BITS), np.bool_)
    served = len(query.served_ids)
    flags[:, [0, *(bit for bit, below in _SERVED if served < below)]] = True
    flags[:, 1] = batch.is_set("retweeted_tweet_id")
    flags[:, 2] = batch.is_set("in_reply_to_tweet_id")
    flags[:, 5] = has_video = batch.is_set("min_video_duration_ms")
    flags[:, 10] = batch.is_set("subscription_author_id")
    flags[:, 37] = batch.ragged("ancestors").lengths() > 0
    score = batch.column("score")
    flags[:, 38] = score.mask() & (score.values != 0)
    flags[:, 80] = ~batch.is_false("in_network")
    _classify(flags, batch.values("min_video_duration_ms"), has_video, _VIDEO, _VIDEO_BIT)
    ages, known = batch.ages_ms(query.request_time_ms)
    flags[:, _AGE_BIT : _AGE_BIT + len(_AGES)] = known[:, np.newaxis] & (ages[:, np.newaxis] <= _AGES)
    flags[:, _OLD_BIT] = known & (ages >= _OLD)
    followers = batch.values("author_followers_count").view(np.uint32)
    _classify(flags, followers, batch.is_set("author_followers_count"), _FOLLOWERS, _FOLLOWER_BIT)
    return flags


def _classify(flags: Flags, values: npt.NDArray[Any], known: Flags, edges: npt.NDArray[Any], first_bit: int) -> None:
    """Set the bit of each known value's class; a value on an edge belongs to the class above."""
    rows = np.flatnonzero(known)
    flags[rows, first_bit + np.searchsorted(edges, values[rows], side="right")] = True


def tweet_type_bytes(flags: Flags) -> npt.NDArray[np.object_]:
    """Per post the bytes in which bit ``i`` is bit ``i % 8`` of byte ``i // 8``, as long as the last bit needs."""
    packed = np.packbits(flags, axis=1, bitorder="little")
    width, everything = packed.shape[1], packed.tobytes()
    out = np.empty(len(flags), np.object_)
    for row in range(len(flags)):
        out[row] = everything[row * width : (row + 1) * width].rstrip(b"\0")
    return out


class TweetTypeMetricsHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``tweet_type_metrics``."""

    def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        return Hydration({"tweet_type_metrics": Column(tweet_type_bytes(tweet_type_flags(query, batch)))})

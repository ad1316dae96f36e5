"""TweetTypeMetrics: what kind of post this is, as a bit string for analytics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator

__all__ = ["TweetTypeMetricsHydrator", "tweet_type_bits", "tweet_type_bytes"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
#: Cumulative age bits and the largest age of each; between 12 and 24 hours none is set (HOME_MIXER §6).
_AGE_BITS = (154, 155, 156, 157)
_AGES = np.array([30 * _MINUTE, _HOUR, 6 * _HOUR, 12 * _HOUR])
_OLD_BIT, _OLD = 158, 24 * _HOUR
#: Classes of followers and of own videos, and where each one but the first begins: 10 s are still "up to 10 s".
_FOLLOWER_BITS = (309, 310, 311, 312, 313, 314)
_FOLLOWERS = np.array([100, 1_000, 10_000, 100_000, 1_000_000], np.uint32)
_VIDEO_BITS = (151, 152, 153)
_VIDEO = np.array([10_001, 60_001])
#: (bit, number of served posts below which it is set).
_SERVED = ((23, 3), (32, 1), (39, 20), (40, 10), (41, 5))

Mask = npt.NDArray[np.bool_]


def _classes(values: npt.NDArray[Any], known: Mask, edges: npt.NDArray[Any], bits: tuple[int, ...]) -> dict[int, Mask]:
    """Bit -> posts whose value lies in its class; a value on an edge belongs to the class above."""
    place = np.where(known, np.searchsorted(edges, values, side="right"), -1)
    return {bit: place == index for index, bit in enumerate(bits)}


def tweet_type_bits(query: ScoredPostsQuery, batch: CandidateBatch) -> dict[int, Mask]:
    """Bit number -> mask of the posts that have it."""
    has_video = batch.is_set("min_video_duration_ms")
    score = batch.column("score")
    ages, known = batch.ages_ms(query.request_time_ms)
    followers = batch.values("author_followers_count").astype(np.uint32)
    young = known & (ages <= _AGES[:, np.newaxis])
    served = np.repeat([[len(query.served_ids) < below] for _, below in _SERVED], len(batch), axis=1)
    return {
        0: np.ones(len(batch), np.bool_),
        1: batch.is_set("retweeted_tweet_id"),
        2: batch.is_set("in_reply_to_tweet_id"),
        5: has_video,
        10: batch.is_set("subscription_author_id"),
        37: batch.ragged("ancestors").lengths() > 0,
        38: score.mask() & (score.values != 0),
        80: ~batch.is_false("in_network"),
        _OLD_BIT: known & (ages >= _OLD),
        **dict(zip(_AGE_BITS, young, strict=True)),
        **{bit: mask for (bit, _), mask in zip(_SERVED, served, strict=True)},
        **_classes(batch.values("min_video_duration_ms"), has_video, _VIDEO, _VIDEO_BITS),
        **_classes(followers, batch.is_set("author_followers_count"), _FOLLOWERS, _FOLLOWER_BITS),
    }


def tweet_type_bytes(bits: dict[int, Mask], length: int) -> npt.NDArray[np.object_]:
    """Per post the bytes in which bit ``i`` is bit ``i % 8`` of byte ``i // 8``, as long as the last bit needs."""
    flags = np.zeros((length, max(bits, default=0) + 1), np.bool_)
    for bit, mask in bits.items():
        flags[:, bit] = mask
    out = np.empty(length, np.object_)
    for row, packed in enumerate(np.packbits(flags, axis=1, bitorder="little")):
        out[row] = packed.tobytes().rstrip(b"\0")
    return out


class TweetTypeMetricsHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``tweet_type_metrics``."""

    def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        return Hydration({"tweet_type_metrics": Column(tweet_type_bytes(tweet_type_bits(query, batch), len(batch)))})

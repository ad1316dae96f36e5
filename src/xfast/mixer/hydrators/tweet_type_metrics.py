"""TweetTypeMetrics: what kind of post this is, as a bit string for analytics."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator

__all__ = ["TweetTypeMetricsHydrator", "tweet_type_bits", "tweet_type_bytes"]

_MINUTE = 60_000
_HOUR = 60 * _MINUTE
#: (bit, largest age in ms) of the cumulative age bits; between 12 and 24 hours none is set (HOME_MIXER §6).
_AGES = ((154, 30 * _MINUTE), (155, _HOUR), (156, 6 * _HOUR), (157, 12 * _HOUR))
_OLD = (158, 24 * _HOUR)
#: (bit, fewest followers), ascending.
_FOLLOWERS = ((309, 0), (310, 100), (311, 1_000), (312, 10_000), (313, 100_000), (314, 1_000_000))
#: (bit, number of served posts below which it is set).
_SERVED = ((23, 3), (32, 1), (39, 20), (40, 10), (41, 5))


def tweet_type_bits(query: ScoredPostsQuery, batch: CandidateBatch) -> dict[int, np.ndarray]:
    """Bit number -> mask of the posts that have it."""
    everyone = np.ones(len(batch), np.bool_)
    duration, has_video = batch.values("min_video_duration_ms"), batch.is_set("min_video_duration_ms")
    score = batch.column("score")
    ages, known = batch.ages_ms(query.request_time_ms)
    followers = batch.values("author_followers_count").astype(np.uint32)
    has_followers = batch.is_set("author_followers_count")
    bits = {
        0: everyone,
        1: batch.is_set("retweeted_tweet_id"),
        2: batch.is_set("in_reply_to_tweet_id"),
        5: has_video,
        10: batch.is_set("subscription_author_id"),
        37: batch.ragged("ancestors").lengths() > 0,
        38: score.mask() & (score.values != 0),
        80: ~batch.is_false("in_network"),
        151: has_video & (duration < 10_000),
        152: has_video & (duration >= 10_000) & (duration < 60_000),
        153: has_video & (duration >= 60_000),
        _OLD[0]: known & (ages >= _OLD[1]),
    }
    served = len(query.served_ids)
    bits.update({bit: everyone if served < below else ~everyone for bit, below in _SERVED})
    bits.update({bit: known & (ages <= oldest) for bit, oldest in _AGES})
    for index, (bit, fewest) in enumerate(_FOLLOWERS):
        mask = has_followers & (followers >= fewest)
        if index + 1 < len(_FOLLOWERS):
            mask &= followers < _FOLLOWERS[index + 1][1]
        bits[bit] = mask
    return bits


def tweet_type_bytes(bits: dict[int, np.ndarray], length: int) -> np.ndarray:
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

"""The 22 heads of the ranking model as the mixer stores them: one ``[N, 22]`` float64 column, NaN = unset."""

from __future__ import annotations

__all__ = ["CONTINUOUS_NUMBERS", "DISCRETE_NUMBERS", "HEADS", "HEAD_INDEX"]

#: Discrete head -> action number on the wire (HOME_MIXER §8.1), in the order of HOME_MIXER §1.
DISCRETE_NUMBERS: dict[str, int] = {
    "favorite": 1,
    "reply": 4,
    "retweet": 6,
    "photo_expand": 14,
    "click": 29,
    "profile_click": 30,
    "vqv": 13,
    "share": 37,
    "share_via_dm": 33,
    "share_via_copy_link": 32,
    "dwell": 11,
    "quote": 5,
    "quoted_click": 38,
    "quoted_vqv": 48,
    "follow_author": 21,
    "not_interested": 17,
    "block_author": 23,
    "mute_author": 25,
    "report": 16,
    "not_dwelled": 12,
}

#: Continuous head -> index among the model's continuous outputs.
CONTINUOUS_NUMBERS: dict[str, int] = {"dwell_time": 1, "click_dwell_time": 2}

#: Column order of ``phoenix_scores``.
HEADS: tuple[str, ...] = (*DISCRETE_NUMBERS, *CONTINUOUS_NUMBERS)
HEAD_INDEX: dict[str, int] = {name: index for index, name in enumerate(HEADS)}

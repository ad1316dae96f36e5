"""The 22 heads of the ranking model as the mixer stores them: one ``[N, 22]`` float64 column, NaN = unset."""

from __future__ import annotations

from xfast.actions import CONTINUOUS_HEADS, DISCRETE_HEADS, PROTO

__all__ = ["CONTINUOUS_NUMBERS", "DISCRETE_NUMBERS", "HEADS", "HEAD_INDEX"]

#: Discrete head -> action number on the wire (HOME_MIXER §8.1), in the order of HOME_MIXER §1.
DISCRETE_NUMBERS: dict[str, int] = {name: PROTO.column(name) for name in DISCRETE_HEADS}

#: Continuous head -> index among the model's continuous outputs.
CONTINUOUS_NUMBERS: dict[str, int] = {name: PROTO.continuous_column(name) for name in CONTINUOUS_HEADS}

#: Column order of ``phoenix_scores``.
HEADS: tuple[str, ...] = (*DISCRETE_HEADS, *CONTINUOUS_HEADS)
HEAD_INDEX: dict[str, int] = {name: index for index, name in enumerate(HEADS)}

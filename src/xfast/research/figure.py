"""Plots as data, so that a cached result can be drawn again without being computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Series:
    """One line, band or set of bars of a figure."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    kind: Literal["line", "points", "bars"] = "line"


@dataclass(frozen=True)
class Figure:
    """A plot: title, axes and series."""

    title: str
    xlabel: str
    ylabel: str
    series: Sequence[Series]
    logx: bool = False

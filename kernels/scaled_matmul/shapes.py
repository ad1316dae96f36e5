"""The shapes that tests, benchmarks and lowering checks share: rows, inputs, outputs, gated."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of one call; with ``gated`` the outputs are two halves of ``columns``."""

    rows: int
    inner: int
    columns: int
    gated: bool


MODELS = {
    "mini projection": Shape(64, 128, 384, False),
    "mini feed-forward": Shape(1024, 128, 352, True),
    "production projection": Shape(1024, 1024, 1024, False),
    "production feed-forward": Shape(1024, 1024, 2 * 1368, True),
}
ODD = [Shape(1, 3, 2, True), Shape(33, 130, 48, True), Shape(130, 129, 130, False)]

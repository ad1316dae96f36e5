"""The shapes that tests, benchmarks and lowering checks share."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of one call."""

    batch: int
    candidates: int
    context: int
    heads: int
    kv_heads: int
    head_size: int


MINI = Shape(1, 64, 128, 4, 4, 32)
MINI_WIDE = Shape(1, 1024, 128, 4, 4, 32)
PRODUCTION = Shape(1, 1024, 512, 8, 8, 128)
LONG = Shape(1, 8, 1024, 8, 4, 64)
MODELS = {"mini": MINI, "mini, 1,024 candidates": MINI_WIDE, "production": PRODUCTION, "long history": LONG}
ODD = [Shape(2, 3, 5, 3, 1, 8), Shape(1, 130, 129, 4, 2, 32), Shape(1, 65, 200, 6, 3, 24)]

"""How an implementation cuts a product; the API pads the operands to multiples."""

from __future__ import annotations

from typing import NamedTuple


class Tiles(NamedTuple):
    """Sizes of one step."""

    rows: int
    inner: int
    columns: int
    """Of one half where the product is gated."""

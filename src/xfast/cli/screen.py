"""The terminal as the commands write to it: never wider than is good to read, plain when piped."""

from __future__ import annotations

from rich.console import Console

__all__ = ["clipped", "console"]

_WIDEST = 120


def console() -> Console:
    """A console of at most 120 columns."""
    screen = Console(highlight=False, soft_wrap=False)
    if screen.width > _WIDEST:
        screen = Console(highlight=False, soft_wrap=False, width=_WIDEST)
    return screen


def clipped(text: str, width: int) -> str:
    """One line of at most ``width`` cells (wide characters take two), with an ellipsis where it was cut."""
    from rich.cells import cell_len, set_cell_size

    line = " ".join(text.split())
    return line if cell_len(line) <= width else set_cell_size(line, width - 1).rstrip() + "…"

"""What time it is for a feed: the machine's, or that of the newest event."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["FeedClock", "LiveClock", "ReplayClock"]


class FeedClock(Protocol):
    """One clock for stores, Thunder and the mixer, so that they agree."""

    def ms(self) -> int:
        """Unix time in milliseconds."""
        ...

    def now(self) -> float:
        """Unix time in seconds (what Thunder asks for)."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def seen(self, time_ms: int) -> None:
        """An event of that time was taken in."""
        ...


class LiveClock:
    """The machine's clock."""

    def ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // 1_000_000

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def seen(self, time_ms: int) -> None:
        """Events do not move this clock."""


class ReplayClock:
    """Stands at the newest event, so that recorded networks look as they did then.

    Parameters
    ----------
    time_ms
        Where it starts; it never goes back.
    """

    def __init__(self, time_ms: int = 0) -> None:
        self._ms = time_ms

    def ms(self) -> int:
        """Unix time in milliseconds."""
        return self._ms

    def now(self) -> float:
        """Unix time in seconds."""
        return self._ms / 1_000

    def monotonic(self) -> float:
        """The machine's, for deadlines."""
        return time.monotonic()

    def seen(self, time_ms: int) -> None:
        """Move to the event's time."""
        self._ms = max(self._ms, time_ms)

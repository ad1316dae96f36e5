"""Where the store gets its time from, so that a run can be replayed and a test can say what time it is."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]


class Clock(Protocol):
    """Two readings: the time of day, and a time that only moves forward."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; for deadlines."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved.

    Parameters
    ----------
    now
        Unix time in seconds.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.time = now

    def now(self) -> float:
        """Unix time in seconds."""
        return self.time

    def monotonic(self) -> float:
        """The same reading: it never goes back unless ``advance`` is given a negative step."""
        return self.time

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``."""
        self.time += seconds

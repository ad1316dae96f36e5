"""Counters and histograms in the process, and their Prometheus form when that package is there."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

__all__ = ["Histogram", "Metrics", "Series", "prometheus_name"]

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]

# Milliseconds and sizes alike fall into these; wide enough for both a 50 us hydrator and a 2,800 candidate list.
_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000)


@dataclass
class Histogram:
    """Count, sum and cumulative buckets of observed values."""

    bounds: tuple[float, ...] = _BOUNDS
    buckets: list[int] = field(default_factory=list)
    count: int = 0
    total: float = 0.0

    def __post_init__(self) -> None:
        self.buckets = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add one value."""
        self.buckets[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value

    def quantile(self, q: float) -> float:
        """Upper bound of the bucket that holds quantile ``q`` (infinity for the last one)."""
        seen = 0
        for bucket, bound in zip(self.buckets, (*self.bounds, float("inf")), strict=True):
            seen += bucket
            if seen >= q * self.count:
                return bound
        return float("inf")


class Series:
    """One counter or histogram, found once and written often; it exists from its first value on."""

    __slots__ = ("_histogram", "_key", "_metrics")

    def __init__(self, metrics: Metrics, key: Key) -> None:
        self._metrics = metrics
        self._key = key
        self._histogram: Histogram | None = None

    def count(self, value: float = 1) -> None:
        """Add to the counter."""
        metrics = self._metrics
        with metrics._lock:
            metrics._counters[self._key] = metrics._counters.get(self._key, 0) + value

    def observe(self, value: float) -> None:
        """Add one value to the histogram."""
        metrics = self._metrics
        with metrics._lock:
            self._own_histogram().observe(value)

    def _own_histogram(self) -> Histogram:
        if self._histogram is None:
            self._histogram = self._metrics._histograms.setdefault(self._key, Histogram())
        return self._histogram


class Metrics:
    """Named counters and histograms with labels; safe to use from several threads.

    Names are the public release's (``PartitionOrganic.enforcement`` with ``action="drop"``);
    :func:`prometheus_name` gives the name under which Prometheus sees them.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._counters: dict[Key, float] = {}
        self._histograms: dict[Key, Histogram] = {}

    def series(self, name: str, **labels: str) -> Series:
        """A counter or histogram for those who write it often."""
        return Series(self, (name, tuple(labels.items() if len(labels) < 2 else sorted(labels.items()))))

    def note(self, counted: Iterable[tuple[Series, float]], observed: Iterable[tuple[Series, float]]) -> None:
        """Add to many counters and histograms at once, which takes the lock once."""
        with self._lock:
            for series, value in counted:
                self._counters[series._key] = self._counters.get(series._key, 0) + value
            for series, value in observed:
                series._own_histogram().observe(value)

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        """Add ``value`` to a counter."""
        self.series(name, **labels).count(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one value to a histogram."""
        self.series(name, **labels).observe(value)

    def counter(self, name: str, **labels: str) -> float:
        """Current value of one counter (0 when it never counted)."""
        return self._counters.get((name, tuple(sorted(labels.items()))), 0)

    def histogram(self, name: str, **labels: str) -> Histogram | None:
        """One histogram, ``None`` when nothing was observed."""
        return self._histograms.get((name, tuple(sorted(labels.items()))))

    def counters(self) -> dict[tuple[str, Labels], float]:
        """A copy of all counters."""
        with self._lock:
            return dict(self._counters)

    def collect(self) -> Iterator[Any]:
        """Prometheus metric families (the collector protocol of ``prometheus_client``)."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        with self._lock:
            counters = dict(self._counters)
            histograms = {key: (list(h.buckets), h.bounds, h.total) for key, h in self._histograms.items()}
        families: dict[str, Any] = {}
        for (name, labels), value in counters.items():
            public = prometheus_name(name)
            keys = [key for key, _ in labels]
            family = families.setdefault(f"{public} {keys}", CounterMetricFamily(public, name, labels=keys))
            family.add_metric([text for _, text in labels], value)
        for (name, labels), (buckets, bounds, total) in histograms.items():
            public = prometheus_name(name)
            keys = [key for key, _ in labels]
            family = families.setdefault(f"{public} {keys}", HistogramMetricFamily(public, name, labels=keys))
            rows, seen = [], 0
            for bucket, bound in zip(buckets, (*map(str, bounds), "+Inf"), strict=True):
                seen += bucket
                rows.append((bound, seen))
            family.add_metric([text for _, text in labels], rows, total)
        yield from families.values()

    def register(self, registry: Any = None) -> None:
        """Show these metrics in a Prometheus registry (the default one unless given).

        Raises
        ------
        ImportError
            ``prometheus_client`` is missing; ``pip install 'xfast[serve]'`` brings it.
        """
        try:
            from prometheus_client import REGISTRY
        except ImportError as error:
            error.add_note("pip install 'xfast[serve]' brings prometheus_client")
            raise
        (registry or REGISTRY).register(self)


def prometheus_name(name: str) -> str:
    """Prometheus form of a metric name: ``PhoenixScorer.run`` becomes ``xfast_phoenix_scorer_run``."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return "xfast_" + re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")

"""Prometheus metrics of the in-network service and its ingestion (extra ``serve``).

Each server has a registry of its own, so that two can live in one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from xfast.thunder.columns import PostBatch
from xfast.thunder.consumer import Consumer
from xfast.thunder.lookup import InNetworkLookup

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SIZES = (0, 1, 10, 50, 100, 200, 500, 1000, 2000, 5000)
_AGES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)
_PER_AUTHOR = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_RATIOS = tuple(i / 10 for i in range(11))


class ServiceMetrics:
    """What the service counts per request, and the registry that is scraped."""

    def __init__(self, lookup: InNetworkLookup, consumers: Iterable[Consumer] = ()) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Any:
            return prometheus.Histogram(f"xfast_thunder_{name}", text, buckets=buckets, registry=self.registry)

        self.requests = prometheus.Counter(
            "xfast_thunder_requests", "Requests by status code", ["code"], registry=self.registry
        )
        self.timeouts = prometheus.Counter(
            "xfast_thunder_timeouts", "Answers cut short by the request timeout", registry=self.registry
        )
        self.deleted = prometheus.Counter(
            "xfast_thunder_deleted_skipped", "Timeline entries passed over as deleted", registry=self.registry
        )
        self.seconds = histogram("request_seconds", "Time from the handler's start to its answer", _SECONDS)
        self.lookup_seconds = histogram("lookup_seconds", "Time in the store alone", _SECONDS)
        self.following = histogram("following", "Followees per request, before the cut", _SIZES)
        self.excluded = histogram("excluded", "Excluded ids per request, before the cut", _SIZES)
        self.wanted = histogram("max_results", "Posts asked for; 0 is the default", _SIZES)
        self.returned = histogram("returned_posts", "Posts per answer", _SIZES)
        self.returned_ratio = histogram("returned_eligible_ratio", "Posts returned of those eligible", _RATIOS)
        self.freshness = histogram("freshness_seconds", "Age of the newest post of an answer", _AGES)
        self.span = histogram("time_range_seconds", "From the oldest to the newest post of an answer", _AGES)
        self.replies = histogram("reply_ratio", "Share of replies in an answer", _RATIOS)
        self.authors = histogram("authors", "Different authors of an answer", _SIZES)
        self.per_author = histogram("posts_per_author", "Posts per author of an answer, on average", _PER_AUTHOR)
        self.registry.register(_State(lookup, tuple(consumers)))

    def answered(self, batch: PostBatch, now: float) -> None:
        """Count what an answer looks like."""
        count = len(batch)
        self.returned.observe(count)
        self.deleted.inc(batch.deleted_skipped)
        if batch.timed_out:
            self.timeouts.inc()
        if batch.eligible:
            self.returned_ratio.observe(count / batch.eligible)
        if count:
            times = batch["created_at"]
            self.freshness.observe(max(0.0, now - float(times[0])))
            self.span.observe(float(times[0] - times[-1]))
            self.replies.observe(float(np.count_nonzero(batch["is_reply"])) / count)
            authors = len(np.unique(batch["author_id"]))
            self.authors.observe(authors)
            self.per_author.observe(count / authors)

    def render(self) -> bytes:
        """Return the exposition text."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self.registry)
        return text


class _State:
    """Gauges that are read when they are scraped: permits, store, ingestion."""

    def __init__(self, lookup: InNetworkLookup, consumers: tuple[Consumer, ...]) -> None:
        self.lookup, self.consumers = lookup, consumers

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily("xfast_thunder_in_flight", "Requests that hold a permit", value=self.lookup.in_flight)
        yield CounterMetricFamily("xfast_thunder_rejected", "Requests turned away", value=self.lookup.rejected)
        sizes = GaugeMetricFamily("xfast_thunder_store", "Sizes of the store", labels=["what"])
        for what, count in self.lookup.store.stats().items():
            sizes.add_metric([what], count)
        yield sizes
        memory = GaugeMetricFamily("xfast_thunder_memory_bytes", "Memory of the store", labels=["part"])
        for part, size in self.lookup.store.memory().items():
            memory.add_metric([part], size)
        yield memory
        yield from self._ingestion()

    def _ingestion(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        lag = GaugeMetricFamily("xfast_ingest_lag", "Messages not read yet", labels=["consumer", "partition"])
        ready = GaugeMetricFamily("xfast_ingest_ready", "1 once caught up", labels=["consumer"])
        last = GaugeMetricFamily(
            "xfast_ingest_last_message_timestamp_seconds", "When a message was last applied", labels=["consumer"]
        )
        catch_up = GaugeMetricFamily(
            "xfast_ingest_catch_up_seconds", "How long the catch-up took; 0 while it lasts", labels=["consumer"]
        )
        counts = CounterMetricFamily("xfast_ingest_events", "What was ingested", labels=["consumer", "what"])
        for consumer in self.consumers:
            stats = consumer.stats
            ready.add_metric([consumer.name], float(consumer.ready))
            last.add_metric([consumer.name], stats.last_message_time)
            catch_up.add_metric([consumer.name], stats.catch_up_seconds)
            counts.add_metric([consumer.name, "catch_up_timeouts"], float(stats.catch_up_timed_out))
            for partition, value in stats.lag.items():
                lag.add_metric([consumer.name, partition], float("nan") if value is None else value)
            for what in ("messages", "batches", "dead_letters", "retries", "saves", "save_failures"):
                counts.add_metric([consumer.name, what], getattr(stats, what))
            for what, value in dict(getattr(consumer.target, "counts", {})).items():
                counts.add_metric([consumer.name, what], value)
            for what in ("errors", "expired", "rebalances", "damaged"):
                if hasattr(consumer.source, what):
                    counts.add_metric([consumer.name, f"source_{what}"], getattr(consumer.source, what))
        yield from (lag, ready, last, catch_up, counts)

"""The gRPC service ``PhoenixService``: ranking and retrieval models by cluster id (HOME_MIXER §5, §8.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from xfast.errors import ConfigurationError, DataError, ParameterError
from xfast.phoenix.clusters import fit_sequence, model_of
from xfast.phoenix.context_cache import ContextCache
from xfast.phoenix.ranker import Ranker
from xfast.phoenix.retriever import Retriever
from xfast.phoenix.service import messages
from xfast.rpc import ListenOptions, RpcServer

__all__ = ["SERVICE", "PhoenixServer", "PhoenixServerOptions"]

SERVICE = "xfast.phoenix.PhoenixService"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SIZES = (0, 1, 10, 50, 100, 250, 500, 1000, 2000, 5000)


@dataclass(frozen=True, slots=True)
class PhoenixServerOptions(ListenOptions):
    """How the service listens and what it takes on.

    Parameters
    ----------
    address, metrics_port, workers, compression, max_message_bytes
        See :class:`xfast.rpc.ListenOptions`; the workers run models.
    max_concurrent
        Requests at a time; one more is turned away at once with RESOURCE_EXHAUSTED.
    max_candidates, max_results
        Larger requests are refused with INVALID_ARGUMENT.
    cache_bytes
        Memory for encoded viewers, per ranking model; 0 encodes every time.
    """

    max_message_bytes: int = 64 << 20
    max_concurrent: int = 64
    max_candidates: int = 10_000
    max_results: int = 10_000
    cache_bytes: int = 256 << 20

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {
        **ListenOptions.RANGES,
        "max_concurrent": (1, 100_000),
        "max_candidates": (1, 1 << 24),
        "max_results": (1, 1 << 24),
        "cache_bytes": (0, 1 << 40),
    }


class _AtCapacityError(Exception):
    pass


class PhoenixServer(RpcServer):
    """Serves models with health checking, reflection and metrics; ready as soon as it has started.

    Parameters
    ----------
    rankers, retrievers
        Cluster id -> model; ``"*"`` serves every cluster without its own.
    options
        See :class:`PhoenixServerOptions`.

    Raises
    ------
    ParameterError
        There is no model at all.
    """

    REFUSALS: ClassVar[Mapping[type[Exception], str]] = {
        _AtCapacityError: "RESOURCE_EXHAUSTED",
        ConfigurationError: "NOT_FOUND",
        ParameterError: "INVALID_ARGUMENT",
        DataError: "INVALID_ARGUMENT",
    }

    def __init__(
        self,
        rankers: Mapping[str, Ranker],
        retrievers: Mapping[str, Retriever],
        options: PhoenixServerOptions | None = None,
    ) -> None:
        if not rankers and not retrievers:
            raise ParameterError("rankers and retrievers are empty, must have at least one model")
        self.options = options or PhoenixServerOptions()
        self._rankers = dict(rankers)
        self._retrievers = dict(retrievers)
        size = self.options.cache_bytes
        # By model, not by cluster: clusters that share a model share what it has encoded.
        models = {id(ranker): ranker for ranker in self._rankers.values()}
        self._caches = {key: ContextCache(ranker, max_bytes=size) for key, ranker in models.items()} if size else {}
        self._in_flight = 0
        self._pool: ThreadPoolExecutor | None = None
        self._metrics()
        super().__init__(
            SERVICE,
            {"Predict": partial(self._admitted, self._predict), "Retrieve": partial(self._admitted, self._retrieve)},
            messages.service_file(),
            options=self.options,
            render_metrics=self.render_metrics,
            observe=self._count,
        )

    def _metrics(self) -> None:
        import prometheus_client as prometheus

        self._registry = registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "xfast_phoenix_requests", "Requests by method and status code", ["method", "code"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "xfast_phoenix_request_seconds", "From the handler's start to its answer", ["method"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._sizes = prometheus.Histogram(
            "xfast_phoenix_posts", "Candidates scored or posts found", ["method"], buckets=_SIZES, registry=registry
        )
        gauge = prometheus.Gauge("xfast_phoenix_in_flight", "Requests that hold a permit", registry=registry)
        gauge.set_function(lambda: self._in_flight)
        for name in ("hits", "misses"):
            cached = prometheus.Gauge(f"xfast_phoenix_context_{name}", f"Encoded viewers: {name}", registry=registry)
            cached.set_function(partial(self._cached, name))

    def _cached(self, name: str) -> int:
        return sum(getattr(cache.stats, name) for cache in self._caches.values())

    def render_metrics(self) -> bytes:
        """The text of ``/metrics``."""
        from prometheus_client import generate_latest

        text: bytes = generate_latest(self._registry)
        return text

    async def start(self) -> None:
        """Open the sockets and become ready.

        Raises
        ------
        XfastError
            The address cannot be bound.
        """
        self._pool = ThreadPoolExecutor(self.options.workers, thread_name_prefix="xfast-model")
        await super().start()
        await self.set_ready(True)

    async def stop(self, grace: float = 10.0) -> None:
        """Become not ready, refuse new requests, let those in flight finish for ``grace`` seconds, close all."""
        await super().stop(grace)
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    # --- one request ----------------------------------------------------------------------------------------------

    def _count(self, method: str, code: str, seconds: float) -> None:
        self._requests.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    async def _admitted(self, work: Callable[[bytes], bytes], message: bytes, context: Any) -> bytes:
        # Only the event loop counts, so no lock is needed.
        if self._in_flight >= self.options.max_concurrent:
            raise _AtCapacityError(f"the server is at capacity: {self.options.max_concurrent} requests are in flight")
        left = context.time_remaining()
        if left is not None and left <= 0:
            raise TimeoutError
        running = asyncio.get_running_loop().run_in_executor(self._pool, work, message)
        self._in_flight += 1
        # A request that nobody waits for any more still keeps a thread busy, so its permit is not free before it ends.
        running.add_done_callback(self._release)
        return await asyncio.wait_for(asyncio.shield(running), left)

    def _release(self, running: asyncio.Future[bytes]) -> None:
        self._in_flight -= 1
        if not running.cancelled():
            running.exception()  # seen: an abandoned request must not warn about it

    def _predict(self, message: bytes) -> bytes:
        asked = messages.read_predict(message)
        count = len(asked.candidates)
        if count > self.options.max_candidates:
            raise ParameterError(f"post_ids has {count} entries, must be at most {self.options.max_candidates}")
        ranker = model_of(self._rankers, asked.cluster)
        encoder = self._caches.get(id(ranker), ranker)
        context = encoder.encode(fit_sequence(asked.sequence, ranker.config.num_actions), keep="newest")
        scores = ranker.score(context, asked.candidates)
        self._sizes.labels("Predict").observe(count)
        return messages.write_predicted(
            messages.Predicted(scores.probabilities, scores.continuous, asked.prediction_id)
        )

    def _retrieve(self, message: bytes) -> bytes:
        asked = messages.read_retrieve(message)
        if not 1 <= asked.max_results <= self.options.max_results:
            raise ParameterError(f"max_results is {asked.max_results}, must be in [1, {self.options.max_results}]")
        retriever = model_of(self._retrievers, asked.cluster).pinned()  # one model for the vector and the corpus
        hits = retriever.search(
            retriever.encode(fit_sequence(asked.sequence, retriever.config.num_actions), keep="newest"),
            asked.max_results,
            exclude_ids=asked.exclude_ids,
            topic_ids=asked.topic_ids if len(asked.topic_ids) else None,
        )
        self._sizes.labels("Retrieve").observe(len(hits.post_ids))
        return messages.write_retrieved(messages.Retrieved(hits.post_ids, hits.author_ids, hits.scores))

"""The two things that outlive a request: an event loop for callers without one, and side effects."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from xfast.pipeline.execution import Call, run_concurrently
from xfast.pipeline.metrics import Metrics

__all__ = ["BackgroundLoop", "SideEffects"]

_log = logging.getLogger("xfast.pipeline")


class BackgroundLoop:
    """An event loop in a daemon thread, for callers that have none."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="xfast-pipeline-loop", daemon=True)
        self._thread.start()

    def call(self, coroutine: Any) -> Any:
        """Run a coroutine and wait for its result."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the pipeline's own thread cannot wait for itself; use 'await pipeline.execute(query)'")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SideEffects:
    """Side effects under way: one task per request, a bounded number of them, errors counted and logged only.

    Parameters
    ----------
    name
        Of the pipeline, for metrics and logs.
    limit
        Requests whose side effects may be under way at once; beyond it they are dropped and counted.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        metrics: Metrics,
        executor: Executor | None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = name
        self.limit = limit
        self._metrics = metrics
        self._executor = executor
        self._timer = timer
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, calls: list[Call]) -> None:
        """Start the side effects of one request in the background."""
        if not calls:
            return
        if len(self._tasks) >= self.limit:
            self._metrics.count(f"{self.name}.side_effects", result="dropped")
            _log.warning("%s: side effects of a request dropped, %d are under way", self.name, len(self._tasks))
            return
        task = asyncio.get_running_loop().create_task(self._run(calls))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, calls: list[Call]) -> None:
        # The answer leaves first.
        await asyncio.sleep(0)
        outcomes = await run_concurrently(calls, left_ms=None, executor=self._executor, timer=self._timer)
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.error is None:
                self._metrics.observe(f"{call.component.name}.run", outcome.elapsed_ms, series="latency_ms")
            else:
                error = outcome.error
                self._metrics.count(f"{call.component.name}.run", result="error", error=type(error).__name__)
                level = call.policy.log_level
                _log.log(level, "side effect %s of %s failed: %s", call.component.name, self.name, error)

    async def drain(self) -> None:
        """Wait for the side effects that this event loop has started so far.

        Later ones are not waited for, so that this ends under load, too.
        """
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(task for task in list(self._tasks) if task.get_loop() is loop))

"""The pipeline: thirteen steps in a fixed order, every failure contained, every step visible.

The order (HOME_MIXER §2): query hydrators, dependent query hydrators, sources, hydrators (and dependent hydrators),
filters, scorers, selector, post-selection hydrators and filters (with back-fill if asked for), the size limit,
``finalize``, metrics, side effects in the background.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from xfast.errors import ConfigurationError, DataError, ParameterError
from xfast.pipeline.components import (
    Batch,
    Component,
    Filter,
    FilterResult,
    Hydration,
    Hydrator,
    Policy,
    QueryHydrator,
    Scorer,
    Selector,
    SideEffect,
    SideEffectInput,
    Source,
)
from xfast.pipeline.execution import Breaker, Call, Outcome, run_concurrently
from xfast.pipeline.metrics import Metrics
from xfast.pipeline.telemetry import span
from xfast.pipeline.trace import ComponentRun, Trace

__all__ = ["Pipeline", "PipelineResult"]

Q = TypeVar("Q")
B = TypeVar("B", bound=Batch)
Rows = npt.NDArray[np.int64]

_log = logging.getLogger("xfast.pipeline")

# How many requests' worth of side effects may be under way before new ones are dropped (and counted).
_SIDE_EFFECT_LIMIT = 256


@dataclass(slots=True)
class PipelineResult(Generic[Q, B]):
    """What a request produced.

    Attributes
    ----------
    query
        The hydrated query.
    retrieved
        All candidates as they were before filtering.
    selected
        The final list.
    non_selected
        What the selector left out, then what the size limit cut off.
    failures
        Components that failed as a whole.
    trace
        Filled with ``explain=True``.
    """

    query: Q
    retrieved: B
    selected: B
    non_selected: B
    removed_parts: list[B]
    failures: list[ComponentRun] = field(default_factory=list)
    trace: Trace | None = None

    @property
    def filtered(self) -> B:
        """Removed candidates: by filters, in filter order, then by post-selection filters."""
        return type(self.retrieved).concat(self.removed_parts)


@dataclass(slots=True)
class _Request(Generic[Q, B]):
    """State of one execution."""

    query: Q
    deadline: float | None
    trace: Trace | None
    result_size: int | None = None
    failures: list[ComponentRun] = field(default_factory=list)
    removed: list[B] = field(default_factory=list)


class Pipeline(Generic[Q, B]):
    """Runs components over batches of candidates.

    Parameters
    ----------
    batch_type
        The class of candidates; needed when no source brought any.
    result_size
        Length of the final list; ``None``: no limit.
    backfill
        Replace candidates that post-selection filters removed by the next best non-selected ones. Off, a list can get
        shorter than ``result_size`` (HOME_MIXER §2).
    policies
        Component name -> :class:`Policy`, overriding the component's own.
    deadline_ms
        Time for the whole request; waiting components are cut when it is over, filters and selection always run.
    default_deadline_ms, unlimited
        Deadline of components whose policy names none, and the components that stay without one, as side effects do.
    side_effect_limit
        Requests whose side effects may be under way at once; beyond it they are dropped and counted.
    metrics
        Where to count; a new :class:`Metrics` unless given.
    threads
        Worker threads for ``threaded`` components.

    Raises
    ------
    ConfigurationError
        A policy for a component that does not exist.
    """

    def __init__(
        self,
        batch_type: type[B],
        *,
        query_hydrators: Sequence[QueryHydrator[Q]] = (),
        dependent_query_hydrators: Sequence[QueryHydrator[Q]] = (),
        sources: Sequence[Source[Q, B]] = (),
        hydrators: Sequence[Hydrator[Q, B]] = (),
        dependent_hydrators: Sequence[Hydrator[Q, B]] = (),
        filters: Sequence[Filter[Q, B]] = (),
        scorers: Sequence[Scorer[Q, B]] = (),
        selector: Selector[Q, B] | None = None,
        post_selection_hydrators: Sequence[Hydrator[Q, B]] = (),
        post_selection_filters: Sequence[Filter[Q, B]] = (),
        side_effects: Sequence[SideEffect[Q, B]] = (),
        result_size: int | None = None,
        backfill: bool = False,
        policies: Mapping[str, Policy] | None = None,
        deadline_ms: float | None = None,
        default_deadline_ms: float | None = None,
        unlimited: Sequence[str] = (),
        side_effect_limit: int = _SIDE_EFFECT_LIMIT,
        metrics: Metrics | None = None,
        threads: int = 4,
        name: str | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        if result_size is not None and result_size < 0:
            raise ParameterError(f"result_size is {result_size}, must be 0 or more")
        self.name = name or type(self).__name__
        self.batch_type = batch_type
        self.query_hydrators = tuple(query_hydrators)
        self.dependent_query_hydrators = tuple(dependent_query_hydrators)
        self.sources = tuple(sources)
        self.hydrators = tuple(hydrators)
        self.dependent_hydrators = tuple(dependent_hydrators)
        self.filters = tuple(filters)
        self.scorers = tuple(scorers)
        self.selector = selector
        self.post_selection_hydrators = tuple(post_selection_hydrators)
        self.post_selection_filters = tuple(post_selection_filters)
        self.side_effects = tuple(side_effects)
        self.result_size = result_size
        self.backfill = backfill
        self.deadline_ms = deadline_ms
        self.side_effect_limit = side_effect_limit
        self.metrics = metrics or Metrics()
        self._timer = timer
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="xfast-pipeline") if threads else None
        self._background: set[asyncio.Task[None]] = set()
        self._runtime: _Runtime | None = None
        self._starting = threading.Lock()
        everything = [c for stage in self._stages().values() for c in stage]
        names = {component.name for component in everything}
        unknown = set(policies or {}) - names
        if unknown:
            raise ConfigurationError(f"policies name {sorted(unknown)}, the pipeline has {sorted(names)}")
        self._policies = {}
        for component in everything:
            policy = (policies or {}).get(component.name, component.policy)
            limited = component.name not in unlimited and not isinstance(component, SideEffect)
            if policy.deadline_ms is None and limited:
                policy = replace(policy, deadline_ms=default_deadline_ms)
            self._policies[id(component)] = policy
        self._breakers = {id(c): Breaker() for c in everything}
        for component in everything:
            if component.metrics is None:
                component.metrics = self.metrics

    def _stages(self) -> dict[str, tuple[Component[Q], ...]]:
        return {
            "QueryHydrator": self.query_hydrators,
            "DependentQueryHydrator": self.dependent_query_hydrators,
            "Source": self.sources,
            "Hydrator": self.hydrators,
            "DependentHydrator": self.dependent_hydrators,
            "Filter": self.filters,
            "Scorer": self.scorers,
            "Selector": (self.selector,) if self.selector is not None else (),
            "PostSelectionHydrator": self.post_selection_hydrators,
            "PostSelectionFilter": self.post_selection_filters,
            "SideEffect": self.side_effects,
        }

    def components(self) -> dict[str, list[str]]:
        """Names of the components per stage."""
        return {stage: [c.name for c in members] for stage, members in self._stages().items()}

    def policy_of(self, component: Component[Q]) -> Policy:
        """The policy under which one of the pipeline's components runs."""
        return self._policies[id(component)]

    def finalize(self, query: Q, selected: B) -> B:
        """Hook on the final list, before metrics and side effects."""
        return selected

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, query: Q, *, explain: bool = False, deadline_ms: float | None = None) -> PipelineResult[Q, B]:
        """Execute from ordinary code; the pipeline's own event loop runs in a background thread."""
        result: PipelineResult[Q, B] = self._loop().call(self.execute(query, explain=explain, deadline_ms=deadline_ms))
        return result

    def _loop(self) -> _Runtime:
        with self._starting:
            if self._runtime is None or self._runtime.pid != os.getpid():
                self._runtime = _Runtime()
            return self._runtime

    async def execute(
        self, query: Q, *, explain: bool = False, deadline_ms: float | None = None, result_size: int | None = None
    ) -> PipelineResult[Q, B]:
        """Run every stage for a query.

        Parameters
        ----------
        query
            Is copied first (``copy.copy``), so the caller's object stays as it was.
        explain
            Keep a :class:`Trace`.
        deadline_ms, result_size
            Override the pipeline's own.

        Raises
        ------
        Exception
            Only what a component with ``on_error="fail"`` raised.
        """
        began = self._timer()
        limit = self.deadline_ms if deadline_ms is None else deadline_ms
        request: _Request[Q, B] = _Request(
            copy.copy(query),
            None if limit is None else began + limit / 1_000,
            Trace() if explain else None,
            self.result_size if result_size is None else result_size,
        )
        with span(f"{self.name}.execute"):
            await self._hydrate_query(request, "QueryHydrator", self.query_hydrators)
            await self._hydrate_query(request, "DependentQueryHydrator", self.dependent_query_hydrators)
            batch = await self._fetch(request)
            batch = await self._hydrate(request, "Hydrator", self.hydrators, batch, None)
            batch = await self._hydrate(request, "DependentHydrator", self.dependent_hydrators, batch, None)
            retrieved = batch
            rows = np.arange(len(batch), dtype=np.int64)
            if request.trace is not None:
                request.trace.order("Source", rows)
            batch, rows = self._filter(request, "Filter", self.filters, batch, rows)
            batch = await self._score(request, batch, rows)
            selected, rows, rest, rest_rows = self._select(request, batch, rows)
            selected, rows, rest, rest_rows = await self._post_select(request, selected, rows, rest, rest_rows)
            size = request.result_size
            if size is not None and len(selected) > size:
                cut = np.arange(len(selected), dtype=np.int64)
                rest = self.batch_type.concat([rest, selected.take(cut[size:])])
                selected, rows = selected.take(cut[:size]), rows[:size]
            selected = self.finalize(request.query, selected)
            if request.trace is not None:
                request.trace.order("Result", rows)
        self.metrics.observe(f"{self.name}.execute", len(selected), series="result_size")
        self.metrics.observe(f"{self.name}.execute", (self._timer() - began) * 1_000, series="latency_ms")
        if not len(selected):
            self.metrics.count(f"{self.name}.execute", result="result_empty")
        self._spawn_side_effects(request, SideEffectInput(request.query, selected, rest))
        return PipelineResult(
            request.query, retrieved, selected, rest, request.removed, request.failures, request.trace
        )

    # -- stages -------------------------------------------------------------------------------------------------------

    def _calls(
        self, request: _Request[Q, B], stage: str, members: Sequence[Any], work: Callable[[Any], Callable[[], Any]]
    ) -> list[Call]:
        calls = []
        for component in members:
            try:
                enabled = component.enable(request.query)
            except Exception as error:
                self._failed(request, stage, component, error, 0.0)
                continue
            if enabled:
                key = id(component)
                calls.append(Call(component, self._policies[key], self._breakers[key], work(component)))
            elif request.trace is not None:
                request.trace.runs.append(ComponentRun(stage, component.name, "disabled"))
        return calls

    async def _run(self, request: _Request[Q, B], stage: str, calls: list[Call], size: int | None) -> list[Outcome]:
        left = None if request.deadline is None else (request.deadline - self._timer()) * 1_000
        with span(f"{self.name}.{stage}", enabled=len(calls)):
            outcomes = await run_concurrently(calls, left_ms=left, executor=self._executor, timer=self._timer)
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.error is not None:
                self._failed(request, stage, call.component, outcome.error, outcome.elapsed_ms, size)
        return outcomes

    def _ran(
        self,
        request: _Request[Q, B],
        stage: str,
        component: Component[Q],
        elapsed_ms: float,
        size_in: int | None = None,
        size_out: int | None = None,
    ) -> None:
        self.metrics.observe(f"{component.name}.run", elapsed_ms, series="latency_ms")
        if size_out is not None:
            self.metrics.observe(f"{component.name}.run", size_out, series="size")
        if request.trace is not None:
            request.trace.runs.append(ComponentRun(stage, component.name, "ran", elapsed_ms, size_in, size_out))

    def _failed(
        self,
        request: _Request[Q, B],
        stage: str,
        component: Component[Q],
        error: Exception,
        elapsed_ms: float,
        size: int | None = None,
    ) -> None:
        policy = self._policies[id(component)]
        text = f"{type(error).__name__}: {error}"
        run = ComponentRun(stage, component.name, "failed", elapsed_ms, size, None, text)
        request.failures.append(run)
        if request.trace is not None:
            request.trace.runs.append(run)
        self.metrics.count(f"{component.name}.run", result="error", error=type(error).__name__)
        if policy.on_error == "fail":
            error.add_note(f"in {stage} {component.name} of {self.name}")
            raise error
        _log.log(policy.log_level, "%s %s of %s failed: %s", stage, component.name, self.name, text)

    async def _hydrate_query(self, request: _Request[Q, B], stage: str, members: Sequence[QueryHydrator[Q]]) -> None:
        if not members:
            return
        query = request.query
        calls = self._calls(request, stage, members, lambda component: _bind(component.hydrate, query))
        for call, outcome in zip(calls, await self._run(request, stage, calls, None), strict=True):
            if outcome.error is None:
                self._guarded(request, stage, call.component, call.component.update, query, outcome.value)  # type: ignore[attr-defined]
                self._ran(request, stage, call.component, outcome.elapsed_ms)

    def _guarded(
        self, request: _Request[Q, B], stage: str, component: Component[Q], function: Callable[..., Any], *args: Any
    ) -> Any:
        try:
            return function(*args)
        except Exception as error:
            self._failed(request, stage, component, error, 0.0)
            return None

    async def _fetch(self, request: _Request[Q, B]) -> B:
        stage = "Source"
        calls = self._calls(request, stage, self.sources, lambda component: _bind(component.source, request.query))
        parts: list[B] = []
        for call, outcome in zip(calls, await self._run(request, stage, calls, None), strict=True):
            if outcome.error is not None:
                continue
            if not isinstance(outcome.value, self.batch_type):
                wrong = DataError(f"returned {type(outcome.value).__name__}, must be {self.batch_type.__name__}")
                self._failed(request, stage, call.component, wrong, outcome.elapsed_ms)
                continue
            parts.append(outcome.value)
            size = len(outcome.value)
            self._ran(request, stage, call.component, outcome.elapsed_ms, None, size)
            if request.trace is not None:
                request.trace.sources.append((call.component.name, size))
        return self.batch_type.concat(parts)

    async def _hydrate(
        self, request: _Request[Q, B], stage: str, members: Sequence[Hydrator[Q, B]], batch: B, rows: Rows | None
    ) -> B:
        if not members:
            return batch
        before = batch
        calls = self._calls(request, stage, members, lambda component: _bind(component.hydrate, request.query, before))
        for call, outcome in zip(calls, await self._run(request, stage, calls, len(before)), strict=True):
            if outcome.error is None:
                batch = self._apply(request, stage, call.component, batch, rows, outcome)
        return batch

    def _apply(
        self, request: _Request[Q, B], stage: str, component: Any, batch: B, rows: Rows | None, outcome: Outcome
    ) -> B:
        result: Hydration = outcome.value
        try:
            sizes = {len(values) for values in result.columns.values()}
            if result.ok is not None:
                sizes.add(len(result.ok))
            if sizes - {len(batch)}:
                raise DataError(f"returned {sorted(sizes)} rows for {len(batch)} candidates")
            applied: B = component.update(request.query, batch, result)
        except Exception as error:
            self._failed(request, stage, component, error, outcome.elapsed_ms, len(batch))
            return batch
        self._ran(request, stage, component, outcome.elapsed_ms, len(batch), len(batch))
        bad = 0 if result.ok is None else len(batch) - int(np.count_nonzero(result.ok))
        if bad:
            self.metrics.count(f"{component.name}.run", bad, result="candidate_error")
            if request.trace is not None:
                messages = dict(result.errors)
                for row in np.flatnonzero(~np.asarray(result.ok)).tolist():
                    messages.setdefault(row, "failed")
                own = np.arange(len(batch), dtype=np.int64) if rows is None else rows
                request.trace.errors.append((component.name, own, messages))
        return applied

    def _filter(
        self, request: _Request[Q, B], stage: str, members: Sequence[Filter[Q, B]], batch: B, rows: Rows
    ) -> tuple[B, Rows]:
        for call in self._calls(request, stage, members, lambda component: component.filter):
            component: Filter[Q, B] = call.component  # type: ignore[assignment]
            began = self._timer()
            try:
                result: FilterResult | None = component.filter(request.query, batch)
                if result is not None and len(result.kept) + len(result.removed) != len(batch):
                    raise DataError(f"split {len(batch)} candidates into {len(result.kept)} + {len(result.removed)}")
            except Exception as error:
                self._failed(request, stage, component, error, (self._timer() - began) * 1_000, len(batch))
                continue
            size = len(batch)
            if result is not None and len(result.removed):
                if request.trace is not None:
                    reasons = self._guarded(
                        request, stage, component, component.reasons, request.query, batch, result.removed
                    )
                    reasons = reasons if reasons is not None else [component.name] * len(result.removed)
                    request.trace.remove(component.name, rows[result.removed], reasons)
                request.removed.append(batch.take(result.removed))
            if result is not None:
                batch, rows = batch.take(result.kept), rows[result.kept]
            self.metrics.count(f"{component.name}.run", len(batch), result="kept")
            self.metrics.count(f"{component.name}.run", size - len(batch), result="removed")
            self._ran(request, stage, component, (self._timer() - began) * 1_000, size, len(batch))
        return batch, rows

    async def _score(self, request: _Request[Q, B], batch: B, rows: Rows) -> B:
        stage = "Scorer"
        for scorer in self.scorers:
            calls = self._calls(request, stage, (scorer,), partial(_score_call, request.query, batch))
            for outcome in await self._run(request, stage, calls, len(batch)):
                if outcome.error is None:
                    batch = self._apply(request, stage, scorer, batch, rows, outcome)
                    if request.trace is not None:
                        terms = self._guarded(request, stage, scorer, scorer.terms, request.query, batch)
                        request.trace.terms.append((scorer.name, rows, dict(terms or {})))
        return batch

    def _select(self, request: _Request[Q, B], batch: B, rows: Rows) -> tuple[B, Rows, B, Rows]:
        stage = "Selector"
        nothing = np.empty(0, np.int64)
        members = () if self.selector is None else (self.selector,)
        for call in self._calls(request, stage, members, lambda component: component.select):
            selector: Selector[Q, B] = call.component  # type: ignore[assignment]
            began = self._timer()
            try:
                made = selector.assemble(request.query, batch)
                if made is not None:
                    selected, rest = made
                    # New items: the trace of this pipeline follows them by place, not by candidate.
                    own, others = np.arange(len(selected), dtype=np.int64), nothing
                else:
                    chosen = selector.select(request.query, batch)
                    selected, rest = batch.take(chosen.selected), batch.take(chosen.rest)
                    own, others = rows[chosen.selected], rows[chosen.rest]
            except Exception as error:
                self._failed(request, stage, selector, error, (self._timer() - began) * 1_000, len(batch))
                continue
            self._ran(request, stage, selector, (self._timer() - began) * 1_000, len(batch), len(selected))
            if request.trace is not None:
                request.trace.order(stage, own)
            return selected, own, rest, others
        return batch, rows, batch.take(nothing), nothing

    async def _post_select(
        self, request: _Request[Q, B], selected: B, rows: Rows, rest: B, rest_rows: Rows
    ) -> tuple[B, Rows, B, Rows]:
        hydrators, filters = self.post_selection_hydrators, self.post_selection_filters
        selected = await self._hydrate(request, "PostSelectionHydrator", hydrators, selected, rows)
        selected, rows = self._filter(request, "PostSelectionFilter", filters, selected, rows)
        size = request.result_size
        while self.backfill and size is not None and filters and len(rest) == len(rest_rows) > 0:
            missing = size - len(selected)
            if missing <= 0:
                break
            taken = min(len(rest), missing)
            everyone = np.arange(len(rest), dtype=np.int64)
            fill = await self._hydrate(
                request, "PostSelectionHydrator", hydrators, rest.take(everyone[:taken]), rest_rows[:taken]
            )
            # Filters see old and new together: a conversation already shown keeps out a newcomer.
            selected = self.batch_type.concat([selected, fill])
            rows = np.concatenate([rows, rest_rows[:taken]])
            rest, rest_rows = rest.take(everyone[taken:]), rest_rows[taken:]
            self.metrics.count(f"{self.name}.backfill", taken)
            selected, rows = self._filter(request, "PostSelectionFilter", filters, selected, rows)
        return selected, rows, rest, rest_rows

    # -- side effects -------------------------------------------------------------------------------------------------

    def _spawn_side_effects(self, request: _Request[Q, B], data: SideEffectInput[Q, B]) -> None:
        if not self.side_effects:
            return
        calls = self._calls(request, "SideEffect", self.side_effects, lambda component: _bind(component.run, data))
        if not calls:
            return
        if len(self._background) >= self.side_effect_limit:
            self.metrics.count(f"{self.name}.side_effects", result="dropped")
            _log.warning("%s: side effects of a request dropped, %d are under way", self.name, len(self._background))
            return
        task = asyncio.get_running_loop().create_task(self._run_side_effects(request, calls))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _run_side_effects(self, request: _Request[Q, B], calls: list[Call]) -> None:
        await asyncio.sleep(0)
        outcomes = await run_concurrently(calls, left_ms=None, executor=self._executor, timer=self._timer)
        for call, outcome in zip(calls, outcomes, strict=True):
            if outcome.error is None:
                self.metrics.observe(f"{call.component.name}.run", outcome.elapsed_ms, series="latency_ms")
            else:
                error = outcome.error
                self.metrics.count(f"{call.component.name}.run", result="error", error=type(error).__name__)
                level = call.policy.log_level
                _log.log(level, "side effect %s of %s failed: %s", call.component.name, self.name, error)

    async def drain(self) -> None:
        """Wait until the side effects started from this event loop are done."""
        loop = asyncio.get_running_loop()
        while tasks := [task for task in self._background if task.get_loop() is loop]:
            await asyncio.gather(*tasks)

    def close(self) -> None:
        """Finish the side effects of :meth:`run` and stop the background thread and workers."""
        if self._runtime is not None and self._runtime.pid == os.getpid():
            self._runtime.call(self.drain())
            self._runtime.stop()
        self._runtime = None
        if self._executor is not None:
            self._executor.shutdown(wait=True)

    def settle(self) -> None:
        """Wait for the side effects of earlier :meth:`run` calls; the pipeline stays usable."""
        if self._runtime is not None and self._runtime.pid == os.getpid():
            self._runtime.call(self.drain())


def _bind(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Fix arguments and keep an ``async`` function recognisable as one."""
    if asyncio.iscoroutinefunction(function):

        async def waiting() -> Any:
            return await function(*args)

        return waiting
    return lambda: function(*args)


def _score_call(query: Any, batch: Any, scorer: Any) -> Callable[[], Any]:
    return _bind(scorer.score, query, batch)


class _Runtime:
    """An event loop in a daemon thread, for callers that have none."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="xfast-pipeline-loop", daemon=True)
        self._thread.start()

    def call(self, coroutine: Any) -> Any:
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the pipeline's own thread cannot wait for itself; use 'await pipeline.execute(query)'")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

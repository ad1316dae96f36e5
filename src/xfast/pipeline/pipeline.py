"""The pipeline: thirteen steps in a fixed order, every failure contained, every step visible.

The order (HOME_MIXER §2): query hydrators, dependent query hydrators, sources, hydrators (and dependent hydrators),
filters, scorers, selector, post-selection hydrators and filters (with back-fill if asked for), the size limit,
``finalize``, metrics, side effects in the background. :mod:`xfast.pipeline.stages` has one method per stage.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from xfast.errors import ConfigurationError, ParameterError
from xfast.pipeline.components import (
    Batch,
    Component,
    Filter,
    Hydrator,
    Policy,
    QueryHydrator,
    Scorer,
    Selector,
    SideEffect,
    SideEffectInput,
    Source,
)
from xfast.pipeline.metrics import Metrics
from xfast.pipeline.request import Request, Slot
from xfast.pipeline.runtime import BackgroundLoop, SideEffects
from xfast.pipeline.stages import Rows, Stages
from xfast.pipeline.telemetry import tracer
from xfast.pipeline.trace import ComponentRun, Trace

__all__ = ["Pipeline", "PipelineResult"]

Q = TypeVar("Q")
B = TypeVar("B", bound=Batch)

# How many requests' worth of side effects may be under way before new ones are dropped (and counted).
_SIDE_EFFECT_LIMIT = 256

#: The method that does a component's work, per stage.
_METHODS = {
    "QueryHydrator": "hydrate",
    "DependentQueryHydrator": "hydrate",
    "Source": "source",
    "Hydrator": "hydrate",
    "DependentHydrator": "hydrate",
    "Filter": "filter",
    "Scorer": "score",
    "Selector": "select",
    "PostSelectionHydrator": "hydrate",
    "PostSelectionFilter": "filter",
    "SideEffect": "run",
}


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

    @classmethod
    def empty(cls, batch_type: type[B], query: Q) -> PipelineResult[Q, B]:
        """The result of a request that found nothing, for callers that answer without running the pipeline."""
        nothing = batch_type.concat([])
        return cls(query, nothing, nothing, nothing, [])

    @property
    def filtered(self) -> B:
        """Removed candidates: by filters, in filter order, then by post-selection filters."""
        return type(self.retrieved).concat(self.removed_parts)


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
        Deadline of components whose policy names none, and the components that stay without one.
    side_effect_deadline_ms
        The same for side effects, which nobody waits for.
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
        side_effect_deadline_ms: float | None = None,
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
        self.metrics = metrics or Metrics()
        self._timer = timer
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="xfast-pipeline") if threads else None
        self._background = SideEffects(self.name, side_effect_limit, self.metrics, self._executor, timer)
        self._runtime: BackgroundLoop | None = None
        self._starting = threading.Lock()
        members = self._members()
        names = {component.name for stage in members.values() for component in stage}
        unknown = set(policies or {}) - names
        if unknown:
            raise ConfigurationError(f"policies name {sorted(unknown)}, the pipeline has {sorted(names)}")

        def policy_for(component: Component[Q]) -> Policy:
            policy = (policies or {}).get(component.name, component.policy)
            default = side_effect_deadline_ms if isinstance(component, SideEffect) else default_deadline_ms
            if policy.deadline_ms is None and component.name not in unlimited:
                policy = replace(policy, deadline_ms=default)
            return policy

        self._slots = {
            stage: tuple(Slot(stage, c, _METHODS[stage], policy_for(c), self.metrics) for c in components)
            for stage, components in members.items()
        }
        for components in members.values():
            for component in components:
                if component.metrics is None:
                    component.metrics = self.metrics
        self._stages: Stages[Q, B] = Stages(batch_type, self._slots, backfill=backfill, executor=self._executor)
        execute = f"{self.name}.execute"
        self._result_size_series = self.metrics.series(execute, series="result_size")
        self._latency_series = self.metrics.series(execute, series="latency_ms")

    def _members(self) -> dict[str, tuple[Component[Q], ...]]:
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
        return {stage: [slot.name for slot in slots] for stage, slots in self._slots.items()}

    def policy_of(self, component: Component[Q]) -> Policy:
        """The policy under which one of the pipeline's components runs."""
        return next(slot.policy for slots in self._slots.values() for slot in slots if slot.component is component)

    def finalize(self, query: Q, selected: B) -> B:
        """Hook on the final list, before metrics and side effects."""
        return selected

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, query: Q, *, explain: bool = False, deadline_ms: float | None = None) -> PipelineResult[Q, B]:
        """Execute from ordinary code; the pipeline's own event loop runs in a background thread."""
        result: PipelineResult[Q, B] = self._loop().call(self.execute(query, explain=explain, deadline_ms=deadline_ms))
        return result

    def _loop(self) -> BackgroundLoop:
        with self._starting:
            if self._runtime is None or self._runtime.pid != os.getpid():
                self._runtime = BackgroundLoop()
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
        request: Request[Q, B] = Request(
            self.name,
            copy.copy(query),
            self._timer,
            self.metrics,
            tracer(),
            deadline=None if limit is None else began + limit / 1_000,
            trace=Trace() if explain else None,
            result_size=self.result_size if result_size is None else result_size,
        )
        try:
            with request.span("execute") as span:
                retrieved, selected, rest = await self._run_stages(request)
                if request.tracer.records:
                    span.note(retrieved=len(retrieved), selected=len(selected), failures=len(request.failures))
            request.observed.append((self._result_size_series, len(selected)))
            request.observed.append((self._latency_series, (self._timer() - began) * 1_000))
        finally:
            self.metrics.note(request.counted, request.observed)
        if not len(selected):
            self.metrics.count(f"{self.name}.execute", result="result_empty")
        if self.side_effects:
            data = SideEffectInput(request.query, selected, rest)
            self._background.spawn(self._stages.side_effects(request, data))
        return PipelineResult(
            request.query, retrieved, selected, rest, request.removed, request.failures, request.trace
        )

    async def _run_stages(self, request: Request[Q, B]) -> tuple[B, B, B]:
        """All stages in order; returns the retrieved candidates, the final list, and what was left out."""
        stages = self._stages
        await stages.hydrate_query(request, "QueryHydrator")
        await stages.hydrate_query(request, "DependentQueryHydrator")
        batch = await stages.fetch(request)
        batch = await stages.hydrate(request, "Hydrator", batch, None)
        batch = await stages.hydrate(request, "DependentHydrator", batch, None)
        retrieved = batch
        rows: Rows = np.arange(len(batch), dtype=np.int64)
        if request.trace is not None:
            request.trace.order("Source", rows)
        batch, rows = stages.filter(request, "Filter", batch, rows)
        batch = await stages.score(request, batch, rows)
        selected, rows, rest, rest_rows = stages.select(request, batch, rows)
        selected, rows, rest, rest_rows = await stages.post_select(request, selected, rows, rest, rest_rows)
        size = request.result_size
        if size is not None and len(selected) > size:
            places = np.arange(len(selected), dtype=np.int64)
            rest = self.batch_type.concat([rest, selected.take(places[size:])])
            selected, rows = selected.take(places[:size]), rows[:size]
        selected = self.finalize(request.query, selected)
        if request.trace is not None:
            request.trace.order("Result", rows)
        return retrieved, selected, rest

    # -- side effects -------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait for the side effects that this event loop has started so far."""
        await self._background.drain()

    def settle(self, *inner: Pipeline[Any, Any]) -> None:
        """Wait for the side effects of earlier :meth:`run` calls; the pipeline stays usable.

        Parameters
        ----------
        inner
            Pipelines that this one's components execute, whose side effects therefore run in its loop.
        """
        if self._runtime is not None and self._runtime.pid == os.getpid():
            for pipeline in (*inner, self):
                self._runtime.call(pipeline.drain())

    def close(self) -> None:
        """Finish the side effects of :meth:`run` and stop the background thread and workers."""
        self.settle()
        if self._runtime is not None and self._runtime.pid == os.getpid():
            self._runtime.stop()
        self._runtime = None
        if self._executor is not None:
            self._executor.shutdown(wait=True)

"""One execution: its query, its deadline, its trace, and the book-keeping of what ran and what failed."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from xfast.pipeline.components import Batch, Component, Policy
from xfast.pipeline.execution import Breaker, Call, Timer
from xfast.pipeline.metrics import Metrics, Series
from xfast.pipeline.telemetry import Span, Tracer
from xfast.pipeline.trace import ComponentRun, Trace

__all__ = ["Request", "Slot"]

Q = TypeVar("Q")
B = TypeVar("B", bound=Batch)

_log = logging.getLogger("xfast.pipeline")


class Slot:
    """A component in its place in the pipeline, with what needs to be found out about it only once.

    Attributes
    ----------
    work
        Its bound method that does the work.
    waits
        Whether that is ``async`` (and not eager), so that it needs a task.
    latency, size, kept, removed
        Its series.
    """

    __slots__ = (
        "breaker", "component", "kept", "latency", "name", "policy", "removed", "size", "stage", "waits", "work"
    )  # fmt: skip

    def __init__(self, stage: str, component: Component[Any], method: str, policy: Policy, metrics: Metrics) -> None:
        self.stage = stage
        self.component = component
        self.name = component.name
        self.policy = policy
        self.breaker = Breaker()
        self.work: Callable[..., Any] = getattr(component, method)
        self.waits = inspect.iscoroutinefunction(self.work)
        run = f"{self.name}.run"
        self.latency: Series = metrics.series(run, series="latency_ms")
        self.size: Series = metrics.series(run, series="size")
        self.kept: Series = metrics.series(run, result="kept")
        self.removed: Series = metrics.series(run, result="removed")

    def call(self, *args: Any) -> Call:
        """The component's turn with these arguments."""
        return Call(self.component, self.policy, self.breaker, partial(self.work, *args), self.waits)


@dataclass(slots=True)
class Request(Generic[Q, B]):
    """State of one execution.

    Attributes
    ----------
    deadline
        On the timer's clock; ``None``: no limit.
    removed
        Batches that filters removed, in their order.
    counted, observed
        For the metrics, when the request is over.
    """

    pipeline: str
    query: Q
    timer: Timer
    metrics: Metrics
    tracer: Tracer
    deadline: float | None = None
    trace: Trace | None = None
    result_size: int | None = None
    failures: list[ComponentRun] = field(default_factory=list)
    removed: list[B] = field(default_factory=list)
    counted: list[tuple[Series, float]] = field(default_factory=list)
    observed: list[tuple[Series, float]] = field(default_factory=list)

    def left_ms(self) -> float | None:
        """Time until the deadline."""
        return None if self.deadline is None else (self.deadline - self.timer()) * 1_000

    def span(self, stage: str) -> Span:
        """A span for a stage of this pipeline."""
        return self.tracer.span(f"{self.pipeline}.{stage}") if self.tracer.records else _NO_SPAN

    def enabled(self, slots: Sequence[Slot], span: Span) -> list[Slot]:
        """The slots whose component wants to run for the query as it stands."""
        chosen = []
        for slot in slots:
            try:
                wanted = slot.component.enable(self.query)
            except Exception as error:
                self.failed(slot, error, 0.0)
                continue
            if wanted:
                chosen.append(slot)
            elif self.trace is not None:
                self.trace.runs.append(ComponentRun(slot.stage, slot.name, "disabled"))
        if self.tracer.records:
            on = set(map(id, chosen))
            disabled = [slot.name for slot in slots if id(slot) not in on]
            span.note(total=len(slots), enabled=len(chosen), disabled=disabled)
        return chosen

    def ran(self, slot: Slot, elapsed_ms: float, size_in: int | None = None, size_out: int | None = None) -> None:
        """Note a component's success."""
        self.observed.append((slot.latency, elapsed_ms))
        if size_out is not None:
            self.observed.append((slot.size, size_out))
        if self.trace is not None:
            self.trace.runs.append(ComponentRun(slot.stage, slot.name, "ran", elapsed_ms, size_in, size_out))

    def failed(self, slot: Slot, error: Exception, elapsed_ms: float, size: int | None = None) -> None:
        """Note a component's failure, or let it fail the request where its policy says so."""
        text = f"{type(error).__name__}: {error}"
        run = ComponentRun(slot.stage, slot.name, "failed", elapsed_ms, size, None, text)
        self.failures.append(run)
        if self.trace is not None:
            self.trace.runs.append(run)
        self.metrics.count(f"{slot.name}.run", result="error", error=type(error).__name__)
        if slot.policy.on_error == "fail":
            error.add_note(f"in {slot.stage} {slot.name} of {self.pipeline}")
            raise error
        _log.log(slot.policy.log_level, "%s %s of %s failed: %s", slot.stage, slot.name, self.pipeline, text)

    def guarded(self, slot: Slot, function: Callable[..., Any], *args: Any) -> Any:
        """Call a component's secondary method; its failure is the component's."""
        try:
            return function(*args)
        except Exception as error:
            self.failed(slot, error, 0.0)
            return None


_NO_SPAN = Span()

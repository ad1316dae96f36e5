"""The stages of a request between its query and its final list (HOME_MIXER §2), one method each."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.pipeline.components import Batch, FilterResult, Hydration, Selection, Selector
from xfast.pipeline.execution import Call, Outcome, run_concurrently
from xfast.pipeline.request import Request, Slot

__all__ = ["Rows", "Stages"]

Q = TypeVar("Q")
B = TypeVar("B", bound=Batch)
Rows = npt.NDArray[np.int64]

_NOTHING: Rows = np.empty(0, np.int64)


class Stages(Generic[Q, B]):
    """Runs stages; keeps no state of a request.

    ``rows`` arguments are the candidates' indices among the retrieved ones; the trace needs them.
    """

    def __init__(
        self, batch_type: type[B], slots: Mapping[str, tuple[Slot, ...]], *, backfill: bool, executor: Executor | None
    ) -> None:
        self._batch_type = batch_type
        self._slots = slots
        self._backfill = backfill
        self._executor = executor

    async def _run(self, request: Request[Q, B], slots: list[Slot], size: int | None, *args: Any) -> list[Outcome]:
        calls: list[Call] = [slot.call(*args) for slot in slots]
        left = request.left_ms()
        outcomes = await run_concurrently(calls, left_ms=left, executor=self._executor, timer=request.timer)
        for slot, outcome in zip(slots, outcomes, strict=True):
            if outcome.error is not None:
                request.failed(slot, outcome.error, outcome.elapsed_ms, size)
        return outcomes

    async def hydrate_query(self, request: Request[Q, B], stage: str) -> None:
        """Run query hydrators on the same query and apply their results in order."""
        if not self._slots[stage]:
            return
        query = request.query
        with request.span(stage) as span:
            slots = request.enabled(self._slots[stage], span)
            for slot, outcome in zip(slots, await self._run(request, slots, None, query), strict=True):
                if outcome.error is None:
                    request.guarded(slot, slot.component.update, query, outcome.value)  # type: ignore[attr-defined]
                    request.ran(slot, outcome.elapsed_ms)

    async def fetch(self, request: Request[Q, B]) -> B:
        """Ask the sources; their candidates in the order of declaration."""
        parts: list[B] = []
        with request.span("Source") as span:
            slots = request.enabled(self._slots["Source"], span)
            for slot, outcome in zip(slots, await self._run(request, slots, None, request.query), strict=True):
                if outcome.error is not None:
                    continue
                if not isinstance(outcome.value, self._batch_type):
                    wrong = DataError(f"returned {type(outcome.value).__name__}, must be {self._batch_type.__name__}")
                    request.failed(slot, wrong, outcome.elapsed_ms)
                    continue
                parts.append(outcome.value)
                size = len(outcome.value)
                request.ran(slot, outcome.elapsed_ms, None, size)
                if request.trace is not None:
                    request.trace.sources.append((slot.name, size))
        return self._batch_type.concat(parts)

    async def hydrate(self, request: Request[Q, B], stage: str, batch: B, rows: Rows | None) -> B:
        """Run hydrators on the same batch and apply their columns in order."""
        if not self._slots[stage]:
            return batch
        with request.span(stage) as span:
            slots = request.enabled(self._slots[stage], span)
            outcomes = await self._run(request, slots, len(batch), request.query, batch)
            for slot, outcome in zip(slots, outcomes, strict=True):
                if outcome.error is None:
                    batch = self._apply(request, slot, batch, rows, outcome)
        return batch

    def _apply(self, request: Request[Q, B], slot: Slot, batch: B, rows: Rows | None, outcome: Outcome) -> B:
        result: Hydration = outcome.value
        try:
            sizes = {len(values) for values in result.columns.values()}
            if result.ok is not None:
                sizes.add(len(result.ok))
            if sizes - {len(batch)}:
                raise DataError(f"returned {sorted(sizes)} rows for {len(batch)} candidates")
            applied: B = slot.component.update(request.query, batch, result)  # type: ignore[attr-defined]
        except Exception as error:
            request.failed(slot, error, outcome.elapsed_ms, len(batch))
            return batch
        if result.failure is not None:
            request.failed(slot, result.failure, outcome.elapsed_ms, len(batch))
        else:
            request.ran(slot, outcome.elapsed_ms, len(batch), len(batch))
        bad = 0 if result.ok is None else len(batch) - int(np.count_nonzero(result.ok))
        if bad:
            request.metrics.count(f"{slot.name}.run", bad, result="candidate_error")
            if request.trace is not None:
                messages = dict(result.errors)
                for row in np.flatnonzero(~np.asarray(result.ok)).tolist():
                    messages.setdefault(row, "failed")
                own = np.arange(len(batch), dtype=np.int64) if rows is None else rows
                request.trace.errors.append((slot.name, own, messages))
        return applied

    def filter(self, request: Request[Q, B], stage: str, batch: B, rows: Rows) -> tuple[B, Rows]:
        """Run filters one after another."""
        if not self._slots[stage]:
            return batch, rows
        before = len(batch)
        with request.span(stage) as span:
            for slot in request.enabled(self._slots[stage], span):
                batch, rows = self._filter(request, slot, batch, rows)
            if request.tracer.records:
                span.note(filter_rate=round((before - len(batch)) / before, 3) if before else 0.0)
        return batch, rows

    def _filter(self, request: Request[Q, B], slot: Slot, batch: B, rows: Rows) -> tuple[B, Rows]:
        size = len(batch)
        began = request.timer()
        try:
            result: FilterResult | None = slot.work(request.query, batch)
            if result is not None and len(result.kept) + len(result.removed) != size:
                raise DataError(f"split {size} candidates into {len(result.kept)} + {len(result.removed)}")
        except Exception as error:
            request.failed(slot, error, (request.timer() - began) * 1_000, size)
            return batch, rows
        if result is not None:
            if len(result.removed):
                if request.trace is not None:
                    ask = slot.component.reasons  # type: ignore[attr-defined]
                    reasons = request.guarded(slot, ask, request.query, batch, result.removed)
                    reasons = reasons if reasons is not None else [slot.name] * len(result.removed)
                    request.trace.remove(slot.name, rows[result.removed], reasons)
                request.removed.append(batch.take(result.removed))
            batch, rows = batch.take(result.kept), rows[result.kept]
        request.counted += ((slot.kept, len(batch)), (slot.removed, size - len(batch)))
        request.ran(slot, (request.timer() - began) * 1_000, size, len(batch))
        return batch, rows

    async def score(self, request: Request[Q, B], batch: B, rows: Rows) -> B:
        """Run scorers one after another, each on the result of the one before."""
        places = rows
        with request.span("Scorer") as span:
            for slot in request.enabled(self._slots["Scorer"], span):
                (outcome,) = await self._run(request, [slot], len(batch), request.query, batch)
                if outcome.error is not None:
                    continue
                batch = self._apply(request, slot, batch, rows, outcome)
                if request.trace is not None:
                    ask = slot.component.terms  # type: ignore[attr-defined]
                    terms = request.guarded(slot, ask, request.query, batch)
                    request.trace.terms.append((slot.name, rows, dict(terms or {})))
                    places = self._note_order(request, slot, batch, rows, places)
        return batch

    def _note_order(self, request: Request[Q, B], slot: Slot, batch: B, rows: Rows, before: Rows) -> Rows:
        """Trace the order that the selector would give now, where a scorer changed it; returns that order."""
        for each in self._slots["Selector"]:
            selector: Any = each.component
            if type(selector).scores is Selector.scores:
                continue  # it makes items, or orders in a way of its own
            scores = request.guarded(each, selector.scores, request.query, batch)
            if scores is None:
                continue
            after: Rows = rows[selector.order(scores)]
            if not np.array_equal(after, before):
                assert request.trace is not None
                request.trace.order(slot.name, after)
            return after
        return before

    def select(self, request: Request[Q, B], batch: B, rows: Rows) -> tuple[B, Rows, B, Rows]:
        """Split into selected candidates, best first, and the rest; everything is selected without a selector."""
        with request.span("Selector") as span:
            for slot in request.enabled(self._slots["Selector"], span):
                selector: Any = slot.component
                began = request.timer()
                try:
                    made = selector.assemble(request.query, batch)
                    if made is not None:
                        selected, rest = made
                        # New items: the trace of this pipeline follows them by place, not by candidate.
                        own, others = np.arange(len(selected), dtype=np.int64), _NOTHING
                    else:
                        chosen: Selection = selector.select(request.query, batch)
                        selected, rest = batch.take(chosen.selected), batch.take(chosen.rest)
                        own, others = rows[chosen.selected], rows[chosen.rest]
                except Exception as error:
                    request.failed(slot, error, (request.timer() - began) * 1_000, len(batch))
                    continue
                request.ran(slot, (request.timer() - began) * 1_000, len(batch), len(selected))
                if request.trace is not None:
                    request.trace.order("Selector", own)
                return selected, own, rest, others
        return batch, rows, batch.take(_NOTHING), _NOTHING

    async def post_select(
        self, request: Request[Q, B], selected: B, rows: Rows, rest: B, rest_rows: Rows
    ) -> tuple[B, Rows, B, Rows]:
        """Hydrate and filter what was selected; with back-fill, take the next best for what was removed."""
        hydrate, remove = "PostSelectionHydrator", "PostSelectionFilter"
        selected = await self.hydrate(request, hydrate, selected, rows)
        selected, rows = self.filter(request, remove, selected, rows)
        size = request.result_size
        while self._backfill and size is not None and self._slots[remove] and len(rest) == len(rest_rows) > 0:
            missing = size - len(selected)
            if missing <= 0:
                break
            taken = min(len(rest), missing)
            everyone = np.arange(len(rest), dtype=np.int64)
            fill = await self.hydrate(request, hydrate, rest.take(everyone[:taken]), rest_rows[:taken])
            # Filters see old and new together: a conversation already shown keeps out a newcomer.
            selected = self._batch_type.concat([selected, fill])
            rows = np.concatenate([rows, rest_rows[:taken]])
            rest, rest_rows = rest.take(everyone[taken:]), rest_rows[taken:]
            request.metrics.count(f"{request.pipeline}.backfill", taken)
            selected, rows = self.filter(request, remove, selected, rows)
        return selected, rows, rest, rest_rows

    def side_effects(self, request: Request[Q, B], data: Any) -> list[Call]:
        """The turns of the side effects that want to run."""
        return [slot.call(data) for slot in request.enabled(self._slots["SideEffect"], request.span("SideEffect"))]

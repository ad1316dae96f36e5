"""Running the components of one stage, each under its policy: deadline, hedge, circuit breaker, and what it cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from xfast.errors import XfastError
from xfast.pipeline.components import Component, Policy
from xfast.pipeline.eager import is_awaitable

__all__ = ["Breaker", "Call", "CircuitOpenError", "DeadlineError", "Outcome", "run_concurrently"]

Timer = Callable[[], float]


class DeadlineError(XfastError):
    """A component took longer than its own deadline, or than what was left of the request's."""


class CircuitOpenError(XfastError):
    """A component was skipped because it failed too often in a row."""


@dataclass(slots=True)
class Breaker:
    """Failures in a row of one component and the time until which it is skipped."""

    failures: int = 0
    open_until: float = 0.0

    def admit(self, policy: Policy, timer: Timer) -> bool:
        """Whether to try; after the pause one attempt is let through."""
        return policy.breaker_failures == 0 or self.failures < policy.breaker_failures or timer() >= self.open_until

    def record(self, policy: Policy, failed: bool, now: float) -> None:
        """Remember how an attempt ended."""
        self.failures = self.failures + 1 if failed else 0
        if policy.breaker_failures and self.failures >= policy.breaker_failures:
            self.open_until = now + policy.breaker_reset_ms / 1_000


@dataclass(slots=True)
class Call:
    """One component's turn in a stage; ``waits`` says that ``function`` is ``async``."""

    component: Component[Any]
    policy: Policy
    breaker: Breaker
    function: Callable[[], Any]
    waits: bool = False


@dataclass(slots=True)
class Outcome:
    """What a call returned or how it failed, and its wall time in ms."""

    value: Any = None
    error: Exception | None = None
    elapsed_ms: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it raised, or says itself that what it asked failed."""
        return self.error is not None or getattr(self.value, "failure", None) is not None


async def _hedged(start: Callable[[], Awaitable[Any]], after_ms: float) -> Any:
    first = asyncio.ensure_future(start())
    pending: set[asyncio.Future[Any]] = {first}
    failure: BaseException | None = None
    try:
        done, _ = await asyncio.wait(pending, timeout=after_ms / 1_000)
        if done:
            return first.result()
        pending.add(asyncio.ensure_future(start()))
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failure = task.exception()
                if failure is None:
                    return task.result()
    finally:
        for task in pending:
            task.cancel()
    assert failure is not None
    raise failure


async def _finish(
    call: Call,
    start: Callable[[], Awaitable[Any]],
    outcome: Outcome,
    began: float,
    left_ms: float | None,
    timer: Timer,
) -> None:
    """Wait for a call's answer, within the limits of its policy and of the request."""
    limits = [ms for ms in (call.policy.deadline_ms, left_ms) if ms is not None]
    awaitable = start() if call.policy.hedge_after_ms is None else _hedged(start, call.policy.hedge_after_ms)
    try:
        if limits:
            async with asyncio.timeout(max(min(limits), 0) / 1_000):
                outcome.value = await awaitable
        else:
            outcome.value = await awaitable
    except TimeoutError as error:
        if not limits or (timer() - began) * 1_000 < min(limits):
            outcome.error = error
        else:
            outcome.error = DeadlineError(f"{call.component.name} exceeded {min(limits):.0f} ms")
    except Exception as error:
        outcome.error = error
    ended = timer()
    outcome.elapsed_ms = (ended - began) * 1_000
    call.breaker.record(call.policy, outcome.failed, ended)


def _run_inline(call: Call, outcome: Outcome, began: float, timer: Timer) -> Any:
    """Run a plain or eager function; returns an awaitable where there is something to wait for."""
    try:
        value = call.function()
        if is_awaitable(value):
            return value
        outcome.value = value
    except Exception as error:
        outcome.error = error
    ended = timer()
    outcome.elapsed_ms = (ended - began) * 1_000
    call.breaker.record(call.policy, outcome.failed, ended)
    return None


async def run_concurrently(
    calls: Sequence[Call], *, left_ms: float | None, executor: Executor | None, timer: Timer = time.perf_counter
) -> list[Outcome]:
    """Run the calls of one stage and return their outcomes in the order of ``calls``.

    Work that waits elsewhere (``async``, ``threaded``) is started first, plain functions run meanwhile in this thread.
    Only what really waits costs a task and a timer.
    """
    outcomes = [Outcome() for _ in calls]
    waiting: list[asyncio.Task[None]] = []
    inline: list[tuple[Call, Outcome]] = []

    def wait_for(call: Call, start: Callable[[], Awaitable[Any]], outcome: Outcome, began: float) -> None:
        waiting.append(asyncio.ensure_future(_finish(call, start, outcome, began, left_ms, timer)))

    try:
        for call, outcome in zip(calls, outcomes, strict=True):
            if not call.breaker.admit(call.policy, timer):
                outcome.error = CircuitOpenError(
                    f"{call.component.name} is skipped after {call.breaker.failures} failures in a row"
                )
            elif left_ms is not None and left_ms <= 0:
                outcome.error = DeadlineError(f"{call.component.name} was not started: the request's time is over")
            elif call.policy.threaded:
                wait_for(call, _threaded(executor, call), outcome, timer())
            elif call.waits:
                wait_for(call, call.function, outcome, timer())
            else:
                inline.append((call, outcome))
        if waiting and inline:
            await asyncio.sleep(0)
        for call, outcome in inline:
            began = timer()
            awaitable = _run_inline(call, outcome, began, timer)
            if awaitable is not None:
                wait_for(call, _once(awaitable, call.function), outcome, began)
                # What it waits for gets under way before the next one keeps this thread busy.
                await asyncio.sleep(0)
        if waiting:
            await asyncio.gather(*waiting)
    except BaseException:
        for task in waiting:
            task.cancel()
        raise
    return outcomes


def _threaded(executor: Executor | None, call: Call) -> Callable[[], Awaitable[Any]]:
    """Run a plain function in a worker thread; what it returns for waiting is waited for in the loop."""

    async def start() -> Any:
        value = await asyncio.get_running_loop().run_in_executor(executor, call.function)
        return await value if is_awaitable(value) else value

    return start


def _once(awaitable: Awaitable[Any], again: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """The awaitable that the first call already made, a new call for a hedged second attempt."""
    first: list[Awaitable[Any]] = [awaitable]

    async def start() -> Any:
        value = first.pop() if first else again()
        return await value if is_awaitable(value) else value

    return start

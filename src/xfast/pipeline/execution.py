"""Running one component under its policy: deadline, hedge, circuit breaker, and what it cost."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from xfast.errors import XfastError
from xfast.pipeline.components import Component, Policy

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

    def admit(self, policy: Policy, now: float) -> bool:
        """Whether to try; after the pause one attempt is let through."""
        return policy.breaker_failures == 0 or self.failures < policy.breaker_failures or now >= self.open_until

    def record(self, policy: Policy, failed: bool, now: float) -> None:
        """Remember how an attempt ended."""
        self.failures = self.failures + 1 if failed else 0
        if policy.breaker_failures and self.failures >= policy.breaker_failures:
            self.open_until = now + policy.breaker_reset_ms / 1_000


@dataclass(frozen=True, slots=True)
class Call:
    """One component's turn in a stage."""

    component: Component[Any]
    policy: Policy
    breaker: Breaker
    function: Callable[[], Any]


@dataclass(slots=True)
class Outcome:
    """What a call returned or how it failed, and its wall time in ms."""

    value: Any = None
    error: Exception | None = None
    elapsed_ms: float = 0.0


async def _hedged(start: Callable[[], Awaitable[Any]], after_ms: float) -> Any:
    first = asyncio.ensure_future(start())
    done, _ = await asyncio.wait({first}, timeout=after_ms / 1_000)
    if done:
        return first.result()
    pending = {first, asyncio.ensure_future(start())}
    failure: BaseException | None = None
    try:
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
    call: Call, start: Callable[[], Awaitable[Any]], outcome: Outcome, left_ms: float | None, timer: Timer
) -> None:
    began = timer()
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
    outcome.elapsed_ms = (timer() - began) * 1_000
    call.breaker.record(call.policy, outcome.error is not None, timer())


def _run_inline(call: Call, outcome: Outcome, timer: Timer) -> Any:
    """Run a plain function; returns an awaitable when the function turned out to make one."""
    began = timer()
    try:
        value = call.function()
        if inspect.isawaitable(value):
            return value
        outcome.value = value
    except Exception as error:
        outcome.error = error
    outcome.elapsed_ms = (timer() - began) * 1_000
    call.breaker.record(call.policy, outcome.error is not None, timer())
    return None


async def run_concurrently(
    calls: Sequence[Call], *, left_ms: float | None, executor: Executor | None, timer: Timer = time.perf_counter
) -> list[Outcome]:
    """Run the calls of one stage and return their outcomes in the order of ``calls``.

    Work that waits elsewhere (``async``, ``threaded``) is started first, plain functions run meanwhile in this thread.
    """
    outcomes = [Outcome() for _ in calls]
    waiting: list[asyncio.Task[None]] = []
    plain: list[tuple[Call, Outcome]] = []
    loop = asyncio.get_running_loop()
    try:
        for call, outcome in zip(calls, outcomes, strict=True):
            if not call.breaker.admit(call.policy, timer()):
                outcome.error = CircuitOpenError(
                    f"{call.component.name} is skipped after {call.breaker.failures} failures in a row"
                )
            elif left_ms is not None and left_ms <= 0:
                outcome.error = DeadlineError(f"{call.component.name} was not started: the request's time is over")
            elif call.policy.threaded:
                start = _threaded(loop, executor, call)
                waiting.append(asyncio.ensure_future(_finish(call, start, outcome, left_ms, timer)))
            elif inspect.iscoroutinefunction(call.function):
                waiting.append(asyncio.ensure_future(_finish(call, call.function, outcome, left_ms, timer)))
            else:
                plain.append((call, outcome))
        if waiting and plain:
            await asyncio.sleep(0)
        for call, outcome in plain:
            awaitable = _run_inline(call, outcome, timer)
            if awaitable is not None:
                start = _once(awaitable, call.function)
                waiting.append(asyncio.ensure_future(_finish(call, start, outcome, left_ms, timer)))
        if waiting:
            await asyncio.gather(*waiting)
    except BaseException:
        for task in waiting:
            task.cancel()
        raise
    return outcomes


def _threaded(loop: asyncio.AbstractEventLoop, executor: Executor | None, call: Call) -> Callable[[], Awaitable[Any]]:
    return lambda: loop.run_in_executor(executor, call.function)


def _once(awaitable: Awaitable[Any], again: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """The awaitable that the first call already made, a new call for a hedged second attempt."""
    first: list[Awaitable[Any]] = [awaitable]
    return lambda: first.pop() if first else again()

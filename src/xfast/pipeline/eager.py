"""Async methods that cost no task while nothing has to be waited for.

Most collaborators of a feed answer from this process's memory. An ``async`` method then runs from its first to its last
line without ever waiting, and giving it a task, a timer and two turns of the event loop is most of what it costs. A
method marked :func:`eager` runs in its caller up to its first real wait, and only if there is one becomes a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import wraps
from types import coroutine
from typing import Any, ParamSpec, TypeGuard, TypeVar, cast

__all__ = ["answer", "answers", "eager", "is_awaitable"]

T = TypeVar("T")
P = ParamSpec("P")


def is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Whether ``await value`` works; of coroutines and futures ``inspect.isawaitable`` says the same, more slowly."""
    return hasattr(value, "__await__")


async def answer(value: T | Awaitable[T], *, deadline_ms: float | None = None) -> T:
    """The value, waited for where it is awaitable; how a component takes the answer of a plain or ``async`` client.

    Raises
    ------
    TimeoutError
        It took longer than ``deadline_ms``.
    """
    if is_awaitable(value):
        await _in_a_task()
        async with asyncio.timeout(None if deadline_ms is None else deadline_ms / 1_000):
            waited: T = await value
        return waited
    return cast(T, value)


async def answers(*values: Any) -> tuple[Any, ...]:
    """Several answers, the awaitable ones waited for together."""
    waiting = [value for value in values if is_awaitable(value)]
    if not waiting:
        return values
    await _in_a_task()
    came = iter(await asyncio.gather(*waiting))
    return tuple(next(came) if is_awaitable(value) else value for value in values)


@coroutine
def _in_a_task() -> Generator[None, None, None]:
    """Stop once, so that what follows runs in a task of its own.

    A client's coroutine may look at the task it runs in (``asyncio.timeout`` does); begun inside the caller it would
    find, and on time-out cancel, the task of the whole request.
    """
    yield


def eager(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T | Awaitable[T]]:
    """Let an ``async`` method run in its caller until it waits.

    Where it never does, calling it returns the result itself; else an awaitable of the rest, to be run in a task. The
    method must take what clients return through :func:`answer` or :func:`answers` and use nothing that needs a task
    (``asyncio.timeout``, ``asyncio.TaskGroup``) before.
    """

    @wraps(method)
    def begin(*args: P.args, **kwargs: P.kwargs) -> T | Awaitable[T]:
        work = method(*args, **kwargs)
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        return _finish(work, waits_for)

    return begin


async def _finish(work: Coroutine[Any, Any, T], waits_for: Any) -> T:
    return await _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """What is left of a coroutine that stands at its first wait."""
    try:
        yield waits_for
    except BaseException as error:
        # A cancelled task throws here; the coroutine must see it where it stands.
        try:
            waits_for = work.throw(error)
        except StopIteration as done:
            result: T = done.value
            return result
        rest: T = yield from _rest(work, waits_for)
        return rest
    finished: T = yield from work
    return finished

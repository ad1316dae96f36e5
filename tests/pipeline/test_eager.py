"""Eager methods: no task while nothing waits, and a task of their own from the first wait on."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.pipeline.toys import Best, Numbers, Query, Score, numbers
from xfast.pipeline import DeadlineError, Pipeline, Policy, Source, answer, answers, eager


class Client:
    """Answers at once, or after a while."""

    def __init__(self, delay: float | None = None, inner_timeout: float | None = None) -> None:
        self.delay, self.inner_timeout = delay, inner_timeout
        self.tasks: list[Any] = []
        self.ended = False

    def ids(self) -> Any:
        return [1, 2] if self.delay is None else self._later(self.delay)

    async def _later(self, delay: float) -> list[int]:
        self.tasks.append(asyncio.current_task())
        try:
            async with asyncio.timeout(self.inner_timeout):
                await asyncio.sleep(delay)
        finally:
            self.ended = True
        return [1, 2]


class Ask(Source[Query, Numbers]):
    def __init__(self, client: Client, policy: Policy | None = None) -> None:
        self.client = client
        self.policy = policy or Policy()

    @eager
    async def source(self, query: Query) -> Numbers:
        return numbers(*await answer(self.client.ids()))


class AskToo(Ask):
    pass


def test_nothing_to_wait_for_is_a_plain_call() -> None:
    assert Ask(Client()).source(Query()).values("id").tolist() == [1, 2]  # type: ignore[union-attr]
    assert not inspect.iscoroutinefunction(Ask.source)

    @eager
    async def fails() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        fails()


async def test_a_wait_makes_it_awaitable() -> None:
    client = Client(0.001)
    rest = Ask(client).source(Query())
    assert isinstance(rest, Awaitable) and client.tasks == []
    assert (await rest).values("id").tolist() == [1, 2]


async def test_the_client_runs_in_a_task_of_the_component_and_its_time_out_spares_the_request() -> None:
    slow, quick = Client(5, inner_timeout=0.01), Client(0.001)
    result = await Pipeline(Numbers, sources=[Ask(slow), AskToo(quick)], scorers=[Score()], selector=Best()).execute(
        Query()
    )
    assert result.selected.values("id").tolist() == [2, 1]
    assert [failure.name for failure in result.failures] == ["Ask"]
    assert "TimeoutError" in str(result.failures[0].error)
    assert asyncio.current_task() not in slow.tasks + quick.tasks
    assert slow.tasks != quick.tasks


async def test_eager_components_wait_together() -> None:
    started, both = [], asyncio.Event()

    class Meet(Client):
        def ids(self) -> Any:
            return self._meet()

        async def _meet(self) -> list[int]:
            started.append(self)
            if len(started) == 2:
                both.set()
            async with asyncio.timeout(10):
                await both.wait()
            return [1]

    result = await Pipeline(Numbers, sources=[Ask(Meet()), AskToo(Meet())]).execute(Query())
    assert not result.failures


async def test_a_deadline_cuts_the_wait_and_the_coroutine_sees_it() -> None:
    client = Client(5)
    result = await Pipeline(Numbers, sources=[Ask(client, Policy(deadline_ms=10))]).execute(Query())
    assert DeadlineError.__name__ in str(result.failures[0].error)
    assert client.ended


async def test_a_hedge_asks_an_eager_component_again() -> None:
    class OnceSlow(Client):
        def ids(self) -> Any:
            self.delay = 5.0 if not self.tasks else 0.001
            return super().ids()

    result = await Pipeline(Numbers, sources=[Ask(OnceSlow(), Policy(hedge_after_ms=10))]).execute(Query())
    assert result.selected.values("id").tolist() == [1, 2]


async def test_a_threaded_component_may_return_something_to_wait_for() -> None:
    pipeline = Pipeline(Numbers, sources=[Ask(Client(0.001), Policy(threaded=True))])
    assert (await pipeline.execute(Query())).selected.values("id").tolist() == [1, 2]
    pipeline.close()


async def test_a_coroutine_may_go_on_after_its_cancellation() -> None:
    @eager
    async def stubborn() -> str:
        try:
            await answer(asyncio.sleep(5))
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned up"
        return "slept"

    task = asyncio.ensure_future(stubborn())  # type: ignore[arg-type]
    await asyncio.sleep(0.001)
    task.cancel()
    assert await task == "cleaned up"


async def test_answers_mix_plain_and_waiting_values_in_order() -> None:
    async def later(value: int) -> int:
        await asyncio.sleep(0.001 * value)
        return value

    assert await answers(1, 2) == (1, 2)
    assert await answers(later(3), 2, later(1)) == (3, 2, 1)
    with pytest.raises(TimeoutError):
        await answer(asyncio.sleep(5), deadline_ms=5)

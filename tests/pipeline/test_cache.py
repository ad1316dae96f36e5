"""Cached hydrators: one call for the misses, hits lost with a bad answer, nothing kept of a failed row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pytest

from tests.pipeline.toys import Give, Numbers, Query, numbers
from xfast.errors import ParameterError
from xfast.pipeline import CachedHydrator, Hydration, MemoryCache, Metrics, NoCache, Pipeline, Policy


class Names(CachedHydrator[Query, Numbers]):
    columns = ("name", "tags")

    def __init__(self, cache: MemoryCache | NoCache | None = None) -> None:
        super().__init__(cache)
        self.asked: list[list[int]] = []
        self.short = self.raises = False
        self.bad: set[int] = set()

    def cache_keys(self, batch: Numbers) -> Sequence[Hashable]:
        keys: list[int] = batch.values("id").tolist()
        return keys

    async def hydrate_missing(self, query: Query, missing: Numbers) -> Hydration:
        wanted = missing.values("id").tolist()
        self.asked.append(wanted)
        if self.raises:
            raise RuntimeError("no service")
        names = np.array([f"n{number}" for number in wanted], np.object_)
        if self.short:
            return Hydration({"name": names[:-1], "tags": [[] for _ in wanted[:-1]]})
        ok = np.array([number not in self.bad for number in wanted])
        return Hydration({"name": names, "tags": [[number] if number % 2 else None for number in wanted]}, ok)


async def run(hydrator: Names, *ids: int, metrics: Metrics | None = None) -> list[str | None]:
    pipeline: Pipeline[Query, Numbers] = Pipeline(
        Numbers, sources=[Give(list(ids))], hydrators=[hydrator], metrics=metrics
    )
    result = await pipeline.execute(Query())
    column = result.retrieved.column("name")
    return [column.item(row) for row in range(len(column))]


async def test_misses_go_in_one_call_and_hits_do_not() -> None:
    hydrator, metrics = Names(), Metrics()
    assert await run(hydrator, 1, 2, metrics=metrics) == ["n1", "n2"]
    assert await run(hydrator, 3, 1, 4, 2) == ["n3", "n1", "n4", "n2"]
    assert hydrator.asked == [[1, 2], [3, 4]]
    assert metrics.counter("Names.cache", requests="cache_hit") == 2
    assert metrics.counter("Names.cache", requests="cache_miss") == 4


async def test_a_wrong_length_loses_the_hits_too() -> None:
    hydrator = Names()
    await run(hydrator, 1)
    hydrator.short = True
    assert await run(hydrator, 1, 2) == [None, None]


async def test_a_client_that_raises_loses_no_hits() -> None:
    hydrator, metrics = Names(), Metrics()
    await run(hydrator, 1)
    hydrator.raises = True
    pipeline: Pipeline[Query, Numbers] = Pipeline(
        Numbers, sources=[Give([1, 2])], hydrators=[hydrator], metrics=metrics,
        policies={"Names": Policy(breaker_failures=1)},
    )  # fmt: skip
    result = await pipeline.execute(Query(), explain=True)
    column = result.retrieved.column("name")
    assert [column.item(row) for row in range(2)] == ["n1", None]
    assert [(run.name, run.error) for run in result.failures] == [("Names", "RuntimeError: no service")]
    # The failure counts like any other: the breaker is open now.
    second = await pipeline.execute(Query())
    assert "CircuitOpenError" in (second.failures[0].error or "")
    hydrator.raises = False
    assert await run(hydrator, 1, 2) == ["n1", "n2"]
    assert hydrator.asked == [[1], [2], [2]]


async def test_a_failed_row_is_not_kept() -> None:
    hydrator = Names()
    hydrator.bad = {2}
    assert await run(hydrator, 1, 2) == ["n1", None]
    hydrator.bad = set()
    assert await run(hydrator, 1, 2) == ["n1", "n2"]
    assert hydrator.asked == [[1, 2], [2]]


async def test_lists_and_unset_cells_survive_the_cache() -> None:
    hydrator = Names()
    for _ in range(2):
        result = await Pipeline(Numbers, sources=[Give([1, 2])], hydrators=[hydrator]).execute(Query())
        assert [result.retrieved.ragged("tags").item(row) for row in range(2)] == [[1], None]


async def test_without_a_cache_every_row_is_asked_for() -> None:
    hydrator = Names(NoCache())
    await run(hydrator, 1, 2)
    await run(hydrator, 1)
    assert hydrator.asked == [[1, 2], [1]]
    assert NoCache().get_many([1]) == [None]


def test_memory_cache_expires_evicts_and_forgets() -> None:
    now = [0.0]
    cache = MemoryCache(2, ttl_ms=1_000, timer=lambda: now[0])
    cache.put_many(["a", "b"], [1, 2])
    assert cache.get_many(["a"]) == [1]
    cache.put_many(["c"], [3], [5_000])
    assert cache.get_many(["a", "b", "c"]) == [1, None, 3]
    now[0] = 2.0
    assert cache.get_many(["a", "c"]) == [None, 3]
    cache.forget(["c"])
    assert cache.get_many(["c"]) == [None]
    assert len(numbers()) == 0
    with pytest.raises(ParameterError, match="capacity is 0"):
        MemoryCache(0)

"""Small components for tests of the framework; candidates are numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from xfast.pipeline import (
    ColumnarBatch,
    Field,
    Filter,
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


class Numbers(ColumnarBatch):
    key: ClassVar[str | None] = "id"
    schema: ClassVar[Mapping[str, Field]] = MappingProxyType(
        {
            "id": Field(np.int64, optional=False),
            "score": Field(np.float64, fill=np.nan),
            "name": Field(np.object_, fill=None),
            "tags": Field(np.int64, ragged=True),
            "pair": Field(np.float64, fill=0.0, optional=False, width=2),
        }
    )


def numbers(*ids: int) -> Numbers:
    return Numbers({"id": np.array(ids, np.int64)}, length=len(ids))


@dataclass
class Query:
    flags: dict[str, Any] = field(default_factory=dict)

    def __copy__(self) -> Query:
        return Query(dict(self.flags))


class Give(Source[Query, Numbers]):
    def __init__(self, ids: Sequence[int], *, delay: float = 0, error: str = "", policy: Policy | None = None) -> None:
        self.ids, self.delay, self.error = list(ids), delay, error
        self.attempts = 0
        self.policy = policy or Policy()

    async def source(self, query: Query) -> Numbers:
        self.attempts += 1
        delay = self.delay(self.attempts) if callable(self.delay) else self.delay
        if delay:
            await asyncio.sleep(delay)
        if self.error:
            raise RuntimeError(self.error)
        return numbers(*self.ids)


class GiveOther(Give):
    pass


class Set(QueryHydrator[Query]):
    def __init__(self, name: str, value: Any, *, when: str | None = None, error: str = "") -> None:
        self.key, self.value, self.when, self.error = name, value, when, error

    def enable(self, query: Query) -> bool:
        return self.when is None or bool(query.flags.get(self.when))

    async def hydrate(self, query: Query) -> Any:
        if self.error:
            raise RuntimeError(self.error)
        return self.value

    def update(self, query: Query, partial: Any) -> None:
        query.flags[self.key] = partial


class Write(Hydrator[Query, Numbers]):
    """Writes what a function of the batch returns."""

    def __init__(self, make: Callable[[Numbers], Hydration]) -> None:
        self.make = make

    def hydrate(self, query: Query, batch: Numbers) -> Hydration:
        return self.make(batch)


class Drop(Filter[Query, Numbers]):
    def __init__(self, *ids: int, error: str = "") -> None:
        self.ids, self.error = ids, error

    def keep(self, query: Query, batch: Numbers) -> Any:
        if self.error:
            raise RuntimeError(self.error)
        return ~np.isin(batch.values("id"), self.ids)

    def reasons(self, query: Query, batch: Numbers, removed: Any) -> Sequence[str]:
        return [f"{number} is unwanted" for number in batch.values("id")[removed]]


class DropLater(Drop):
    pass


class Score(Scorer[Query, Numbers]):
    def __init__(self, make: Callable[[Any], Any] = lambda ids: ids.astype(np.float64), error: str = "") -> None:
        self.make, self.error = make, error

    async def score(self, query: Query, batch: Numbers) -> Hydration:
        if self.error:
            raise RuntimeError(self.error)
        return Hydration({"score": self.make(batch.values("id"))})

    def terms(self, query: Query, batch: Numbers) -> Any:
        return {"half": batch.values("score") / 2}


class Best(Selector[Query, Numbers]):
    def __init__(self, size: int | None = None) -> None:
        self.limit = size

    def scores(self, query: Query, batch: Numbers) -> Any:
        return batch.column("score").filled(-np.inf)

    def size(self, query: Query) -> int | None:
        return self.limit


class Remember(SideEffect[Query, Numbers]):
    def __init__(self, *, delay: float = 0, error: str = "") -> None:
        self.delay, self.error = delay, error
        self.seen: list[tuple[list[int], list[int]]] = []

    async def run(self, data: SideEffectInput[Query, Numbers]) -> None:
        await asyncio.sleep(self.delay)
        if self.error:
            raise RuntimeError(self.error)
        self.seen.append((data.selected.values("id").tolist(), data.non_selected.values("id").tolist()))

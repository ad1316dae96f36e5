"""What the framework itself costs: requests over 1,500 candidates whose components do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from xfast.pipeline import (
    Column,
    ColumnarBatch,
    Field,
    Filter,
    Hydration,
    Hydrator,
    Pipeline,
    QueryHydrator,
    Source,
    eager,
)

CANDIDATES = 1_500
COMPONENTS = 20
IDS = np.arange(CANDIDATES)
SCORES = Column(np.arange(CANDIDATES, dtype=np.float64), np.ones(CANDIDATES, np.bool_))
ALL = np.ones(CANDIDATES, np.bool_)


class Numbers(ColumnarBatch):
    """Ids and scores."""

    schema: ClassVar[Mapping[str, Field]] = MappingProxyType(
        {"id": Field(np.int64, optional=False), "score": Field(np.float64, fill=np.nan)}
    )


class Give(Source[Any, Numbers]):
    """The candidates."""

    def source(self, query: Any) -> Numbers:
        return Numbers({"id": IDS})


class PlainQuery(QueryHydrator[Any]):
    """A plain method."""

    def hydrate(self, query: Any) -> Any:
        return {}


class AsyncQuery(QueryHydrator[Any]):
    """A task, and a timer where there is a deadline."""

    async def hydrate(self, query: Any) -> Any:
        return {}


class EagerQuery(QueryHydrator[Any]):
    """Async without a wait."""

    @eager
    async def hydrate(self, query: Any) -> Any:
        return {}


class Write(Hydrator[Any, Numbers]):
    """One column."""

    def hydrate(self, query: Any, batch: Numbers) -> Hydration:
        return Hydration({"score": SCORES})


class KeepAll(Filter[Any, Numbers]):
    """A mask."""

    def keep(self, query: Any, batch: Numbers) -> Any:
        return ALL


STAGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "query hydrators": {"query_hydrators": PlainQuery},
    "eager query hydrators": {"query_hydrators": EagerQuery},
    "async query hydrators": {"query_hydrators": AsyncQuery},
    "hydrators": {"hydrators": Write},
    "filters": {"filters": KeepAll},
}


class Framework:
    """A request with twenty components of one kind; "nothing" is the request alone."""

    params = (list(STAGES),)
    param_names = ("components",)

    def setup(self, kind: str) -> None:
        members = {stage: [make() for _ in range(COMPONENTS)] for stage, make in STAGES[kind].items()}
        self.pipeline: Pipeline[Any, Numbers] = Pipeline(
            Numbers, sources=[Give()], default_deadline_ms=500, threads=0, **members
        )
        self.loop = asyncio.new_event_loop()

    def time_request(self, kind: str) -> None:
        self.loop.run_until_complete(self._requests())

    async def _requests(self) -> None:
        await self.pipeline.execute({})

    def teardown(self, kind: str) -> None:
        self.loop.close()

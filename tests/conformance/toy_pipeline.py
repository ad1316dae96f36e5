"""Toy pipelines of the suite ``pipeline_framework``: components described in JSON, run by ``xfast.pipeline``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from tests.conformance.home_mixer.cases import FEATURE_FIELDS, QUERY_FIELDS
from xfast.mixer.candidates import CandidateBatch
from xfast.pipeline import Field, Filter, Hydration, Hydrator, Pipeline, QueryHydrator, Scorer, Selector, Source

STAGES = {
    "query_hydrators",
    "dependent_query_hydrators",
    "sources",
    "hydrators",
    "filters",
    "scorers",
    "selector",
    "post_selection_hydrators",
    "post_selection_filters",
}


class ToyQuery(dict[str, Any]):
    """A query of named fields."""

    def __copy__(self) -> ToyQuery:
        return ToyQuery(self)


class Toy:
    """What every toy component has: the switch and the failure."""

    def __init__(self, spec: Mapping[str, Any], batch_type: type[CandidateBatch], known: set[str]) -> None:
        unknown = set(spec) - known - {"enable", "err", "name"}
        if unknown:
            raise ValueError(f"unknown component keys {sorted(unknown)}")
        self.spec = spec
        self.batch_type = batch_type

    def enable(self, query: ToyQuery) -> bool:
        switch = self.spec.get("enable")
        switch = True if switch is None else switch
        return bool(query.get(switch)) if isinstance(switch, str) else bool(switch)

    def fail(self) -> None:
        if self.spec.get("err") is not None:
            raise RuntimeError(str(self.spec["err"]))

    def column(self, name: str, values: list[Any]) -> Hydration:
        ok = np.array([value != "ERR" for value in values], np.bool_)
        cells = [{name: None if value == "ERR" else value} for value in values]
        batch = self.batch_type.from_records(cells)
        column = batch.ragged(name) if self.batch_type.schema[name].ragged else batch.column(name)
        return Hydration({name: column}, ok)


class ToyQueryHydrator(Toy, QueryHydrator[Any]):
    async def hydrate(self, query: ToyQuery) -> Any:
        self.fail()
        return dict(self.spec["set"])

    def update(self, query: ToyQuery, partial: Any) -> None:
        query.update(partial)


class ToySource(Toy, Source[Any, CandidateBatch]):
    async def source(self, query: ToyQuery) -> CandidateBatch:
        self.fail()
        return self.batch_type.from_records([{"tweet_id": tweet_id} for tweet_id in self.spec["ids"]])


class ToyHydrator(Toy, Hydrator[Any, CandidateBatch]):
    async def hydrate(self, query: ToyQuery, batch: CandidateBatch) -> Hydration:
        self.fail()
        return self.column(self.spec["field"], self.spec["values"])


class ToyFilter(Toy, Filter[Any, CandidateBatch]):
    def keep(self, query: ToyQuery, batch: CandidateBatch) -> Any:
        self.fail()
        return ~np.isin(batch.tweet_id, np.array(self.spec["drop_ids"], np.uint64))


class ToyScorer(Toy, Scorer[Any, CandidateBatch]):
    async def score(self, query: ToyQuery, batch: CandidateBatch) -> Hydration:
        self.fail()
        return self.column("score", self.spec["values"])


class ToySelector(Toy, Selector[Any, CandidateBatch]):
    def scores(self, query: ToyQuery, batch: CandidateBatch) -> Any:
        self.fail()
        return batch.column("score").filled(-np.inf)

    def size(self, query: ToyQuery) -> int | None:
        size: int | None = self.spec.get("size")
        return size


async def run_toy_pipeline(case: Mapping[str, Any]) -> dict[str, Any]:
    """Build the pipeline of a case, run it, show what came out."""
    unknown = set(case) - STAGES - {"query", "result_size"} - QUERY_FIELDS - FEATURE_FIELDS
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    case = {key: value for key, value in case.items() if value is not None}
    extra = {spec["field"] for stage in ("hydrators", "post_selection_hydrators") for spec in case.get(stage, ())}
    objects = {name: Field(np.object_, fill=None) for name in extra - set(CandidateBatch.schema)}
    schema = MappingProxyType({**CandidateBatch.schema, **objects})
    batch_type: type[CandidateBatch] = type("ToyBatch", (CandidateBatch,), {"schema": schema, "__slots__": ()})

    def make(kind: Any, stage: str, known: set[str]) -> list[Any]:
        return [kind(spec, batch_type, known) for spec in case.get(stage, ())]

    pipeline: Pipeline[Any, CandidateBatch] = Pipeline(
        batch_type,
        query_hydrators=make(ToyQueryHydrator, "query_hydrators", {"set"}),
        dependent_query_hydrators=make(ToyQueryHydrator, "dependent_query_hydrators", {"set"}),
        sources=make(ToySource, "sources", {"ids"}),
        hydrators=make(ToyHydrator, "hydrators", {"field", "values"}),
        filters=make(ToyFilter, "filters", {"drop_ids"}),
        scorers=make(ToyScorer, "scorers", {"values"}),
        selector=ToySelector(case.get("selector") or {}, batch_type, {"size"}),
        post_selection_hydrators=make(ToyHydrator, "post_selection_hydrators", {"field", "values"}),
        post_selection_filters=make(ToyFilter, "post_selection_filters", {"drop_ids"}),
        result_size=case.get("result_size"),
    )
    result = await pipeline.execute(ToyQuery(case.get("query", {})))
    shown = {name: getattr(result, name).tweet_id.tolist() for name in ("retrieved", "filtered", "selected")}
    return {"query": dict(result.query), **shown, "non_selected": result.non_selected.tweet_id.tolist()}

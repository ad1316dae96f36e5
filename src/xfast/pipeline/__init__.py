"""A reusable candidate pipeline over columnar batches; it knows nothing about posts.

A component is one small class; :class:`Pipeline` runs them in the stage order of HOME_MIXER §2 and contains every
failure. See ``docs/pipeline.md`` for a custom source, filter and scorer.
"""

from xfast.pipeline.cache import CachedHydrator, CacheStore, MemoryCache, NoCache
from xfast.pipeline.columns import Column, ColumnarBatch, Field, Mask, Ragged
from xfast.pipeline.components import (
    Batch,
    Component,
    Filter,
    FilterResult,
    Hydration,
    Hydrator,
    Policy,
    QueryHydrator,
    Scorer,
    Selection,
    Selector,
    SideEffect,
    SideEffectInput,
    Source,
    descending,
)
from xfast.pipeline.eager import answer, answers, eager
from xfast.pipeline.execution import CircuitOpenError, DeadlineError
from xfast.pipeline.metrics import Metrics, Series, prometheus_name
from xfast.pipeline.pipeline import Pipeline, PipelineResult
from xfast.pipeline.trace import CandidateTrace, ComponentRun, Trace

__all__ = [
    "Batch",
    "CacheStore",
    "CachedHydrator",
    "CandidateTrace",
    "CircuitOpenError",
    "Column",
    "ColumnarBatch",
    "Component",
    "ComponentRun",
    "DeadlineError",
    "Field",
    "Filter",
    "FilterResult",
    "Hydration",
    "Hydrator",
    "Mask",
    "MemoryCache",
    "Metrics",
    "NoCache",
    "Pipeline",
    "PipelineResult",
    "Policy",
    "QueryHydrator",
    "Ragged",
    "Scorer",
    "Selection",
    "Selector",
    "Series",
    "SideEffect",
    "SideEffectInput",
    "Source",
    "Trace",
    "answer",
    "answers",
    "descending",
    "eager",
    "prometheus_name",
]

"""Spans through OpenTelemetry's API: nothing without a provider, counts and names with one."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.pipeline.toys import Best, Drop, DropLater, Give, Query, Score, Set, numbers
from xfast.pipeline import Pipeline, telemetry


class Provider:
    """Keeps finished spans as (name, attributes), like an SDK's exporter in memory."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any]]] = []

    def get_tracer(self, name: str) -> Any:
        assert name == "xfast.pipeline"
        return self

    @contextmanager
    def start_as_current_span(self, name: str) -> Any:
        attributes: dict[str, Any] = {}
        yield SimpleNamespace(set_attribute=attributes.__setitem__)
        self.spans.append((name, attributes))


async def test_spans_carry_totals_disabled_names_and_the_filter_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider()
    api = SimpleNamespace(get_tracer_provider=lambda: provider, ProxyTracerProvider=type(None))
    monkeypatch.setattr(telemetry, "_api", lambda: api)
    pipeline = Pipeline(
        type(numbers(1)),
        query_hydrators=[Set("a", 1), Set("b", 1, when="never")],
        sources=[Give([1, 2, 3])],
        filters=[Drop(1), DropLater()],
        scorers=[Score()],
        selector=Best(),
    )
    await pipeline.execute(Query())
    spans = dict(provider.spans)
    assert spans["Pipeline.QueryHydrator"] == {"xfast.total": 2, "xfast.enabled": 1, "xfast.disabled": ["Set"]}
    assert spans["Pipeline.Filter"]["xfast.filter_rate"] == 0.333
    assert spans["Pipeline.execute"] == {"xfast.retrieved": 3, "xfast.selected": 2, "xfast.failures": 0}
    assert provider.spans[-1][0] == "Pipeline.execute"


def test_without_a_provider_nobody_records() -> None:
    assert not telemetry.tracer().records
    with telemetry.tracer().span("x") as span:
        span.note(total=1)

"""OpenTelemetry spans, if the application has its API package; nothing otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

__all__ = ["span"]


@lru_cache(maxsize=1)
def _tracer() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("xfast.pipeline")


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """A span named ``name``; the application decides through its OpenTelemetry SDK whether anyone records it."""
    tracer = _tracer()
    if tracer is None:
        return nullcontext()
    context: AbstractContextManager[Any] = tracer.start_as_current_span(
        name, attributes={f"xfast.{key}": value for key, value in attributes.items()}
    )
    return context

"""OpenTelemetry spans, if the application records any; nothing otherwise."""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType
from typing import Any, Self

__all__ = ["Span", "Tracer", "tracer"]


class Span:
    """A stage that nobody records: the base of those that are."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        return None

    def note(self, **attributes: Any) -> None:
        """Attach attributes; their names get the prefix ``xfast.``."""


class _RecordedSpan(Span):
    __slots__ = ("_context", "_span")

    def __init__(self, context: Any) -> None:
        self._context = context

    def __enter__(self) -> Self:
        self._span = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, where)

    def note(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            self._span.set_attribute(f"xfast.{name}", value)


_NOTHING = Span()


class Tracer:
    """Opens spans; :attr:`records` tells whether anyone will read them."""

    records = False

    def span(self, name: str) -> Span:
        """A span to be used in a ``with``."""
        return _NOTHING


class _RecordingTracer(Tracer):
    records = True

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self._tracer = provider.get_tracer("xfast.pipeline")

    def span(self, name: str) -> Span:
        return _RecordedSpan(self._tracer.start_as_current_span(name))


_SILENT = Tracer()


@lru_cache(maxsize=1)
def _api() -> Any:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace


@lru_cache(maxsize=4)
def _recording(provider: Any) -> Tracer:
    return _RecordingTracer(provider)


def tracer() -> Tracer:
    """The application's tracer, asked for anew by each request; a silent one until it sets a provider."""
    trace = _api()
    if trace is None:
        return _SILENT
    provider = trace.get_tracer_provider()
    return _SILENT if isinstance(provider, trace.ProxyTracerProvider) else _recording(provider)

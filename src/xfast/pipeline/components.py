"""What a pipeline is made of: one small class per kind of component.

Every method that does the work may be a plain function or ``async``. A plain one runs at once in the request's own
thread, which is right for columns already in memory; ``policy = Policy(threaded=True)`` moves it to a worker thread,
which is right for native code that lets go of the GIL and for blocking clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.pipeline.columns import Mask
from xfast.pipeline.metrics import Metrics

__all__ = [
    "Batch",
    "Component",
    "Errors",
    "Filter",
    "FilterResult",
    "Hydration",
    "Hydrator",
    "Policy",
    "QueryHydrator",
    "Scorer",
    "Selection",
    "Selector",
    "SideEffect",
    "SideEffectInput",
    "Source",
    "descending",
]

Indices = npt.NDArray[np.int64]


@runtime_checkable
class Batch(Protocol):
    """The three things that the framework does with candidates."""

    def __len__(self) -> int: ...

    def take(self, indices: Any) -> Self:
        """Rows in the given order."""
        ...

    @classmethod
    def concat(cls, batches: Sequence[Any]) -> Self:
        """All rows of several batches, in order."""
        ...


Q = TypeVar("Q")
B = TypeVar("B", bound=Batch)


@dataclass(frozen=True, slots=True)
class Policy:
    """How the pipeline treats one component.

    Attributes
    ----------
    deadline_ms
        Longest run of one attempt; later it counts as failed. ``None``: only the request's own deadline. It cuts
        ``async`` and ``threaded`` components; a plain one cannot be interrupted.
    hedge_after_ms
        Start a second attempt when the first has not answered by then and take whichever answers first (``async`` and
        ``threaded`` components that only read).
    breaker_failures, breaker_reset_ms
        After that many failures in a row the component is skipped for that long, then tried once. 0: never.
    on_error
        ``"continue"``: log, count, trace and go on as if the component had returned nothing. ``"fail"``: the request
        fails with the component's error.
    log_level
        Level for failures, as of :mod:`logging`.
    threaded
        Run a plain function in a worker thread.
    """

    deadline_ms: float | None = None
    hedge_after_ms: float | None = None
    breaker_failures: int = 0
    breaker_reset_ms: float = 10_000.0
    on_error: str = "continue"
    log_level: int = 30
    threaded: bool = False

    def __post_init__(self) -> None:
        if self.on_error not in ("continue", "fail"):
            raise ParameterError(f"on_error is {self.on_error!r}, must be 'continue' or 'fail'")
        for name in ("deadline_ms", "hedge_after_ms", "breaker_reset_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ParameterError(f"{name} is {value!r}, must be positive")
        if self.breaker_failures < 0:
            raise ParameterError(f"breaker_failures is {self.breaker_failures}, must be 0 or more")


class Component(Generic[Q]):
    """Base of all components: a name, a switch and a policy."""

    policy: Policy = Policy()
    #: Where to count; the pipeline sets it.
    metrics: Metrics | None = None

    @property
    def name(self) -> str:
        """Short type name; what traces, metrics and ``Pipeline.components()`` show."""
        return type(self).__name__

    def enable(self, query: Q) -> bool:
        """Whether to run for this query, asked with the query as it stands when the stage begins."""
        return True


class QueryHydrator(Component[Q]):
    """Fetches something about the request before candidates exist.

    ``hydrate`` returns a partial result (a mapping of field -> value, or anything that ``update`` understands);
    ``update`` copies this component's own fields, by default those named in :attr:`fields`.
    """

    fields: ClassVar[tuple[str, ...]] = ()

    def hydrate(self, query: Q) -> Any | Awaitable[Any]:
        """Read the query, return the partial result; must not change the query."""
        raise NotImplementedError

    def update(self, query: Q, partial: Any) -> None:
        """Copy this component's fields from ``partial`` into the query."""
        for name in self.fields:
            if name in partial:
                setattr(query, name, partial[name])


class Source(Component[Q], Generic[Q, B]):
    """Brings candidates."""

    def source(self, query: Q) -> B | Awaitable[B]:
        """Return a batch of candidates for the query."""
        raise NotImplementedError


Errors = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Hydration:
    """Columns for a batch, and the rows for which they could not be had.

    Attributes
    ----------
    columns
        Column name -> values for *all* rows of the batch. A column of another length discards the whole result.
    ok
        Rows that succeeded; the others stay as they were. ``None``: all.
    errors
        Row -> message, for the trace.
    failure
        Why a call failed altogether although some rows are good, as those that a cache had: told and counted like an
        exception of the component, while the good rows are applied.
    """

    columns: Mapping[str, Any]
    ok: Mask | None = None
    errors: Errors = field(default_factory=dict)
    failure: Exception | None = None


class Hydrator(Component[Q], Generic[Q, B]):
    """Adds columns to candidates. All hydrators of a stage see the batch as it was before the stage."""

    def hydrate(self, query: Q, batch: B) -> Hydration | Awaitable[Hydration]:
        """Return columns, one value per row of ``batch``, in its order."""
        raise NotImplementedError

    def update(self, query: Q, batch: B, result: Hydration) -> B:
        """Apply a result to the batch; override for effects across rows."""
        applied: B = batch.with_columns(result.columns, ok=result.ok)  # type: ignore[attr-defined]
        return applied


class Scorer(Component[Q], Generic[Q, B]):
    """Adds score columns. Scorers run one after another, each on the result of the one before."""

    def score(self, query: Q, batch: B) -> Hydration | Awaitable[Hydration]:
        """Return score columns, one value per row."""
        raise NotImplementedError

    def update(self, query: Q, batch: B, result: Hydration) -> B:
        """Apply a result to the batch."""
        applied: B = batch.with_columns(result.columns, ok=result.ok)  # type: ignore[attr-defined]
        return applied

    def terms(self, query: Q, batch: B) -> Mapping[str, npt.NDArray[Any]]:
        """Named parts of the score per row of the scored batch; asked only when a trace is kept."""
        return {}


@dataclass(frozen=True, slots=True)
class FilterResult:
    """Rows to keep, in their new order, and rows removed, in the order in which they were met."""

    kept: Indices
    removed: Indices


class Filter(Component[Q], Generic[Q, B]):
    """Removes candidates. Filters run one after another; the next one sees only what was kept.

    Attributes
    ----------
    why
        What a trace says about removed candidates, unless :meth:`reasons` says more.
    """

    why: ClassVar[str] = ""

    def keep(self, query: Q, batch: B) -> Mask:
        """Return the mask of rows to keep."""
        raise NotImplementedError

    def filter(self, query: Q, batch: B) -> FilterResult | None:
        """Split the batch; ``None`` means that everything stays. Override when kept rows change order."""
        mask = self.keep(query, batch)
        if np.count_nonzero(mask) == len(mask):  # a third of the time of mask.all()
            return None
        return FilterResult(mask.nonzero()[0], (~mask).nonzero()[0])

    def reasons(self, query: Q, batch: B, removed: Indices) -> Sequence[str]:
        """Why each removed row went; asked only when a trace is kept."""
        return [self.why or self.name] * len(removed)


@dataclass(frozen=True, slots=True)
class Selection:
    """Selected rows, best first, and the rest."""

    selected: Indices
    rest: Indices


def descending(scores: npt.NDArray[Any]) -> Indices:
    """Row order by score, highest first; equal scores, and NaN against anything, keep their order."""
    if not np.isnan(scores).any():
        return np.argsort(-scores, kind="stable")
    # "NaN equals everything" is not an order; a plain insertion sort is what gives it a defined outcome.
    places: list[int] = []
    for row, score in enumerate(scores.tolist()):
        place = len(places)
        while place > 0 and scores[places[place - 1]] < score:
            place -= 1
        places.insert(place, row)
    return np.array(places, np.int64)


class Selector(Component[Q], Generic[Q, B]):
    """Orders candidates and cuts: by default sorts by :meth:`scores`, highest first, and cuts at :meth:`size`."""

    def scores(self, query: Q, batch: B) -> npt.NDArray[Any]:
        """The sort key per row."""
        raise NotImplementedError

    def size(self, query: Q) -> int | None:
        """How many to select; ``None``: all."""
        return None

    def order(self, scores: npt.NDArray[Any]) -> Indices:
        """Rows by score, best first."""
        return descending(scores)

    def select(self, query: Q, batch: B) -> Selection:
        """Split the batch into selected rows, best first, and the rest."""
        order = self.order(self.scores(query, batch))
        size = self.size(query)
        return Selection(order, order[:0]) if size is None else Selection(order[:size], order[size:])

    def assemble(self, query: Q, batch: B) -> tuple[B, B] | None:
        """Return (selected, rest) as new batches when selection makes items instead of choosing rows (a blender)."""
        return None


@dataclass(frozen=True, slots=True)
class SideEffectInput(Generic[Q, B]):
    """What side effects see: the hydrated query, the final list, and what the selector and the size limit left out."""

    query: Q
    selected: B
    non_selected: B


class SideEffect(Component[Q], Generic[Q, B]):
    """Something done after the answer is ready; the answer never waits for it."""

    def run(self, data: SideEffectInput[Q, B]) -> Awaitable[None] | None:
        """Do the work; an error is logged and counted."""
        raise NotImplementedError

"""What happened to every candidate of a request: who brought it, who removed it and why, every score, every move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CandidateTrace", "ComponentRun", "Trace"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ComponentRun:
    """One component's turn; ``status`` is ``"ran"``, ``"disabled"`` or ``"failed"``, sizes count candidates."""

    stage: str
    name: str
    status: str
    elapsed_ms: float = 0.0
    size_in: int | None = None
    size_out: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CandidateTrace:
    """The way of one candidate through a request.

    Attributes
    ----------
    row
        Its index among the retrieved candidates.
    source
        Name of the source that brought it.
    removed_by, reason
        The filter that removed it and its explanation; ``None`` when no filter did.
    errors
        (component, message) of hydrators and scorers that failed for this candidate.
    scores
        (scorer, {term: value}) in the order in which scorers ran.
    ranks
        (stage, rank), 0 is best: among the candidates of the sources, after each scorer that changed the order, in the
        selection and in the result.
    final_rank
        Place in the final list, ``None`` when it is not there.
    """

    row: int
    source: str | None
    removed_by: str | None
    reason: str | None
    errors: tuple[tuple[str, str], ...]
    scores: tuple[tuple[str, dict[str, float]], ...]
    ranks: tuple[tuple[str, int], ...]
    final_rank: int | None


@dataclass
class Trace:
    """Filled by the pipeline when ``explain=True``; rows are indices into ``PipelineResult.retrieved``."""

    runs: list[ComponentRun] = field(default_factory=list)
    sources: list[tuple[str, int]] = field(default_factory=list)
    removals: dict[int, tuple[str, str]] = field(default_factory=dict)
    errors: list[tuple[str, Rows, Mapping[int, str]]] = field(default_factory=list)
    terms: list[tuple[str, Rows, Mapping[str, npt.NDArray[Any]]]] = field(default_factory=list)
    orders: list[tuple[str, Rows]] = field(default_factory=list)

    def source_of(self, row: int) -> str | None:
        """The source that brought a row."""
        end = 0
        for name, size in self.sources:
            end += size
            if row < end:
                return name
        return None

    def remove(self, name: str, rows: Rows, reasons: Sequence[str]) -> None:
        """Note which rows a filter removed."""
        for row, reason in zip(rows.tolist(), reasons, strict=True):
            self.removals[row] = (name, reason)

    def order(self, stage: str, rows: Rows) -> None:
        """Note the order of candidates after a stage."""
        self.orders.append((stage, rows))

    def candidate(self, row: int) -> CandidateTrace:
        """Everything known about one retrieved candidate."""
        return self.candidates([row])[0]

    def candidates(self, rows: Sequence[int] | Rows) -> list[CandidateTrace]:
        """Everything known about some retrieved candidates."""
        wanted = np.asarray(rows, np.int64)
        size = len(wanted)
        failed: dict[int, list[tuple[str, str]]] = {}
        for name, traced, messages in self.errors:
            for index, text in messages.items():
                failed.setdefault(int(traced[index]), []).append((name, text))
        scores: list[list[tuple[str, dict[str, float]]]] = [[] for _ in range(size)]
        for name, traced, terms in self.terms:
            met, places = _met(wanted, traced)
            columns = [np.asarray(values)[places].astype(np.float64).tolist() for values in terms.values()]
            for index, cells in zip(met.tolist(), zip(*columns) if columns else [()] * len(met), strict=True):
                scores[index].append((name, dict(zip(terms, cells, strict=True))))
        ranks: list[list[tuple[str, int]]] = [[] for _ in range(size)]
        final: list[int | None] = [None] * size
        for stage, traced in self.orders:
            met, places = _met(wanted, traced)
            final = [None] * size
            for index, place in zip(met.tolist(), places.tolist(), strict=True):
                ranks[index].append((stage, place))
                final[index] = place
        stories = []
        for index, row in enumerate(wanted.tolist()):
            removed_by, reason = self.removals.get(row, (None, None))
            errors, scored, placed = tuple(failed.get(row, ())), tuple(scores[index]), tuple(ranks[index])
            stories.append(
                CandidateTrace(row, self.source_of(row), removed_by, reason, errors, scored, placed, final[index])
            )
        return stories

    def failures(self) -> list[ComponentRun]:
        """Components that failed as a whole."""
        return [run for run in self.runs if run.status == "failed"]


def _met(wanted: Rows, traced: Rows) -> tuple[Rows, Rows]:
    """Which of the wanted rows were traced, and at which places."""
    if not len(wanted) or not len(traced):
        nothing = np.empty(0, np.int64)
        return nothing, nothing
    places = np.full(max(int(wanted.max()), int(traced.max())) + 1, -1, np.int64)
    places[traced] = np.arange(len(traced))
    at = places[wanted]
    met = np.flatnonzero(at >= 0)
    return met, at[met]

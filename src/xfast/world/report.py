"""ImportReport: what an import read, what it made of it, and every row it could not use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_KEPT = 100  # problems that are listed one by one; beyond it they are counted by reason


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that could not be used: its file, its line (from 1), and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass
class ImportReport:
    """What an import read and made.

    Attributes
    ----------
    source
        The importer and its input.
    rows
        Rows read per file, good and bad.
    problems
        The first 100 rows that could not be used.
    malformed
        How many there were in all, by reason.
    notes
        Facts about the result: how times were moved, what stands for what.
    events
        Events per kind, set when the import is done.
    """

    source: str
    rows: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    malformed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    events: Mapping[str, int] = field(default_factory=dict)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, file: str, line: int, reason: str, detail: str = "") -> None:
        """Record a row that cannot be used; ``reason`` is what is counted, ``detail`` only listed."""
        self.malformed[f"{file}: {reason}"] += 1
        if len(self.problems) < _KEPT:
            self.problems.append(Problem(file, line, f"{reason}{': ' if detail else ''}{detail}"))

    @property
    def bad_rows(self) -> int:
        """The number of rows that could not be used."""
        return self.malformed.total()

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "source": self.source,
            "rows": self.rows,
            "malformed": dict(self.malformed),
            "problems": [{"file": item.file, "line": item.line, "reason": item.reason} for item in self.problems],
            "notes": self.notes,
            "events": dict(self.events),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
        }

    def __str__(self) -> str:
        lines = [self.source]
        lines += [f"  read   {count:>12,} rows of {name}" for name, count in self.rows.items()]
        lines += [f"  made   {count:>12,} {kind} events" for kind, count in self.events.items()]
        if self.first_ms is not None and self.last_ms is not None:
            lines.append(f"  time   {_date(self.first_ms)} to {_date(self.last_ms)}")
        lines += [f"  note   {note}" for note in self.notes]
        lines.append(f"  bad    {self.bad_rows:>12,} rows could not be used")
        lines += [f"         {count:>12,} {reason}" for reason, count in self.malformed.most_common()]
        lines += [f"         {problem}" for problem in self.problems[:10]]
        if self.bad_rows > 10:
            lines.append(f"         … {self.bad_rows - 10:,} more; report.json lists the first {_KEPT}")
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write ``report.json`` and ``report.txt``."""
        text = json.dumps(self.to_json(), ensure_ascii=False, indent=1)
        (folder / "report.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.txt").write_text(f"{self}\n", encoding="utf-8")


def _date(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

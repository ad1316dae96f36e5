"""What the runner prints: one line per suite, every failing id with expected and got, and the total."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, TextIO


@dataclass
class Report:
    """Counts passed checks and prints as it goes."""

    out: TextIO = field(default_factory=lambda: sys.stdout)
    passed: int = 0
    total: int = 0

    def suite(self, name: str, passed: int, total: int, detail: str = "") -> None:
        """Print the line of a finished suite or case and add it to the total."""
        self.passed += passed
        self.total += total
        print(f"{name} {passed}/{total}{'  ' + detail if detail else ''}", file=self.out)

    def failure(self, identifier: str, *, expected: Any, got: Any) -> None:
        """Print one failing case; the caller counts it in its suite."""
        print(f"  FAIL {identifier}\n    expected {expected!r}\n    got      {got!r}", file=self.out)

    def finish(self) -> int:
        """Print the total; the process's exit code."""
        print(f"TOTAL {self.passed}/{self.total}", file=self.out)
        return 0 if self.passed == self.total and self.total > 0 else 1

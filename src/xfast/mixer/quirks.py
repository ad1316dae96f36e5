"""``quirks="reference"`` reproduces the May-2026 release, ``"fixed"`` repairs it."""

from __future__ import annotations

from typing import Literal

from xfast.errors import ParameterError

__all__ = ["Quirks", "check_quirks"]

Quirks = Literal["reference", "fixed"]


def check_quirks(value: str) -> Quirks:
    """The value, if it is one of the two."""
    if value == "reference":
        return "reference"
    if value == "fixed":
        return "fixed"
    raise ParameterError(f"quirks is {value!r}, must be 'reference' or 'fixed'")

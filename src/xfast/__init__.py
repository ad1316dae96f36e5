"""xfast: the "For You" feed as one package — network events in, a ranked and explained feed out.

Importing it is cheap: the parts (``xfast.phoenix``, ``xfast.thunder``, ``xfast.mixer``, …) load when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from xfast.errors import (
    ArtifactError,
    ConfigurationError,
    DataError,
    ParameterError,
    SnapshotError,
    XfastError,
)

__version__ = _version("xfast")

__all__ = [
    "ArtifactError",
    "ConfigurationError",
    "DataError",
    "ParameterError",
    "SnapshotError",
    "XfastError",
    "__version__",
]

_PARTS = frozenset({"actions", "events", "ids", "phoenix"})


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"xfast.{name}")
    raise AttributeError(f"module 'xfast' has no attribute {name!r}")


if TYPE_CHECKING:
    from xfast import actions, events, ids, phoenix

"""xfast: the "For You" feed as one package — network events in, a ranked and explained feed out.

Importing it is cheap: the parts (``xfast.phoenix``, ``xfast.thunder``, ``xfast.mixer``, …) load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xfast.errors import (
    ArtifactError,
    ConfigurationError,
    DataError,
    ParameterError,
    SnapshotError,
    StoreError,
    XfastError,
)

__version__: str

__all__ = [
    "ArtifactError",
    "ConfigurationError",
    "DataError",
    "ParameterError",
    "SnapshotError",
    "StoreError",
    "XfastError",
    "__version__",
]

# The parts that load on first use as attributes of the package.
_PARTS = frozenset(
    {
        "events",
        "feed",
        "ids",
        "mixer",
        "phoenix",
        "pipeline",
        "research",
        "sketch",
        "stores",
        "text",
        "thunder",
        "world",
    }
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # Reading the metadata costs more than everything else that `import xfast` does.
        from importlib.metadata import version

        return version("xfast")
    if name == "Feed":
        return import_module("xfast.feed").Feed
    if name in _PARTS:
        return import_module(f"xfast.{name}")
    raise AttributeError(f"module 'xfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS, "Feed"})

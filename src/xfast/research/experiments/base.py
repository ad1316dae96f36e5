"""What an experiment is: named parts, each a pure function of the data, returning values under published target ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xfast.errors import ParameterError
from xfast.research import datasets, synthetic
from xfast.research.environment import F64, Environment
from xfast.research.figure import Figure, Series

__all__ = [
    "Context",
    "Experiment",
    "Figure",
    "Part",
    "Result",
    "Series",
    "Tier",
    "Value",
    "Why",
    "average",
    "explanations",
    "per_dataset",
    "to_plain",
    "with_error",
]

Value = float | int | str | list[float] | dict[str, float]
Tier = Literal["full", "small"]


@dataclass(frozen=True)
class Why:
    """Measured explanation of a difference from a published number.

    Attributes
    ----------
    open
        What the sources leave open, in words.
    tried
        Setting -> value of the very same target under it. The scoreboard counts an explanation only if at least two of
        these differ, and says whether the published number lies among them.
    """

    open: str
    tried: Mapping[str, Value]


@dataclass(frozen=True)
class Result:
    """What a part found.

    Attributes
    ----------
    values
        Target id -> value; a mean with its standard error is ``{"value": …, "se": …}``.
    whys
        Target id -> measured explanation, used where the value differs from the published one.
    detail
        Anything else worth keeping (JSON).
    figures
        File stem -> plot.
    """

    values: dict[str, Value]
    whys: dict[str, Why] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; NumPy scalars and arrays are unpacked."""
        plain: dict[str, Any] = to_plain(asdict(self))
        return plain


def to_plain(value: Any) -> Any:
    """Unpack NumPy scalars and arrays into JSON types; a non-finite float becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return value


@dataclass(frozen=True)
class Context:
    """What parts may use.

    Attributes
    ----------
    folders
        Data set name -> folder with its original files.
    tier
        ``full`` for the published sizes, ``small`` for a smoke run in seconds.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)
    tier: Tier = "full"

    @cached_property
    def _loaded(self) -> dict[str, Environment]:
        return {}

    def environment(self, name: str) -> Environment:
        """Load a data set once."""
        if name not in self._loaded:
            if name == "synthetic":
                self._loaded[name] = synthetic.environment(500)
            elif name in self.folders:
                self._loaded[name] = datasets.load(name, self.folders[name])
            else:
                error = ParameterError(f"data set {name!r} is not among the folders given by --data")
                if name in datasets.DOWNLOADS:
                    error.add_note(str(datasets.DOWNLOADS[name]))
                raise error
        return self._loaded[name]

    def count(self, full: int, small: int) -> int:
        """`full` in the full tier, `small` in the small one."""
        return full if self.tier == "full" else small


@dataclass(frozen=True)
class Part:
    """A unit of work that is cached and resumed on its own; `dataset` is None when it needs no data files."""

    name: str
    run: Callable[[Context], Result]
    dataset: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A named group of parts."""

    name: str
    summary: str
    parts: tuple[Part, ...]


def per_dataset(
    run: Callable[[Context, str], Result], names: Sequence[str] = tuple(datasets.LOADERS)
) -> tuple[Part, ...]:
    """One part per data set, from a function of (context, data set name)."""

    def bind(name: str) -> Part:
        return Part(name, lambda context: run(context, name), dataset=name)

    return tuple(bind(name) for name in names)


def average(samples: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    """Mean of every value over several runs of a study (other pools, say); counts that agree stay counts.

    Texts are taken from the first run.
    """
    return {key: _mean([sample[key] for sample in samples]) for key in samples[0]}


def _mean(values: Sequence[Value]) -> Value:
    first = values[0]
    if isinstance(first, Mapping):
        return {key: float(np.mean([value[key] for value in values])) for key in first}  # type: ignore[index, call-overload, arg-type]
    if isinstance(first, str | list) or all(value == first for value in values):
        return first
    return float(np.mean(values))  # type: ignore[arg-type]


def explanations(runs: Mapping[str, Mapping[str, Value]], reason: str, *, ids: str = "") -> dict[str, Why]:
    """One explanation per value of a study that was run under several settings.

    Parameters
    ----------
    runs
        Setting -> target id -> value; a setting without a value for some target is left out there.
    reason
        What the settings stand for: what the sources leave open.
    ids
        Only targets whose id starts so.
    """
    keys = dict.fromkeys(key for run in runs.values() for key in run if key.startswith(ids))
    return {key: Why(reason, {name: run[key] for name, run in runs.items() if key in run}) for key in keys}


def with_error(samples: F64) -> dict[str, float]:
    """Mean and standard error of independent samples, the form that "2 SE" tolerances need."""
    error = float(samples.std(ddof=1) / np.sqrt(len(samples))) if len(samples) > 1 else float("nan")
    return {"value": float(samples.mean()), "se": error}

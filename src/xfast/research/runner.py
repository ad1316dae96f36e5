"""Run experiments part by part: cached by content, resumable after an interruption, with a progress bar."""

from __future__ import annotations

import ast
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from xfast.errors import DataError, ParameterError
from xfast.research import plots
from xfast.research.experiments import EXPERIMENTS, HOMES, Context, Experiment, Figure, Part, Series

# Modules that present results and cannot change them; editing one keeps every cached number.
_PRESENTATION = frozenset({"xfast.research.plots", "xfast.research.runner", "xfast.research.scoreboard"})


@dataclass(frozen=True)
class Outcome:
    """One finished part: its JSON record, and whether it came from the cache."""

    experiment: str
    part: str
    record: dict[str, Any]
    cached: bool


def select(names: Sequence[str]) -> list[Experiment]:
    """Experiments by name; ``all`` stands for every one."""
    unknown = [name for name in names if name != "all" and name not in EXPERIMENTS]
    if unknown:
        raise ParameterError(f"experiment is {unknown[0]!r}; known are all, {', '.join(EXPERIMENTS)}")
    if "all" in names:
        return list(EXPERIMENTS.values())
    return [EXPERIMENTS[name] for name in dict.fromkeys(names)]


def runnable(experiments: Sequence[Experiment], context: Context) -> tuple[list[tuple[Experiment, Part]], list[str]]:
    """Parts whose data is here, and the data sets that the others wait for."""
    ready, waiting = [], []
    for experiment in experiments:
        for part in experiment.parts:
            if part.dataset is None or part.dataset in context.folders:
                ready.append((experiment, part))
            elif part.dataset not in waiting:
                waiting.append(part.dataset)
    return ready, waiting


def run(
    work: Sequence[tuple[Experiment, Part]],
    context: Context,
    out: Path,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Outcome]:
    """Run parts one after another; each leaves ``EXPERIMENT/PART.json`` and its plots under `out`.

    A part whose record carries the same key (code, data, tier, library versions) is read instead of computed, so a run
    that was interrupted goes on where it stopped.
    """
    # All keys before the first part: code that is edited while parts run is not the code that runs.
    keys = [content_key(experiment.name, part, context) for experiment, part in work]
    for (experiment, part), key in zip(work, keys, strict=True):
        path = out / experiment.name / f"{part.name}.json"
        record = _cached(path, key)
        fresh = record is None
        if record is None:
            start = clock()
            # Products of a few dozen columns: a second BLAS thread only spins (EM of 600 users on a busy machine of
            # two cores: 6.4 s -> 1.0 s, and a sixth of the processor time).
            with threadpool_limits(1, user_api="blas"):
                record = {"key": key, "tier": context.tier, **part.run(context).to_json(), "seconds": 0.0}
            record["seconds"] = round(clock() - start, 3)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(record, indent=1) + "\n")
            partial.replace(path)
        for stem, figure in record["figures"].items():
            if fresh or not (path.parent / f"{stem}.png").exists():
                plots.save_png(figure_from(figure), path.parent / f"{stem}.png")
        yield Outcome(experiment.name, part.name, record, cached=not fresh)


def figure_from(record: dict[str, Any]) -> Figure:
    """A figure out of its JSON record."""
    return Figure(**{**record, "series": [Series(**series) for series in record["series"]]})


def content_key(experiment: str, part: Part, context: Context) -> str:
    """Digest of everything a result depends on."""
    digest = hashlib.sha256(f"{experiment}/{part.name}/{context.tier}".encode())
    digest.update(code_digest(HOMES[experiment]).encode())
    for library in ("numpy", "jax", "scipy", "scikit-learn"):
        digest.update(version(library).encode())
    if part.dataset is not None:
        digest.update(_folder_digest(context.folders[part.dataset]).encode())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def code_digest(module: str) -> str:
    """Digest of a module and of every module of this package that it imports, directly or not.

    Editing one study recomputes that study, and what stands on it, alone.
    """
    digest = hashlib.sha256()
    for path in sorted(_reachable(module)):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _reachable(module: str) -> set[Path]:
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in _PRESENTATION:
            continue
        path = _source(name)
        if path is not None:
            found[name] = path
            waiting += _imports(path)
    return set(found.values())


@lru_cache(maxsize=1_024)
def _source(name: str) -> Path | None:
    """File of a module of this package; None for names that are no module."""
    root = Path(__file__).parents[1]
    place = root.joinpath(*name.split(".")[1:])
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@lru_cache(maxsize=1_024)
def _imports(path: Path) -> tuple[str, ...]:
    """Names that a file imports from this package: modules, and what may be modules."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.split(".")[0] == "xfast")


@lru_cache(maxsize=16)
def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _cached(path: Path, key: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not a result of this tool ({error}); remove it") from error
    return record if record.get("key") == key else None


def load_records(out: Path) -> dict[str, dict[str, Any]]:
    """All records under `out`, ``experiment/part`` -> record."""
    if not out.is_dir():
        raise DataError(f"{out} is not a folder with results; run `xfast research run all` first")
    return {f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in sorted(out.glob("*/*.json"))}

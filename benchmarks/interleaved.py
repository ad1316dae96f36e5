"""Benchmarks of a class beside their rivals in one process, in turns: A B A B, CPU time, medians.

``python -m benchmarks.interleaved mixer.Filters text.Matcher sketch`` measures asv's own classes, but where asv gives
each benchmark a process and a time of its own, here all benchmarks of a class take turns, so that a machine that slows
down slows down all of them. Compare the values of one table; do not compare tables.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

#: One turn of a benchmark takes about this long.
TURN_SECONDS = 0.05


def machine() -> str:
    """The processor's name and the load of the moment."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "unknown"
    return f"{model}, load {load}"


def chosen(words: list[str]) -> Iterator[type]:
    """The benchmark classes that ``module`` or ``module.Class`` names."""
    for word in words:
        module, _, name = word.partition(".")
        found = import_module(f"benchmarks.{module}")
        for label, value in vars(found).items():
            own = inspect.isclass(value) and value.__module__ == found.__name__ and not label.startswith("_")
            if own and label == (name or label) and any(key.startswith(("time_", "track_")) for key in dir(value)):
                yield value


def combinations(kind: type) -> Iterator[tuple[Any, ...]]:
    """Every combination of the class's parameters."""
    params = getattr(kind, "params", ())
    if params and not isinstance(params[0], (list, tuple)):
        params = (params,)
    yield from itertools.product(*params)


def turn(work: Callable[[], Any], calls: int) -> float:
    """CPU seconds per call."""
    began = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - began) / calls


def measure(kind: type, values: tuple[Any, ...], rounds: int) -> list[str]:
    """Table rows of one class with one combination of parameters."""
    instance = kind()
    cached = (instance.setup_cache(),) if hasattr(instance, "setup_cache") else ()
    arguments = (*cached, *values)
    try:
        if hasattr(instance, "setup"):
            instance.setup(*arguments)
    except NotImplementedError as reason:
        return [f"| {kind.__name__} {values} | not here: {reason} | | | |"]
    label = f"{kind.__name__}({', '.join(map(str, values))})"
    works = {name: partial(getattr(instance, name), *arguments) for name in vars(kind) if name.startswith("time_")}
    calls = {}
    for name, work in works.items():
        work()
        calls[name] = max(1, int(TURN_SECONDS / max(turn(work, 1), 1e-6)))
    seen: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seen[name].append(turn(work, calls[name]))
    base = statistics.median(next(iter(seen.values()))) if seen else 0.0
    rows = [
        f"| {label} | {name[5:]} | {statistics.median(times) * 1e3:.4g} | {min(times) * 1e3:.4g} |"
        f" {statistics.median(times) / base:.2f} |"
        for name, times in seen.items()
    ]
    for name in (each for each in vars(kind) if each.startswith("track_")):
        try:
            rows.append(f"| {label} | {name[6:]} | {getattr(instance, name)(*arguments):.4g} | | |")
        except NotImplementedError as reason:
            rows.append(f"| {label} | {name[6:]} | not here: {reason} | | |")
    if hasattr(instance, "teardown"):
        instance.teardown(*arguments)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+", help="module or module.Class, such as mixer.Filters")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{machine()}\n\n| class | benchmark | median, ms CPU | least | ratio to the first |\n|---|---|---|---|---|")
    for kind in chosen(options.benchmarks):
        for values in combinations(kind):
            print(*measure(kind, values, options.rounds), sep="\n", flush=True)


if __name__ == "__main__":
    main()

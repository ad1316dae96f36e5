"""``xfast import``: real data sets, your own tables, or a synthetic network, as events on disk."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from xfast.errors import ParameterError
from xfast.ids import IdMap

_SOURCES = ("movielens", "mind", "synthetic")
_SIZES = ("users", "posts", "impressions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("source", nargs="?", choices=_SOURCES, help="the data set; none with --map")
    parser.add_argument("path", nargs="?", help="its folder, or a file of ratings (movielens)")
    parser.add_argument("--map", metavar="TOML", help="import the tables that this file describes (docs/world.md)")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for events.parquet and the report")
    parser.add_argument("--strict", action="store_true", help="write nothing and return 2 if a row cannot be used")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic network")
    for name in _SIZES:
        parser.add_argument(f"--{name}", type=int, metavar="N", help="of the synthetic network")


def run(args: argparse.Namespace) -> int:
    """Import, write, and print the report on stderr."""
    if (args.source is None) == (args.map is None):
        raise ParameterError(f"give either a source ({', '.join(_SOURCES)}) or --map")
    if args.map is not None and args.path is not None:
        raise ParameterError(f"path is {args.path!r}: --map names its files itself")
    sizes = {name: getattr(args, name) for name in _SIZES if getattr(args, name) is not None}
    if args.source != "synthetic" and sizes:
        raise ParameterError(f"--{next(iter(sizes))} is for the source synthetic")
    if (args.path is None) != (args.source not in ("movielens", "mind")):
        raise ParameterError(
            f"path is {args.path!r}: the source {args.source} " + ("takes none" if args.path else "needs one")
        )
    begin = time.perf_counter()
    if args.source == "synthetic":
        return _synthetic(Path(args.output), args.seed, sizes, begin)
    return _real(args, begin)


def _synthetic(output: Path, seed: int, sizes: dict[str, int], begin: float) -> int:
    from xfast.world import SyntheticConfig, generate

    chosen: dict[str, Any] = {**sizes}

    world = generate(SyntheticConfig(**chosen), seed)
    world.save(output)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in world.events().counts().items())
    print(f"{output}: {counts} events in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return 0


def _real(args: argparse.Namespace, begin: float) -> int:
    from xfast.world.mind import import_mind
    from xfast.world.movielens import import_movielens
    from xfast.world.tables import import_tables

    output = Path(args.output)
    maps: list[IdMap] = []
    if args.map is not None:
        imported, maps = import_tables(args.map, ids=output)
    else:
        imported = {"movielens": import_movielens, "mind": import_mind}[args.source](args.path)
    print(imported.report, file=sys.stderr)
    if args.strict and imported.report.bad_rows:
        print(f"xfast import: --strict, and {imported.report.bad_rows} rows cannot be used", file=sys.stderr)
        return 2
    imported.save(output)
    for ids in maps:
        ids.save()
    print(f"{output}: {len(imported.events):,} events in {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return 0

"""``xfast research``: run the preference experiments and compare them with the published numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from xfast.errors import ParameterError, XfastError

DEFAULT_OUT = Path("research-results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``run``, ``list``, ``download`` and ``scoreboard``."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run_parser = verbs.add_parser("run", help="run experiments (cached, resumable)")
    run_parser.add_argument("names", nargs="+", metavar="NAME", help="experiment names, or all")
    run_parser.add_argument("--data", type=Path, help="folder with data sets in their original layout")
    run_parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="results folder (%(default)s)")
    run_parser.add_argument("--tier", choices=("full", "small"), default="full", help="sizes (%(default)s)")
    verbs.add_parser("list", help="name the experiments and how to get the data")
    download = verbs.add_parser("download", help="fetch a data set from its owner; says the licence first")
    download.add_argument("name", help="ml-100k, ml-1m, mind-small or amazon-kindle")
    download.add_argument("--data", type=Path, required=True, help="folder to put it in")
    download.add_argument("--accept-licence", action="store_true", help="do not ask whether you accept it")
    board = verbs.add_parser("scoreboard", help="compare results with published numbers")
    board.add_argument("--targets", type=Path, required=True, help="JSON file with the published numbers")
    board.add_argument("--out", type=Path, default=DEFAULT_OUT, help="results folder (%(default)s)")
    board.add_argument("--json", type=Path, help="write every row as JSON")
    board.add_argument("--markdown", type=Path, help="write the report page")
    board.add_argument("--require", type=float, metavar="SHARE", help="fail if a smaller share of targets is settled")


def run(args: argparse.Namespace) -> int:
    """Dispatch a verb."""
    try:
        from xfast.research import datasets, runner, scoreboard
        from xfast.research.experiments import EXPERIMENTS, Context
    except ModuleNotFoundError as error:
        raise XfastError(f"{error.name} is missing; install it with `pip install xfast[research]`") from error

    if args.verb == "list":
        for experiment in EXPERIMENTS.values():
            print(f"{experiment.name:20} {experiment.summary} ({', '.join(part.name for part in experiment.parts)})")
        for name, text in datasets.DOWNLOADS.items():
            print(f"\n{name}\n  {text}")
        return 0
    if args.verb == "download":
        return _download(args.name, args.data, accepted=args.accept_licence)
    if args.verb == "scoreboard":
        records = runner.load_records(args.out)
        if not records:
            raise ParameterError(f"--out {args.out} holds no results; run `xfast research run all` first")
        here = {key.split("/")[1] for key in records}
        rows = scoreboard.compare(scoreboard.read_targets(args.targets), records, here)
        page = f"{scoreboard.small(records)}{scoreboard.markdown(rows)}\n{scoreboard.timings(records)}"
        print(page)
        if args.markdown:
            args.markdown.write_text(f"# Scoreboard\n\n{page}")
        if args.json:
            table = [
                {"name": r.target.name, "published": r.target.value, "tolerance": r.target.tolerance, "value": r.value,
                 "status": r.status, "difference": r.difference, "note": r.note}
                for r in rows
            ]  # fmt: skip
            args.json.write_text(json.dumps(table, indent=1) + "\n")
        settled = scoreboard.settled(rows)
        if args.require is not None and settled < args.require:
            print(f"{settled:.1%} settled, --require asks for {args.require:.1%}", file=sys.stderr)
            return 1
        return 0

    folders = datasets.find(args.data) if args.data else {}
    context = Context(folders, args.tier)
    work, waiting = runner.runnable(runner.select(args.names), context)
    for name in waiting:
        if name == "mind-truncated":
            continue  # a sample of mind-small, of interest only where it lies
        where = f"is not under --data {args.data}" if args.data else "needs --data DIR"
        print(f"skipped: {name} {where}; `xfast research download {name}` says how to get it", file=sys.stderr)
    columns = (TextColumn("{task.description:45}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(work))
        if work:
            progress.update(task, description=f"{work[0][0].name}/{work[0][1].name}")
        for number, outcome in enumerate(runner.run(work, context, args.out), start=1):
            seconds = "cached" if outcome.cached else f"{outcome.record['seconds']:.1f} s"
            progress.console.print(
                f"{outcome.experiment}/{outcome.part}: {len(outcome.record['values'])} values ({seconds})"
            )
            following = work[number] if number < len(work) else None
            name = f"{following[0].name}/{following[1].name}" if following else "done"
            progress.update(task, completed=number, description=name)
    return 0


def _download(name: str, folder: Path, *, accepted: bool) -> int:
    """Say the licence, ask, fetch."""
    from xfast.research import datasets
    from xfast.research.datasets.fetch import fetch

    if name not in datasets.DOWNLOADS:
        raise ParameterError(f"data set is {name!r}; known are {', '.join(datasets.DOWNLOADS)}")
    source = datasets.DOWNLOADS[name]
    print(f"{name}\n  {source}")
    if not source.urls:
        return 0
    if not accepted:
        if not sys.stdin.isatty():
            raise ParameterError("nobody is here to accept the licence; add --accept-licence if you do")
        if input("Do you accept this licence? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was fetched")
            return 1
    place = folder if source.urls[0].endswith(".zip") else folder / name
    for path in fetch(source.urls, place, say=print):
        print(path)
    return 0

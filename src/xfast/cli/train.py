"""``xfast train``: make model files from network events."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfast.errors import DataError

if TYPE_CHECKING:
    from xfast.events import EventBatch
    from xfast.phoenix.training import Progress, Sequences, TrainResult

TAIL = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument("tower", choices=("ranker", "retrieval"), help="which model")
    parser.add_argument("--data", type=Path, required=True, metavar="EVENTS", help="events.parquet, or its folder")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with [train] and [model] (docs/training.md)")
    parser.add_argument("--output", type=Path, default=Path("artifacts"), metavar="DIR", help="default: ./artifacts")
    parser.add_argument("--seed", type=int, default=0, help="decides everything random (default: 0)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="written now and then; gone on from if there")
    parser.add_argument(
        "--hold-out", choices=("none", "last", "tail"), default="none",
        help="keep from training what `xfast eval` measures: every user's last post, or the last tenth by time",
    )  # fmt: skip


def load_events(path: Path) -> EventBatch:
    """Read ``events.parquet``, or the one in a folder."""
    from xfast.events import read_parquet

    file = path / "events.parquet" if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: no such file; `xfast import` makes one")
    return read_parquet(file)


def tail_start(sequences: Sequences) -> int:
    """Place in time order where the measured last tenth begins."""
    return round((1 - TAIL) * len(sequences))


def run(args: argparse.Namespace) -> int:
    """Train, save, say how it went."""
    from xfast.phoenix.artifacts import save_artifacts
    from xfast.phoenix.training import (
        Sequences,
        TrainConfig,
        default_model_config,
        train_ranker,
        train_retrieval,
    )
    from xfast.phoenix.training.evaluation import before_last
    from xfast.phoenix.training.scoring import corpus_of

    if args.config is None:
        config, model = TrainConfig(), default_model_config(args.tower)
    else:
        config, model = TrainConfig.load(args.config, args.tower)
    everything = Sequences.from_events(load_events(args.data))
    sequences = everything
    if args.hold_out == "last":
        sequences = before_last(everything)
    elif args.hold_out == "tail":
        sequences = everything.before(tail_start(everything))
    print(f"{len(sequences):,} rows of {len(sequences.users):,} users, {len(sequences.posts):,} posts", file=sys.stderr)
    train = train_ranker if args.tower == "ranker" else train_retrieval
    with _Bar() as bar:
        result = train(sequences, config, model, seed=args.seed, checkpoint=args.checkpoint, on_step=bar.show)
    parts: dict[str, Any] = {args.tower: result.tower}
    if args.tower == "retrieval":
        parts["corpus"] = corpus_of(everything, result.tower)
    save_artifacts(args.output, **parts)
    record = _record(args, result)
    (args.output / args.tower / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    ending = "validation stopped improving" if result.stopped_early else "done"
    loss = f", loss {result.losses[-1]:.4f}" if result.losses else ""
    print(f"{ending} after {result.steps:,} steps, {result.seconds:.1f} s{loss}; saved in {args.output}")
    return 0


def _record(args: argparse.Namespace, result: TrainResult) -> dict[str, Any]:
    """What ``xfast eval`` must know about a model."""
    return {
        "hold_out": args.hold_out,
        "seed": args.seed,
        "steps": result.steps,
        "stopped_early": result.stopped_early,
        "validations": result.validations,
    }


class _Bar:
    """A progress bar with loss and examples per second, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[rate]} examples/s"),
            TextColumn("{task.fields[validation]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("training", total=None, loss="-", rate="-", validation="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, step: Progress) -> None:
        """Show a step."""
        fields: dict[str, Any] = {"loss": f"{step.loss:.4f}", "rate": f"{step.examples_per_second:,.0f}"}
        if step.validation is not None:
            fields["validation"] = f"validation {step.validation:.4f}"
        self._progress.update(self._task, completed=step.step, total=step.total_steps, **fields)

"""``xfast eval``: what trained models are worth on events that they have not seen."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfast.cli.train import load_events, tail_start
from xfast.errors import ArtifactError

if TYPE_CHECKING:
    from xfast.phoenix.training.evaluation import ActionQuality, LeaveLastOut
    from xfast.phoenix.training.metrics import Interval


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument("--data", type=Path, required=True, metavar="EVENTS", help="events.parquet, or its folder")
    parser.add_argument(
        "--artifacts",
        type=Path,
        default=Path("artifacts"),
        metavar="DIR|ZIP",
        help="model files (default: ./artifacts)",
    )
    parser.add_argument("--rows", type=int, default=20_000, metavar="N", help="rows of the tail to measure, at most")
    parser.add_argument("--seed", type=int, default=0, help="for the bootstrap intervals (default: 0)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Measure what is there: the ranker on the last tenth by time, retrieval there and on every user's last post."""
    import numpy as np

    from xfast.phoenix.artifacts import load_artifacts
    from xfast.phoenix.training import Sequences
    from xfast.phoenix.training.baselines import Scorer, baselines
    from xfast.phoenix.training.evaluation import action_quality, before_last, leave_last_out, recall
    from xfast.phoenix.training.scoring import RankerScorer, RetrievalScorer

    artifacts = load_artifacts(args.artifacts)
    sequences = Sequences.from_events(load_events(args.data))
    rng = np.random.default_rng(args.seed)
    rows = np.argsort(sequences.order)[tail_start(sequences) :][-args.rows :]
    report: dict[str, Any] = {"rows": len(rows)}
    held_out = {name: _held_out(args.artifacts, name) for name in ("ranker", "retrieval") if name in artifacts}
    report["held_out"] = held_out
    if "ranker" in artifacts:
        tower = artifacts.ranker
        logits, _ = RankerScorer(sequences, tower).logits_of_rows(rows)
        report["actions"] = action_quality(sequences, rows, logits, tower)
    if "retrieval" in artifacts:
        scorer = RetrievalScorer(sequences, artifacts.retrieval)
        report["recall"] = recall(sequences, scorer, rows[sequences.actions[rows] != 0], rng)
        scorers: dict[str, Scorer] = {**baselines(before_last(sequences)), "Phoenix retrieval": scorer}
        report["leave_last_out"] = leave_last_out(sequences, scorers, rng)
    if args.json:
        print(json.dumps(_plain(report), indent=1))
    else:
        _print(report)
    for name, kept in held_out.items():
        needed = ("tail",) if name == "ranker" else ("tail", "last")
        for part in needed:
            if kept != part:
                what = "the last tenth" if part == "tail" else "the users' last posts"
                print(f"note: the {name} was not trained with --hold-out {part}: it may know {what}", file=sys.stderr)
    return 0


def _held_out(artifacts: Path, tower: str) -> str:
    """What the training kept aside; "unknown" for files that ``xfast train`` did not write."""
    file = artifacts / tower / "training.json"
    if not file.is_file():
        return "unknown"
    try:
        return str(json.loads(file.read_text())["hold_out"])
    except (ValueError, KeyError) as error:
        raise ArtifactError(f"{file}: not a record of training: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "ranks"}
        return {key: _plain(item) for key, item in fields.items()}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    # NaN is no JSON: an AUC that does not exist is null.
    return None if isinstance(value, float) and value != value else value


def _print(report: dict[str, Any]) -> None:
    print(f"Last tenth by time, {report['rows']:,} rows")
    if "actions" in report:
        print(f"{'action':<22}{'rows':>9}{'done':>8}{'AUC':>8}{'log-loss':>10}{'base':>8}{'calibration':>13}")
        quality: ActionQuality
        for quality in report["actions"]:
            print(
                f"{quality.action:<22}{quality.rows:>9,}{quality.positives:>8,}{quality.auc:>8.4f}"
                f"{quality.log_loss:>10.4f}{quality.base_log_loss:>8.4f}{quality.calibration_error:>13.4f}"
            )
    value: Interval
    for name, value in report.get("recall", {}).items():
        print(f"{name:<22}{value}")
    if "leave_last_out" in report:
        results: list[LeaveLastOut] = report["leave_last_out"]
        print(f"\nEvery user's last post, whole catalogue, {results[0].users:,} users")
        print(f"{'model':<26}" + "".join(f"{name:<26}" for name in results[0].metrics))
        for result in results:
            line = f"{result.name:<26}" + "".join(f"{interval!s:<26}" for interval in result.metrics.values())
            print(line.rstrip())

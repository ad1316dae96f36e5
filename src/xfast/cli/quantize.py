"""``xfast quantize``: model files with int8 weights and tables."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfast.cli.train import load_events
from xfast.errors import ParameterError
from xfast.phoenix.artifacts import TOWERS, Tower, load_artifacts, save_artifacts
from xfast.phoenix.quantization import PartSize, corpus_size, quantize_corpus, quantize_tower, tower_sizes

if TYPE_CHECKING:
    from xfast.phoenix.training.sequences import Sequences

LISTS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument("artifacts", type=Path, metavar="DIR|ZIP", help="model files in the published layout")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write; must not exist")
    parser.add_argument(
        "--corpus", choices=("float32", "float16", "int8"), default="float16",
        help="how to keep the corpus vectors (default: float16)",
    )  # fmt: skip
    parser.add_argument(
        "--heads", choices=("float16", "int8"), default="float16",
        help="how to keep the output heads; int8 saves half a per cent to two (default: float16)",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", type=Path, metavar="EVENTS",
        help="events.parquet, or its folder: round the weights the way that measures best on these viewers",
    )  # fmt: skip
    parser.add_argument(
        "--lists", type=int, metavar="N",
        help="with --calibrate: moments of viewers, half to learn from, half to measure on (default: 256)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="with --calibrate: decides which (default: 0)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Quantise, write, read back and report."""
    if args.out.exists():
        raise ParameterError(f"--out is {args.out}, must not exist yet")
    if args.lists is not None and args.calibrate is None:
        raise ParameterError(f"--lists is {args.lists}, it goes with --calibrate")
    if args.lists is not None and args.lists < 2:
        raise ParameterError(f"--lists is {args.lists}, must be at least 2")
    artifacts = load_artifacts(args.artifacts)
    towers: dict[str, Tower] = {name: artifacts.parts[name] for name in TOWERS if name in artifacts}
    sequences = None
    if args.calibrate is not None:
        from xfast.phoenix.training.sequences import Sequences

        sequences = Sequences.from_events(load_events(args.calibrate))
    methods: dict[str, dict[str, Any]] = {}
    exact: dict[str, Tower] = {}
    # One by one: the tables of one tower are in memory, not of both.
    for name, tower in towers.items():
        small, exact[name], record = _quantized(tower, sequences, args)
        save_artifacts(args.out, **{name: small})  # type: ignore[arg-type]
        if record:
            methods[name] = record
            (args.out / name / "calibration.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    save_artifacts(
        args.out,
        corpus=quantize_corpus(artifacts.corpus, args.corpus) if "corpus" in artifacts else None,
        example_sequence=artifacts.example_sequence if "example_sequence" in artifacts else None,
    )
    # The report is about the files as they load, not about what was meant to be written.
    written = load_artifacts(args.out)
    report = {name: tower_sizes(tower, written.parts[name]) for name, tower in exact.items()}
    if "corpus" in artifacts:
        report["corpus"] = [corpus_size(artifacts.corpus, written.corpus)]
    if args.json:
        sizes = {name: [asdict(p) | {"saved": p.saved} for p in parts] for name, parts in report.items()}
        print(json.dumps(sizes | ({"calibration": methods} if methods else {})))
    else:
        print(_table(report))
        for name, record in methods.items():
            errors = ", ".join(f"{method} {error:.3g}" for method, error in record["errors"].items())
            print(f"\n{name}: {record['method']}; errors on {record['lists']} lists: {errors}")
        print(f"\nwritten to {args.out}")
    return 0


def _quantized(
    tower: Tower, sequences: Sequences | None, args: argparse.Namespace
) -> tuple[Tower, Tower, dict[str, Any]]:
    """The quantised tower, the one whose numbers were rounded, and how it was calibrated."""
    if sequences is None:
        return quantize_tower(tower, heads=args.heads), tower, {}
    from xfast.phoenix.calibration import calibrate, viewer_lists

    lists = viewer_lists(sequences, tower.config, args.lists or LISTS, seed=args.seed)
    found = calibrate(tower, lists, lambda text: print(text, file=sys.stderr), heads=args.heads)
    record = {"method": found.method, "lists": found.lists, "seed": args.seed, "errors": dict(found.errors)}
    return found.tower, found.exact, record


def _table(report: dict[str, list[PartSize]]) -> str:
    lines = [f"{'part':<24} {'numbers':>13} {'float32':>11} {'stored':>11} {'saved':>7} {'rms error':>10}"]
    for name, parts in report.items():
        for p in parts:
            label = name if name == p.part else f"{name} {p.part}"
            lines.append(
                f"{label:<24} {p.numbers:>13,} {_megabytes(p.float32_bytes):>11} {_megabytes(p.bytes):>11} "
                f"{-100 * p.saved:>6.1f}% {100 * p.rms_error:>9.2f}%"
            )
    everything = [p for parts in report.values() for p in parts]
    total, stored = sum(p.float32_bytes for p in everything), sum(p.bytes for p in everything)
    lines.append(
        f"{'total':<24} {sum(p.numbers for p in everything):>13,} {_megabytes(total):>11} {_megabytes(stored):>11} "
        f"{-100 * (1 - stored / total):>6.1f}%"
    )
    return "\n".join(lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"

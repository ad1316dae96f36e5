"""``xfast quantize``: model files with int8 weights and tables."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from xfast.errors import ParameterError
from xfast.phoenix.artifacts import TOWERS, Tower, load_artifacts, save_artifacts
from xfast.phoenix.quantization import PartSize, corpus_size, quantize_corpus, quantize_tower, tower_sizes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-command."""
    parser.add_argument("artifacts", type=Path, metavar="DIR|ZIP", help="model files in the published layout")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write; must not exist")
    parser.add_argument(
        "--corpus", choices=("float32", "float16", "int8"), default="float16",
        help="how to keep the corpus vectors (default: float16)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Quantise, write, read back and report."""
    if args.out.exists():
        raise ParameterError(f"--out is {args.out}, must not exist yet")
    artifacts = load_artifacts(args.artifacts)
    towers: dict[str, Tower] = {name: artifacts.parts[name] for name in TOWERS if name in artifacts}
    # One by one: the tables of one tower are in memory, not of both.
    if "ranker" in towers:
        save_artifacts(args.out, ranker=quantize_tower(towers["ranker"]))
    if "retrieval" in towers:
        save_artifacts(args.out, retrieval=quantize_tower(towers["retrieval"]))
    save_artifacts(
        args.out,
        corpus=quantize_corpus(artifacts.corpus, args.corpus) if "corpus" in artifacts else None,
        example_sequence=artifacts.example_sequence if "example_sequence" in artifacts else None,
    )
    # The report is about the files as they load, not about what was meant to be written.
    written = load_artifacts(args.out)
    report = {name: tower_sizes(tower, written.parts[name]) for name, tower in towers.items()}
    if "corpus" in artifacts:
        report["corpus"] = [corpus_size(artifacts.corpus, written.corpus)]
    if args.json:
        print(json.dumps({name: [asdict(p) | {"saved": p.saved} for p in parts] for name, parts in report.items()}))
    else:
        print(_table(report))
        print(f"\nwritten to {args.out}")
    return 0


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

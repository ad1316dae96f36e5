"""``xfast rank``: the published pipeline on published files."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from xfast.phoenix.artifacts import load_artifacts, load_corpus, load_sequence
from xfast.phoenix.pipeline import PipelineResult, format_table, run_pipeline
from xfast.phoenix.tower import check_corpus

_WIDTH = 120


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the sub-command; the published underscored spellings work, too."""

    def add(name: str, **options: Any) -> None:
        parser.add_argument(f"--{name}", *({f"--{name.replace('-', '_')}"} - {f"--{name}"}), **options)

    parser.add_argument(
        "--artifacts", "--artifacts-dir", "--artifacts_dir", type=Path, default=Path("artifacts"), metavar="DIR|ZIP",
        help="model files in the published layout (default: ./artifacts)",
    )  # fmt: skip
    add("sequence-file", type=Path, metavar="FILE", help="viewer and history (default: the artifacts' example)")
    add("corpus-file", type=Path, metavar="FILE", help="posts to rank (default: the artifacts' corpus)")
    add("top-k-retrieval", type=_count, default=200, metavar="N", help="posts to retrieve (default: 200)")
    add("top-k-display", type=_count, default=30, metavar="N", help="posts to show (default: 30)")
    add("engine", choices=("auto", "native", "xla"), default="auto", help="what runs the models (default: auto)")
    add("precision", choices=("float32", "bfloat16"), default="float32", help="what to compute in (default: float32)")
    add("all-actions", action="store_true", help="list every predicted probability below the table")
    add("json", action="store_true", help="print JSON, every probability included")


def run(args: argparse.Namespace) -> int:
    """Retrieve, rank and print."""
    started = time.perf_counter()

    def progress(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.2f} s] {text}", file=sys.stderr, flush=True)

    progress(f"loading {args.artifacts}")
    artifacts = load_artifacts(args.artifacts)
    corpus = None if args.corpus_file is None else load_corpus(args.corpus_file)
    if corpus is not None:
        check_corpus(corpus, artifacts.retrieval, args.corpus_file.name)
    engagements = None
    if args.sequence_file is not None:
        engagements = load_sequence(args.sequence_file, artifacts.retrieval.config.num_actions)
    result = run_pipeline(
        artifacts,
        engagements=engagements,
        corpus=corpus,
        top_k=args.top_k_retrieval,
        engine=args.engine,
        precision=args.precision,
        progress=progress,
    )
    progress("done")
    if args.json:
        json.dump(_document(result, args.top_k_display), sys.stdout, indent=1)
        print()
    else:
        sys.stdout.write(format_table(result, args.top_k_display))
        if args.all_actions:
            sys.stdout.write(_all_actions(result, args.top_k_display))
    return 0


def _predictions(result: PipelineResult, i: int) -> tuple[dict[str, float], dict[str, float]]:
    """Probabilities and continuous outputs of one post by name; digits beyond float32 are cut."""
    names = result.vocabulary

    def short(value: np.float32) -> float:
        return float(np.format_float_positional(value, unique=True))

    probabilities = {names.label(c): short(p) for c, p in enumerate(result.scores.probabilities[i])}
    continuous = {}
    for column, value in enumerate(result.scores.continuous[i]):
        name = names.continuous[column] if column < len(names.continuous) else None
        continuous[name or f"continuous_{column}"] = short(value)
    return probabilities, continuous


def _document(result: PipelineResult, shown: int) -> dict[str, Any]:
    results = []
    for rank, i in enumerate(result.ranked[:shown], start=1):
        probabilities, continuous = _predictions(result, int(i))
        results.append(
            {
                "rank": rank,
                "post_id": int(result.post_ids[i]),
                "author_id": int(result.author_ids[i]),
                "score": float(result.weighted[i]),
                "retrieval_score": float(result.retrieval_scores[i]),
                "topic": result.topics[i],
                "url": f"https://x.com/a/status/{result.post_ids[i]}",
                "probabilities": probabilities,
                "continuous": continuous,
            }
        )
    return {
        "user_id": result.user_id,
        "history_items": result.history_items,
        "corpus_size": result.corpus_size,
        "retrieved": len(result),
        "score_range": [float(result.weighted.min()), float(result.weighted.max())] if len(result) else None,
        "results": results,
    }


def _all_actions(result: PipelineResult, shown: int) -> str:
    """Every prediction of the displayed posts, largest probability first, wrapped to the table's width."""
    lines = ["", "All predictions (probability per action; continuous outputs in normalised units after the bar)"]
    for rank, i in enumerate(result.ranked[:shown], start=1):
        probabilities, continuous = _predictions(result, int(i))
        words = [f"{name} {p:.4f}" for name, p in sorted(probabilities.items(), key=lambda item: -item[1])]
        words[-1] += " |"
        words += [f"{name} {value:.4f}" for name, value in continuous.items()]
        line = f"{rank:<5}"
        for word in words:
            if len(line) + len(word) > _WIDTH:
                lines.append(line.rstrip())
                line = " " * 5
            line += " " + word + " "
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"

"""``xfast audit``: does a feed that follows these weights work for or against society?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from xfast.errors import ParameterError, XfastError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the inputs and the two reports."""
    parser.add_argument("--weights", required=True, help="feed TOML file, or a preset: 2026-08, hand, engagement")
    parser.add_argument("--society", type=Path, help="YAML of judges (default: society alpha 4, user alpha 1)")
    parser.add_argument("--items", type=Path, help="Parquet with a column of probabilities per action")
    parser.add_argument("--json", type=Path, default=Path("audit.json"), help="numbers (%(default)s)")
    parser.add_argument("--html", type=Path, default=Path("audit.html"), help="report (%(default)s)")
    parser.add_argument("--seeds", type=int, default=20, help="training runs per point of the curve (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of resampling and synthetic items (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the JSON and the HTML report; print the verdict."""
    try:
        import numpy as np

        from xfast.research import audit, synthetic
        from xfast.research.experiments.base import to_plain
    except ModuleNotFoundError as error:
        raise XfastError(f"{error.name} is missing; install it with `pip install xfast[research]`") from error

    if args.seeds < 1:
        raise ParameterError(f"--seeds is {args.seeds}; it must be >= 1")
    feed = audit.read_weights(args.weights)
    society = audit.read_society(args.society)
    rng = np.random.default_rng(args.seed)
    if args.items:
        features, origin = audit.read_items(args.items), args.items.name
    else:
        features, origin = synthetic.pool(500, rng)[0], "the synthetic pool (give your own with --items)"
    found = audit.audit(feed, society, features, rng=rng, items_from=origin, seeds=args.seeds)
    document = {"subject": found.subject, "verdict": found.verdict, "sentences": found.sentences, **found.numbers}
    args.json.write_text(json.dumps(to_plain(document), indent=1) + "\n", encoding="utf-8")
    args.html.write_text(audit.render(found), encoding="utf-8")
    print(f"{feed.name}: {found.verdict} {found.subject}")
    for sentence in found.sentences:
        print(f"  {sentence}")
    print(f"{args.json}\n{args.html}")
    return 0

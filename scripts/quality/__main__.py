"""``make quality``: train on MovieLens-100K and measure against the baselines; writes docs/quality.md and a JSON file.

    python -m scripts.quality --data DIR [--out build/quality.json] [--page docs/quality.md]

DIR holds ``u.data``. Two experiments, both with models made by ``xfast.phoenix.training`` only:

- *next post*: the last rating of every user, among all posts the user has not rated, from what came before;
- *liked*: rating >= 4 on the last tenth of all ratings by time, every model seeing only what came before each.

docs/quality.md says how the settings were chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

from scripts.quality import liked, next_post
from scripts.quality.page import goals_of, write_page
from xfast.phoenix.training import Sequences
from xfast.world import import_movielens


def machine() -> str:
    """Processor, cores and versions."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}"


def commit() -> str:
    """The commit that is measured, marked if files differ from it."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=False).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "src", "scripts", "csrc")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if dirty else "")


def main() -> int:
    """Run both experiments."""
    parser = argparse.ArgumentParser(prog="python -m scripts.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of MovieLens-100K")
    parser.add_argument("--out", type=Path, default=Path("build/quality.json"), help="all numbers")
    parser.add_argument("--page", type=Path, help="Markdown page to write, for example docs/quality.md")
    parser.add_argument("--only", choices=("next-post", "liked"), help="one of the two experiments")
    parser.add_argument(
        "--choose", type=int, nargs="+", metavar="LENGTH",
        help="compare history lengths of the next-post model on earlier ratings, and nothing else",
    )  # fmt: skip
    args = parser.parse_args()
    started = time.perf_counter()

    def say(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    say(f"reading {args.data}")
    sequences = Sequences.from_events(import_movielens(args.data).events)
    if args.choose:
        next_post.choose(sequences, args.choose, say)
        return 0
    report: dict[str, Any] = {"commit": commit(), "machine": machine(), "command": "make quality DATA=DIR"}
    if args.only != "liked":
        report["next_post"] = next_post.run(sequences, say)
    if args.only != "next-post":
        report["liked"] = liked.run(sequences, say)
    report["wall_seconds"] = round(time.perf_counter() - started, 1)
    report["cpu_seconds"] = round(time.process_time(), 1)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    page = write_page(report)
    print(page)
    if args.page is not None:
        text = args.page.read_text() if args.page.exists() else ""
        begin, end = "<!-- measured -->", "<!-- /measured -->"
        if begin in text and end in text:
            page = text[: text.index(begin) + len(begin)] + "\n" + page + text[text.index(end) :]
        args.page.write_text(page)
    say(f"wrote {args.out}")
    goals = goals_of(report)
    for goal, met in goals.items():
        if not met:
            print(f"MISSED: {goal}", file=sys.stderr)
    return 0 if all(goals.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

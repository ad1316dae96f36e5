"""The regression report of ``make bench-compare``: Markdown with inline SVG, readable without a network.

Reads asv's result files of two commits and writes one table per benchmark module: both values, their ratio, and a bar.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
from collections import defaultdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / ".asv" / "results"
# Below this ratio a difference is the noise of a shared machine.
NOISE = 1.3


def load_commit(commit: str) -> dict[str, float]:
    """Every measured value of one commit: benchmark name with its parameters -> value."""
    values: dict[str, float] = {}
    for path in sorted(RESULTS.glob(f"*/{commit[:8]}*.json")):
        document: dict[str, Any] = json.loads(path.read_text())
        columns = document["result_columns"]
        for name, row in document["results"].items():
            entry = dict(zip(columns, row))
            results = entry.get("result") or []
            parameters = list(itertools.product(*(entry.get("params") or [])))
            for parameter, value in zip(parameters, results):
                if isinstance(value, (int, float)) and not math.isnan(value):
                    label = f"({', '.join(parameter)})" if parameter else ""
                    values[name + label] = float(value)
    return values


def bar(ratio: float) -> str:
    """One horizontal bar around 1.0 on a logarithmic scale: left faster, right slower."""
    offset = max(-1.0, min(1.0, math.log2(ratio))) * 60
    colour = "#888" if 1 / NOISE < ratio < NOISE else ("#c33" if ratio > 1 else "#393")
    left, width = (60 + min(offset, 0), abs(offset))
    return (
        '<svg width="120" height="10" xmlns="http://www.w3.org/2000/svg">'
        f'<rect x="{left:.1f}" y="2" width="{max(width, 1):.1f}" height="6" fill="{colour}"/>'
        '<line x1="60" x2="60" y1="0" y2="10" stroke="#444"/></svg>'
    )


def render(base: str, head: str) -> str:
    """The report's Markdown."""
    before, after = load_commit(base), load_commit(head)
    lines = [f"# Benchmarks: {base[:8]} → {head[:8]}", "", f"Machine: {platform.node()}, {platform.machine()}.", ""]
    shared = sorted(before.keys() & after.keys())
    if not shared:
        raise SystemExit(f"no benchmark has results of both {base[:8]} and {head[:8]}: see what asv says above")
    worse = [name for name in shared if before[name] > 0 and after[name] / before[name] >= NOISE]
    lines.append(f"{len(shared)} values on both commits, {len(worse)} at least {NOISE} × the base.")
    groups: dict[str, list[str]] = defaultdict(list)
    for name in shared:
        groups[name.split(".")[0]].append(name)
    for group, names in groups.items():
        lines += ["", f"## {group}", "", "| benchmark | base | head | head / base | |", "|---|---|---|---|---|"]
        for name in names:
            old, new = before[name], after[name]
            ratio = new / old if old > 0 and new > 0 else 1.0
            lines.append(f"| `{name.split('.', 1)[1]}` | {old:.4g} | {new:.4g} | {ratio:.2f} | {bar(ratio)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, help="full hash of the base commit")
    parser.add_argument("--head", required=True, help="full hash of the newer commit")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(render(args.base, args.head))


if __name__ == "__main__":
    main()

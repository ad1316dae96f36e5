"""The generated blocks and the plots of docs/performance.md, from build/performance.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.phoenix_models import Work
from scripts.page import fill

PRECISIONS = ("float32", "bfloat16", "int8")
SCORE_COLUMNS = (
    "jit full float32", "jit full bfloat16", "jit cached float32", "jit cached bfloat16", "jit cached int8",
    "native float32", "native bfloat16", "native int8", "native int8, int8 keys",
)  # fmt: skip
ENCODE_COLUMNS = (
    "jit float32", "jit bfloat16", "native float32", "native bfloat16", "native int8", "native int8, int8 keys",
)  # fmt: skip


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _floors(entry: Mapping[str, Any], peaks: dict[str, float], cores: int) -> dict[str, float]:
    work = Work(*entry["work"])
    return {precision: work.floor(peaks, precision) / cores for precision in PRECISIONS}


def _times(
    entries: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[str], part: Mapping[str, Any], label: str
) -> str:
    """Milliseconds per contestant, then the floor and the native engine's multiple of it."""
    used = [column for column in columns if any(column in entry["ms"] for _, entry in entries)]
    rows = []
    for name, entry in entries:
        floors = _floors(entry, part["peaks"], part["cores"])
        cells = [_number(entry["ms"][column]) if column in entry["ms"] else "" for column in used]
        over = [
            f"{_number(floors[p])} ({entry['ms'][f'native {p}'] / floors[p]:.2f}×)"
            if f"native {p}" in entry["ms"]
            else ""
            for p in PRECISIONS
        ]
        rows.append([name, *cells, *over])
    return _table([label, *used, *(f"floor {p} (native is)" for p in PRECISIONS)], rows)


def _sizes(part: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    return [(f"{entry[key]:,}", entry) for entry in part["score"]]


def _peaks(everything: Mapping[str, Any]) -> str:
    part = everything["mini 1"]["peaks"]
    compute = [(p, f"{part[p]:.0f} G/s") for p in PRECISIONS]
    reads = [(f"read, {name}", f"{part[f'read_{key}']:.0f} GB/s") for name, key in
             (("L1", "l1"), ("L2", "l2"), ("L3", "l3"), ("memory", "memory"))]  # fmt: skip
    cells = [*compute, *reads]
    return _table([name for name, _ in cells], [[value for _, value in cells]])


def _calls(everything: Mapping[str, Any]) -> str:
    one = everything["mini 1"]["one candidate"]
    return _table(list(one), [[f"{value * 1e3:.0f} µs" for value in one.values()]])


def _encodes(part: Mapping[str, Any]) -> str:
    entries = [(name, part[name]) for name in ("encode", "user tower") if name in part]
    return _times(entries, ENCODE_COLUMNS, part, "ms")


def _pair(full: Mapping[str, float], *parts: Mapping[str, float], name: str) -> str:
    """The full jitted pass over the sum of ``name`` in each part, float32 / bfloat16."""
    both = (
        full[f"jit full {precision}"] / sum(part[f"{name} {precision}"] for part in parts)
        for precision in ("float32", "bfloat16")
    )
    return " / ".join(f"{ratio:.0f}×" if ratio >= 20 else f"{ratio:.1f}×" for ratio in both)


def _claims(everything: Mapping[str, Any]) -> str:
    eager = everything["claims 1"]["eager"]
    small, large = everything["mini 1"], everything["long 2"]
    score = next(entry["ms"] for entry in small["score"] if entry["candidates"] == 64)
    encode, hit, whole = small["encode"]["ms"], large["score"][0]["ms"], large["encode"]["ms"]
    jit_encode = {name.replace("jit ", "jit cached "): value for name, value in whole.items() if name.startswith("jit")}
    jit = " / ".join(f"{eager[f'eager {p}'] / eager[f'jit {p}']:.1f}×" for p in ("float32", "bfloat16"))
    rows = [
        [
            "`jit_speedup_small`", "10.3× (104 → 10 ms), eager against jit",
            f"{jit}: the definition, operation by operation, against the same under `jax.jit`",
            (f"jit against native, viewer encoded before: {_pair(score, score, name='native')}; encode included: "
            f"{_pair(score, score, encode, name='native')}"),
        ],
        [
            "`kv_speedup_L12_d512_hist1023_cand8`", "9.6×, compiled hit against compiled full pass",
            f"{_pair(hit, hit, name='jit cached')} (both jit), exact",
            (f"native hit: {_pair(hit, hit, name='native')}; with the encode that a miss pays: "
            f"{_pair(hit, hit, whole, name='native')} (both jit: {_pair(hit, hit, jit_encode, name='jit cached')})"),
        ],
    ]  # fmt: skip
    rows += [
        ["`int8_param_reduction_L4_d128`", "58.3 % of the parameters' memory",
         "layers only: 49.0 %; attention and half of the feed-forward: 36.5 % ([scoreboard](research/scoreboard.md))",
         "every matrix, scales counted: 74.1 %"],
        ["`int8_param_reduction_L12_d512`", "49.8 %", "layers only: 63.2 %; attention and half: 45.1 %", "74.7 %"],
        ["`int8_top3_overlap_bce_model`, `…_bpr_model`", "0.90; 0.99",
         "not repeatable, the checkpoints were never published; their metric on our rankers: 0.997",
         "trained models, distinct lists, intervals: [int8.md](int8.md)"],
        ["`int8_ndcg_retention_bpr_model`", "0.997 (.4096 → .4084)", "not repeatable for the same reason",
         "[int8.md](int8.md)"],
    ]  # fmt: skip
    return _table(["claim", "as published", "same protocol here", "fair protocol here"], rows)


def _plot(part: Mapping[str, Any], key: str, label: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "xfast"  # the same numbers give the same file
    import matplotlib.pyplot as plt

    colours = {"float32": "#1f6fb4", "bfloat16": "#d1730f", "int8": "#2f8f4e"}
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.8), sharey=True, layout="constrained")
    xs = [entry[key] for entry in part["score"]]
    for axis, precision in zip(axes, PRECISIONS, strict=True):
        colour = colours[precision]
        for name, style, width in (("jit full", ":", 1.4), ("jit cached", "--", 1.4), ("native", "-", 2.2)):
            points = [
                (x, e["ms"][f"{name} {precision}"])
                for x, e in zip(xs, part["score"], strict=True)
                if f"{name} {precision}" in e["ms"]
            ]
            if points:
                axis.plot(*zip(*points, strict=True), style, marker="o", ms=3.5, lw=width, color=colour, label=name)
        floors = [_floors(e, part["peaks"], part["cores"])[precision] for e in part["score"]]
        axis.fill_between(xs, [1e-3] * len(xs), floors, color="#999", alpha=0.25, lw=0, label="below the floor")
        axis.plot(xs, floors, color="#555", lw=1)
        axis.set(xscale="log", yscale="log", title=precision, xlabel=label)
        axis.set_xticks(xs, [f"{x:,}" for x in xs])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    low = min(min(_floors(e, part["peaks"], part["cores"]).values()) for e in part["score"])
    axes[0].set_ylim(bottom=low / 2)
    axes[0].set_ylabel("milliseconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(everything: Mapping[str, Any], page: Path) -> None:
    """Replace the blocks ``<!-- begin NAME -->`` … ``<!-- end -->`` whose parts were measured; draw the plots."""
    blocks: dict[str, str] = {}
    if "mini 1" in everything:
        part = everything["mini 1"]
        blocks |= {
            "peaks": _peaks(everything), "calls": _calls(everything), "mini encode": _encodes(part),
            "mini": _times(_sizes(part, "candidates"), SCORE_COLUMNS, part, "C"),
        }  # fmt: skip
        _plot(part, "candidates", "candidates C (history 127)", page.parent / "plots" / "performance-candidates.svg")
    if "history 1" in everything:
        part = everything["history 1"]
        blocks["history"] = _times(_sizes(part, "history"), SCORE_COLUMNS, part, "S")
        _plot(part, "history", "history S (64 candidates)", page.parent / "plots" / "performance-history.svg")
    for name in ("long", "wide"):
        for cores in (1, 2):
            if f"{name} {cores}" in everything:
                part = everything[f"{name} {cores}"]
                blocks[f"{name} {cores}"] = _times(_sizes(part, "candidates"), SCORE_COLUMNS, part, "C")
                blocks[f"{name} encode {cores}"] = _encodes(part)
    if {"claims 1", "mini 1", "long 2"} <= everything.keys():
        blocks["claims"] = _claims(everything)
    fill(page, blocks)

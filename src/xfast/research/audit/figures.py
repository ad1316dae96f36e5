"""Plots of an audit as SVG text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Canvas

from xfast.research import plots
from xfast.research.plots import COLOURS

GOOD, BAD, GREY = COLOURS[2], COLOURS[1], "#666666"


def judges(numbers: dict[str, Any]) -> str:
    """Correlation and cosine of every judge, and the covariance, with their intervals."""
    names = list(numbers["judges"])
    canvas = Canvas(figsize=(5.6, 1.5 + 0.5 * len(names)), layout="constrained")
    relative, absolute = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for row, name in enumerate(names):
        judge = numbers["judges"][name]
        colour = {"gains": GOOD, "loses": BAD, "abstain": GREY}[judge["verdict"]]
        for axes, key, interval, shift, paint, marker, label in (
            (relative, "correlation", "interval_bootstrap", -0.14, colour, "o", "pool correlation"),
            (relative, "cosine", "cosine_interval", 0.14, GREY, "x", "cosine of weights"),
            (absolute, "covariance", "covariance_interval", 0.0, colour, "o", ""),
        ):
            axes.plot(judge[interval], [row + shift] * 2, color=paint, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.scatter(
                [judge[key]], [row + shift], color=paint, s=36, marker=marker, zorder=3, label="" if row else label
            )
    for axes in (relative, absolute):
        axes.axvline(0, color="#333333", linewidth=0.8)
    relative.set_yticks(range(len(names)), names)
    relative.invert_yaxis()
    relative.margins(y=0.25)
    relative.set_xlim(-1.05, 1.05)
    relative.set_xlabel("correlation, cosine", fontsize=9)
    absolute.set_xlabel("covariance with the score", fontsize=9)
    relative.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.28), ncols=2)
    return _finish(canvas)


def threshold(numbers: dict[str, Any]) -> str:
    """Cosine against the common weight of negative actions, with the exact roots."""
    found = numbers["threshold"]
    canvas = Canvas(figsize=(5.6, 3.6), layout="constrained")
    axes = canvas.subplots()
    grid, cosine = np.array(found["grid"]), np.array(found["cosine"])
    axes.plot(grid, cosine, color=COLOURS[0])
    axes.fill_between(grid, cosine, 0, where=cosine > 0, color=GOOD, alpha=0.12)
    axes.fill_between(grid, cosine, 0, where=cosine < 0, color=BAD, alpha=0.12)
    axes.axhline(0, color="#333333", linewidth=0.8)
    marks = (
        ("root", "exact root", BAD, "-"),
        ("pool_root", "root over these items", COLOURS[4], "--"),
        ("now", "this feed now", GREY, ":"),
    )
    for key, label, colour, style in marks:
        value = found[key]
        if value is not None and grid[0] <= value <= grid[-1]:
            axes.axvline(value, color=colour, linestyle=style, label=f"{label}: {value:+.4f}")
        elif value is not None:
            axes.plot([], [], color=colour, linestyle=style, label=f"{label}: {value:+.2f} (outside)")
    axes.set_xlabel("weight of every negative action ÷ mean weight of positive ones", fontsize=9)
    axes.set_ylabel("cosine with the judge", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return _finish(canvas)


def pairs_curve(numbers: dict[str, Any]) -> str:
    """Utility change against preference pairs: as published, converged, and at unit spread."""
    found = numbers["pairs_curve"]
    canvas = Canvas(figsize=(5.6, 4.2), layout="constrained")
    axes = canvas.subplots()
    views = (
        ("step_limited", "50 epochs of Adam (as published)"),
        ("converged", "converged"),
        ("step_limited_unit_spread", "Adam, scores at unit spread"),
        ("converged_unit_spread", "converged, scores at unit spread"),
    )
    for number, (view, label) in enumerate(views):
        mean, error = np.array(found[view]["mean"]), np.array(found[view]["se"])
        style = "--" if "unit" in view else "-"
        axes.plot(found["pairs"], mean, style, color=COLOURS[number], marker="o", markersize=3, label=label)
        axes.fill_between(found["pairs"], mean - 2 * error, mean + 2 * error, color=COLOURS[number], alpha=0.13)
    axes.axhline(0, color="#333333", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("preference pairs of the platform", fontsize=9)
    axes.set_ylabel("utility change of the judge (softmax, T = 1)", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return _finish(canvas)


def temperature_norm(numbers: dict[str, Any]) -> str:
    """Heat map of the judge's gain over the uniform feed, by temperature and length of the weight vector."""
    found = numbers["temperature_norm"]
    gain = np.array(found["gain"])
    bound = float(np.abs(gain).max()) or 1.0
    canvas = Canvas(figsize=(5.6, 3.9), layout="constrained")
    axes = canvas.subplots()
    mesh = axes.pcolormesh(
        found["norms"], found["temperatures"], gain, cmap="RdYlGn", vmin=-bound, vmax=bound, shading="nearest"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("spread of the scores (1 = this feed, standardised)", fontsize=9)
    axes.set_ylabel("temperature", fontsize=9)
    canvas.colorbar(mesh, ax=axes, label="gain over a random feed")
    return _finish(canvas)


def tornado(numbers: dict[str, Any], rows: int = 12) -> str:
    """Correlation when one weight is halved or doubled."""
    chosen = numbers["tornado"][:rows]
    canvas = Canvas(figsize=(5.6, 0.8 + 0.3 * len(chosen)), layout="constrained")
    axes = canvas.subplots()
    for row, entry in enumerate(chosen):
        for key, colour in (("halved", COLOURS[5]), ("doubled", COLOURS[0])):
            width = entry[key] - entry["now"]
            axes.barh(row, width, left=entry["now"], color=colour, height=0.7, label="" if row else f"weight {key}")
    axes.axvline(chosen[0]["now"], color="#333333", linewidth=0.8)
    axes.set_yticks(range(len(chosen)), [entry["action"] for entry in chosen], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("correlation of the feed's score with the judge", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return _finish(canvas)


def planner(numbers: dict[str, Any]) -> str:
    """Interval of the cosine between the learned judge and the feed, against preference pairs."""
    found = numbers["planner"]
    sizes = [int(n) for n in found["intervals"]]
    low, high = np.array(list(found["intervals"].values())).T
    canvas = Canvas(figsize=(5.6, 3.2), layout="constrained")
    axes = canvas.subplots()
    axes.fill_between(sizes, low, high, color=COLOURS[0], alpha=0.2, label="95 % interval")
    axes.axhline(found["cosine_visible"], color=COLOURS[0], label="true value")
    axes.axhline(0, color="#333333", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("preference pairs of the judge", fontsize=9)
    axes.set_ylabel("cosine with the feed", fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    return _finish(canvas)


FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "judges": ("Who the feed works for", judges),
    "threshold": ("Where the sign flips", threshold),
    "pairs_curve": ("If the feed were learned from preference pairs", pairs_curve),
    "temperature_norm": ("Temperature and length of the weights", temperature_norm),
    "tornado": ("Which weights matter", tornado),
    "planner": ("How many pairs settle it", planner),
}


def _finish(canvas: Canvas) -> str:
    for axes in canvas.axes:
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return plots.canvas_svg(canvas)

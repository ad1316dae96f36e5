"""Draw figure data with matplotlib, to PNG files and to SVG text that stands inside a page."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from xfast.research.figure import Figure

# Okabe-Ito colours: readable with colour blindness and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8c6d31")


def draw(figure: Figure, axes: Axes) -> None:
    """Put the series of a figure on axes."""
    bars = [series for series in figure.series if series.kind == "bars"]
    for number, series in enumerate(figure.series):
        colour = COLOURS[number % len(COLOURS)]
        if series.kind == "points":
            axes.scatter(series.x, series.y, color=colour, s=18, label=series.label)
        elif series.kind == "bars":
            width = 0.8 / len(bars)
            shift = (bars.index(series) - (len(bars) - 1) / 2) * width
            axes.bar([x + shift for x in series.x], series.y, width=width, color=colour, label=series.label)
        else:
            axes.plot(series.x, series.y, color=colour, marker="o", markersize=3, linewidth=1.5, label=series.label)
        if series.low is not None and series.high is not None:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    if figure.logx:
        axes.set_xscale("log")
    low, high = axes.get_ylim()
    if low < 0 < high:
        axes.axhline(0.0, color="#888888", linewidth=0.8)
    axes.set_title(textwrap.fill(figure.title, 76), fontsize=10)
    axes.set_xlabel(textwrap.fill(figure.xlabel, 84), fontsize=9)
    axes.set_ylabel(figure.ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if len(figure.series) > 1:
        axes.legend(fontsize=8, frameon=False)


def save_png(figure: Figure, path: Path) -> None:
    """Draw a figure into a PNG file of 960 by 600 pixels."""
    canvas = _canvas()
    FigureCanvasAgg(canvas)
    draw(figure, canvas.subplots())
    canvas.savefig(path, dpi=150, metadata={"Software": None})


def _canvas(width: float = 6.4, height: float = 4.0) -> Canvas:
    return Canvas(figsize=(width, height), layout="constrained")


def canvas_svg(canvas: Canvas) -> str:
    """SVG text of a drawn canvas, without the XML prologue, for inlining into HTML."""
    FigureCanvasSVG(canvas)
    stream = io.StringIO()
    canvas.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]

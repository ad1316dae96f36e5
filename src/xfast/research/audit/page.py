"""The audit as one HTML file that reads offline: inline SVG, inline style, no script."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from xfast.research.audit.analysis import Audit
from xfast.research.audit.figures import FIGURES

_STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --soft: #5c6066; --line: #e2e4e8; --paper: #fff; --wash: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink);
  background: var(--wash); }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 6px 0; } .soft { color: var(--soft); font-size: 13px; }
.verdict { border-left: 8px solid; border-radius: 8px; background: var(--paper); padding: 18px 24px; margin: 24px 0; }
.verdict strong { font-size: 20px; } .against { border-color: #d55e00; } .for { border-color: #009e73; }
.tell { border-color: #888; } .verdict li { margin: 4px 0; } .verdict ul { padding-left: 20px; margin: 8px 0 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 20px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 18px 20px; }
section { overflow-x: auto; } section svg { width: 100%; height: auto; display: block; margin-top: 8px; }
.wide { overflow-x: auto; margin-top: 20px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); } th:first-child, td:first-child
{ text-align: left; } th { color: var(--soft); font-weight: 600; }
@media (max-width: 560px) { .grid { grid-template-columns: minmax(0, 1fr); } main { padding: 20px 12px; }
  section { padding: 14px 12px; } section svg { min-width: 380px; } }
@media print { body { background: #fff; } section, .verdict { break-inside: avoid; } }
"""

_NOTES = {
    "judges": "A feed that shows what it scores high moves a judge's utility by the covariance of the two over the "
    "items; the cosine of the weights leaves out how often actions occur together. Bars: 95 % over resampled items; "
    "for the cosine, over errors of 30 % in what the judge wants.",
    "threshold": "With the other weights fixed, alignment is linear in the weight of negative actions, so its root is "
    "exact: for the published example 5/16 = 0.3125, not 0.",
    "pairs_curve": "Solid: scores as learned. Dashed: the same vectors with scores at unit spread. What only solid "
    "lines show is a colder feed, not a better or worse direction.",
    "temperature_norm": "Only temperature ÷ spread matters: every diagonal is one feed.",
    "tornado": "Correlation after one weight is halved or doubled.",
    "planner": "Asymptotic 95 % interval of the cosine when the judge's weights are learned from random pairs.",
}


def render(found: Audit) -> str:
    """The report page."""
    numbers = found.numbers
    tone = {"works against": "against", "works for": "for", "cannot tell": "tell"}[found.verdict]
    points = "".join(f"<li>{escape(sentence)}</li>" for sentence in found.sentences)
    sections = "".join(_section(key, title, draw(numbers)) for key, (title, draw) in FIGURES.items())
    headline = {
        "works against": f"This feed works against {found.subject}",
        "works for": f"This feed works for {found.subject}",
        "cannot tell": f"Not enough to tell what this feed does to {found.subject}",
    }[found.verdict]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Feed audit: {escape(numbers["feed"])}</title><style>{_STYLE}</style></head><body><main>
<h1>Feed audit</h1>
<p class="soft">Weights: {escape(numbers["feed"])} · Items: {numbers["items"]["count"]} from
{escape(numbers["items"]["from"])}{_ignored(numbers)}</p>
<div class="verdict {tone}"><strong>{escape(headline)}</strong><ul>{points}</ul></div>
<div class="grid">{sections}</div>
<section class="wide"><h2>Judges</h2>{_judges(numbers)}</section>
<section class="wide"><h2>Pairs needed and identifiability</h2>{_plan(numbers)}</section>
<section class="wide"><h2>Weights of the feed</h2>{_weights(numbers)}</section>
</main></body></html>
"""


def _section(key: str, title: str, svg: str) -> str:
    head = f"<h2>{escape(title)}</h2><p class='soft'>{escape(_NOTES[key])}</p>"
    return f"<section>{head}{_inline(svg, key)}</section>"


def _inline(svg: str, key: str) -> str:
    """Make the ids of one figure its own: every figure of matplotlib starts counting again."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'\1="#{key}-\2"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)


def _ignored(numbers: dict[str, Any]) -> str:
    ignored = numbers["ignored_parameters"]
    return f" · Left out (no action column): {escape(', '.join(ignored))}" if ignored else ""


def _table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _judges(numbers: dict[str, Any]) -> str:
    head = [
        "judge",
        "verdict",
        "correlation",
        "95 % bootstrap",
        "95 % delta",
        "covariance",
        "cosine",
        "top-10 gain",
        "survives error of",
    ]
    rows = []
    for name, judge in numbers["judges"].items():
        boot, delta = ("{:+.3f} to {:+.3f}".format(*judge[f"interval_{kind}"]) for kind in ("bootstrap", "delta"))
        open_ = judge["verdict"] == "abstain" or judge["radius_each"] is None
        survives = "–" if open_ else f"{judge['radius_each']:.0%}"
        top = f"{judge['top10_gain']:+.3f}"
        numbers_shown = [
            f"{judge['correlation']:+.3f}",
            boot,
            delta,
            f"{judge['covariance']:+.3f}",
            f"{judge['cosine']:+.4f}",
            top,
            survives,
        ]
        rows.append([name, judge["verdict"], *numbers_shown])
    return _table(head, rows)


def _plan(numbers: dict[str, Any]) -> str:
    plan, span = numbers["planner"], numbers["identifiability"]
    rows = [[f"± {width}", f"{pairs:,}"] for width, pairs in plan["pairs_for_half_width"].items()]
    return (
        _table(["half-width of the 95 % interval of the cosine", "random pairs needed"], rows)
        + f"<p class='soft'>Choosing pairs by D-optimality instead of at random divides the variance by "
        f"{plan['d_optimal_saving']:.1f}. "
        f"Pairs of these items can see {span['rank']} of {span['columns']} directions.</p>"
    )


def _weights(numbers: dict[str, Any]) -> str:
    flips = {row["action"]: row["flips_at_factor"] for row in numbers["tornado"]}
    rows = []
    for action, weight in numbers["weights"].items():
        factor = flips.get(action)
        shown = "–" if factor is None or abs(factor) > 1_000 else f"× {factor:.2f}"
        rows.append([action, f"{weight:g}", shown])
    return _table(["action", "weight", "verdict flips when this weight alone is multiplied by"], rows)

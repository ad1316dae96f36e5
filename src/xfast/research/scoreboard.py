"""Compare every result with the published one: reproduced, differs (by how much, likely why), or waiting for data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xfast.errors import DataError
from xfast.research.datasets import LOADERS

Status = Literal["reproduced", "inside", "beyond", "differs", "waiting", "external", "missing"]
STATUS_TEXT: dict[Status, str] = {
    "reproduced": "within tolerance",
    "inside": "differs, explained: the published number lies among the settings measured",
    "beyond": "differs, explained: no setting measured reaches the published number",
    "differs": "differs, unexplained",
    "waiting": "needs data that is not here",
    "external": "needs a service outside (a language model)",
    "missing": "not computed",
}
STATUS_COLUMNS: dict[Status, str] = {
    "reproduced": "within",
    "inside": "explained, among settings",
    "beyond": "explained, beyond settings",
    "differs": "unexplained",
    "external": "needs a service",
    "missing": "not computed",
    "waiting": "waiting",
}
EXPLAINED: tuple[Status, ...] = ("inside", "beyond")
FEW = 4  # settings that are listed one by one


@dataclass(frozen=True)
class Target:
    """One published number.

    Attributes
    ----------
    name, value, tolerance, dataset
        As in the targets file; `dataset` may name several sets, ``none`` or ``synthetic``.
    """

    name: str
    value: Any
    tolerance: str
    dataset: str


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard."""

    target: Target
    status: Status
    value: Any
    difference: float | None
    note: str


def read_targets(path: Path) -> list[Target]:
    """Read a targets file: ``{"targets": [{"name", "value", "tolerance", "dataset"}, …]}``."""
    try:
        rows = json.loads(path.read_text())["targets"]
        return [Target(row["name"], row["value"], str(row["tolerance"]), row["dataset"]) for row in rows]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a targets file ({error!r})") from error


def compare(targets: Sequence[Target], records: Mapping[str, Mapping[str, Any]], here: set[str]) -> list[Row]:
    """Judge every target.

    Parameters
    ----------
    records
        Results as the runner stores them.
    here
        Names of the data sets that the results were computed from; ``synthetic`` and ``none`` are always here.
    """
    values: dict[str, Any] = {}
    whys: dict[str, Mapping[str, Any]] = {}
    for record in records.values():
        values |= record["values"]
        whys |= record["whys"]
    values |= _signs_of_sample(targets, records) | _across(records)
    present = here | {"synthetic", "none"}
    rows = []
    for target in targets:
        if target.name not in values:
            rows.append(_absent(target, present))
            continue
        value = values[target.name]
        close, difference = within(value, target.value, target.tolerance)
        if close:
            rows.append(Row(target, "reproduced", value, difference, ""))
        else:
            status, note = explain(whys.get(target.name), target)
            rows.append(Row(target, status, value, difference, note))
    return rows


def _absent(target: Target, present: set[str]) -> Row:
    """The row of a target without a value."""
    if not needed(target) <= present:
        return Row(target, "waiting", None, None, f"needs {', '.join(sorted(needed(target) - present))}")
    if target.tolerance == "external API":
        return Row(target, "external", None, None, "labels come from an external language model; nothing stands in")
    return Row(target, "missing", None, None, "")


def explain(why: Mapping[str, Any] | None, target: Target) -> tuple[Status, str]:
    """Judge an explanation ``{"open": …, "tried": {setting: value}}``: only measurements count.

    At least two settings must give different numbers of the published shape; words alone leave the target unexplained.

    Returns
    -------
    status
        ``inside`` if every published number lies between the lowest and the highest measured one, or within tolerance
        of one setting; else ``beyond``. ``differs`` without measurements.
    text
        What is open, the settings (all, or how many and their range), and the nearest one.
    """
    if why is None:
        return "differs", ""
    theirs = _numbers(target.value)
    tried = {name: _numbers(value) for name, value in why["tried"].items()}
    tried = {name: found for name, found in tried.items() if len(found) == len(theirs) and np.isfinite(found).all()}
    if len({tuple(found) for found in tried.values()}) < 2:
        return "differs", f"unmeasured: {why['open']}"
    table, aim = np.array(list(tried.values())), np.array(theirs)
    low, high = table.min(axis=0), table.max(axis=0)
    distance = (np.abs(table - aim) / np.maximum(np.abs(aim), 1e-12)).max(axis=1)
    nearest = list(tried)[int(distance.argmin())]
    close, _ = within(why["tried"][nearest], target.value, target.tolerance)
    inside = close or bool(np.all((low <= aim) & (aim <= high)))
    words = {name: _show(why["tried"][name]) for name in tried}
    if len(tried) <= FEW or isinstance(target.value, str):
        shown = "; ".join(f"{name}: {value}" for name, value in words.items()) + f". Nearest: {nearest}"
    else:
        shown = f"{len(tried)} settings, {_row(low)} to {_row(high)}. Nearest: {nearest}, {words[nearest]}"
    shown += (
        " (within tolerance)"
        if close
        else f"; none {'comes within tolerance' if inside else 'reaches the published number'}"
    )
    return ("inside" if inside else "beyond"), f"{why['open']}. Measured: {shown}"


def _row(numbers: Iterable[float]) -> str:
    return ", ".join(f"{round(number, 12):.4g}" for number in numbers)


def _signs_of_sample(targets: Sequence[Target], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values that need published ones: do pool correlations of the MIND sample have the published T = 10 signs?"""
    record = records.get("closed-forms/mind-truncated")
    if record is None:
        return {}
    stem = "direction.mind-small."
    signs = {
        target.name.removeprefix(stem).removesuffix(".dU_T=10.0"): np.sign(target.value)
        for target in targets
        if target.name.startswith(stem) and target.name.endswith(".dU_T=10.0")
    }
    agree = {
        key: sum(
            np.sign(value) == signs.get(pair) for pair, value in record["detail"][f"pool_correlation_{key}"].items()
        )
        for key in ("impressions", "all")
    }
    text = f"{agree['impressions']}/{len(signs)} on >=5-impression pool; {agree['all']}/{len(signs)} on all articles"
    return {"ours.mind_truncated.poolcorr_sign_agreement_T10": text}


ALL_FOUR = ("ml-100k", "ml-1m", "mind-small", "amazon-kindle")


def _across(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Values over several data sets: strong pairs whose sign was right, Method B, medians of the data budgets."""

    def every(experiment: str, names: Sequence[str]) -> list[Mapping[str, Any]]:
        found = [records.get(f"{experiment}/{name}") for name in names]
        return [record for record in found if record is not None] if None not in found else []

    out: dict[str, Any] = {}
    signs = [record["detail"]["strong_matches"] for record in every("directions", ALL_FOUR)]
    for mechanism in dict.fromkeys(key for each in signs for key in each):
        hits, pairs = np.sum([each.get(mechanism, (0, 0)) for each in signs], axis=0)
        name = "softmax_T1" if mechanism == "T=1.0" else mechanism
        out[f"direction.strong_match_{name}"] = f"{hits}/{pairs}"
    films = every("directions", ALL_FOUR[:2])
    if films:
        hits, pairs = np.sum([record["detail"]["method_B_strong_raw"] for record in films], axis=0)
        out["direction.method_B_strong_raw"] = f"{hits}/{pairs}"
    budgets = every("data-budget", ALL_FOUR)
    for share in ("N50", "N80") if budgets else ():
        found = [
            number
            for record in budgets
            for key, value in record["values"].items()
            if key.endswith(f".{share}")
            for number in _numbers(value)
        ]
        out[f"budget.median_{share}_16_configs"] = float(np.median(found))
    return out


def needed(target: Target) -> set[str]:
    """Data sets behind a target."""
    if target.dataset == "all four":
        return set(ALL_FOUR)
    return {name.strip() for name in target.dataset.split(",")}


def within(value: Any, published: Any, tolerance: str) -> tuple[bool, float | None]:
    """Whether a value agrees with the published one, and the largest difference.

    Understands ``abs X``, ``X%``, ``+-N``, ``exact``, ``N SE`` (the standard error comes with our value), ``|rho|<X``,
    ``>=X`` and ``<=X`` (a bound on our value) and, for texts such as ``45/445`` or ``>500``, the same rule number by
    number.
    """
    error = None
    if isinstance(value, Mapping) and set(value) == {"value", "se"}:
        error, value = float(value["se"]), value["value"]
    if isinstance(published, Mapping):
        if not isinstance(value, Mapping) or set(value) != set(published):
            return False, None
        pairs = [within(value[key], published[key], tolerance) for key in published]
        return all(close for close, _ in pairs), _largest(gap for _, gap in pairs)
    if error is not None and (spread := re.search(r" SE ([\d.]+)", str(published))):
        # Both sides are estimates: two standard errors of their difference.
        tolerance = f"abs {2 * float(np.hypot(error, float(spread[1])))}"
    ours, theirs = _numbers(value), _numbers(published)
    if len(ours) != len(theirs):
        return False, None
    gaps = [0.0 if a == b else abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    close = all(_close(a, b, tolerance, error) for a, b in zip(ours, theirs, strict=True))
    return close, _largest(gaps)


def _close(ours: float, theirs: float, tolerance: str, error: float | None) -> bool:
    if ours == theirs:
        return True
    gap = abs(ours - theirs)
    if not np.isfinite(gap):
        return False
    if bound := re.search(r"\|rho\|<\s*([\d.]+)", tolerance):
        return abs(ours) < float(bound[1])
    if bound := re.match(r"(>=|<=)\s*([\d.]+)", tolerance):
        return ours >= float(bound[2]) if bound[1] == ">=" else ours <= float(bound[2])
    allowed = [0.0]
    allowed += [float(number) for number in re.findall(r"abs ([\d.e+-]+)", tolerance)]
    allowed += [float(number) / 100.0 * abs(theirs) for number in re.findall(r"([\d.]+)%", tolerance)]
    allowed += [float(number) for number in re.findall(r"\+-(\d+)", tolerance)]
    if spread := re.search(r"(\d+) SE", tolerance):
        allowed.append(float(spread[1]) * (error if error is not None else 0.0))
    if len(allowed) == 1 and theirs != round(theirs):
        # Without a stated width: published fractions are rounded, half a unit of the last place is no difference.
        allowed.append(0.5 * 10.0 ** -len(repr(theirs).split(".")[1]))
    return gap <= max(allowed) * (1 + 1e-9)


def _numbers(value: Any) -> list[float]:
    """Numbers of a value: a float, a list, or a text such as ``34/136``, ``>500/>500``, ``+0.093 SE 0.046``."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float):
        return [float(value)]
    if isinstance(value, Mapping):
        if set(value) == {"value", "se"}:
            return [float(value["value"])]
        return [float(value[key]) for key in sorted(value)]
    if isinstance(value, list):
        return [float(item) for item in value]
    text = re.split(r" SE | \(", str(value))[0]
    if text in ("inf", "-inf", "nan"):
        return [float(text)]
    return [
        float("inf") if over else float(number)
        for over, number in re.findall(r"(>?)\s*([+-]?\d*\.?\d+(?:e-?\d+)?)", text)
    ]


def _largest(gaps: Iterable[float | None]) -> float | None:
    known = [gap for gap in gaps if gap is not None]
    return max(known) if known else None


def summary(rows: Iterable[Row]) -> dict[str, int]:
    """Number of targets of every status."""
    count = Counter(row.status for row in rows)
    return {status: count.get(status, 0) for status in STATUS_TEXT}


def small(records: Mapping[str, Mapping[str, Any]]) -> str:
    """A warning if parts were computed in the small size, whose values stand beside no published number."""
    names = sorted(name for name, record in records.items() if record["tier"] != "full")
    return f"Not comparable, computed in the small size: {', '.join(names)}.\n\n" if names else ""


def timings(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Seconds that every part took when it was computed, as a page section."""
    lines = ["## Time", "", "| part | values | seconds |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {len(record['values'])} | {record['seconds']:.1f} |" for name, record in sorted(records.items())
    ]
    free = sum(record["seconds"] for name, record in records.items() if name.split("/")[1] not in LOADERS)
    total = sum(record["seconds"] for record in records.values())
    lines += ["", f"Parts that need no data files: {free:.0f} s together; all parts here: {total:.0f} s."]
    return "\n".join(lines) + "\n"


def markdown(rows: list[Row]) -> str:
    """The scoreboard as a page: counts, share of settled targets, every difference, one line per group."""
    count = summary(rows)
    lines = [
        "| status | targets |",
        "|---|---:|",
        *(f"| {STATUS_TEXT[status]} | {count[status]} |" for status in STATUS_TEXT),
        "",
        _judgement(count),
        "",
        "| group | " + " | ".join(STATUS_COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(STATUS_COLUMNS),
    ]
    groups: dict[str, Counter[Status]] = {}
    for row in rows:
        groups.setdefault(group(row.target), Counter())[row.status] += 1
    for name, found in sorted(groups.items()):
        lines.append(f"| {name} | " + " | ".join(str(found[status]) for status in STATUS_COLUMNS) + " |")
    for status in (*EXPLAINED, "differs", "external", "missing"):
        chosen = [row for row in rows if row.status == status]
        if chosen:
            lines += [
                "",
                f"## {STATUS_TEXT[status].capitalize()}",
                "",
                "| target | published | here | why |",
                "|---|---|---|---|",
            ]
            lines += [f"| `{r.target.name}` | {_show(r.target.value)} | {_show(r.value)} | {r.note} |" for r in chosen]
    return "\n".join(lines) + "\n"


def _judgement(count: Mapping[str, int]) -> str:
    judged = max(sum(count.values()) - count["waiting"], 1)
    close, explained = count["reproduced"], sum(count[status] for status in EXPLAINED)
    return (
        f"Of {judged} targets whose data is here {close} ({close / judged:.1%}) are within tolerance; "
        f"{close + explained} ({(close + explained) / judged:.1%}) are settled: within tolerance, or different with "
        f"measurements that say why. For {count['inside']} of those {explained} the published number lies among the "
        "values measured under the settings that the sources leave open."
    )


def settled(rows: Iterable[Row]) -> float:
    """Share of the targets whose data is here that are within tolerance, or explained by measurements."""
    count = summary(rows)
    judged = sum(count.values()) - count["waiting"]
    return (count["reproduced"] + sum(count[status] for status in EXPLAINED)) / max(judged, 1)


def group(target: Target) -> str:
    """First word of the id and the data set."""
    return f"{target.name.split('.')[0]} ({target.dataset})"


def _show(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        if set(value) == {"value", "se"}:
            return f"{_show(value['value'])} ± {_show(value['se'])}"
        return ", ".join(f"{key} {_show(value[key])}" for key in sorted(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(_show(item) for item in value[:3])}, …]"
    return str(value)

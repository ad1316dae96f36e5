"""Running the suites of a file and comparing what they produce."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.conformance.home_mixer.cases import SUITES, Case, Inputs, Suite
from tests.conformance.report import Report

#: Expected keys whose order means nothing: requests that the release sends without sorting.
UNORDERED = {("vf_request_plan", "in_network_ids")}


def same(expected: Any, got: Any, tolerance: float) -> bool:
    """Whether two JSON values agree: exactly, floats within a relative tolerance."""
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None or got is None:
        return expected is got
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and set(expected) == set(got)
            and all(same(value, got[key], tolerance) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(same(one, other, tolerance) for one, other in zip(expected, got, strict=True))
        )
    if isinstance(expected, float) or isinstance(got, float):
        return (
            isinstance(got, int | float)
            and isinstance(expected, int | float)
            and math.isclose(expected, got, rel_tol=tolerance, abs_tol=1e-300)
        )
    return bool(expected == got)


def check(name: str, run_case: Suite, case: Case, params: Mapping[str, Any], now_ms: int) -> tuple[bool, Any]:
    """Run one case; returns (passed, what was got)."""
    inputs = Inputs(case["input"], params, now_ms)
    try:
        got = run_case(inputs)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    expected = case["expected"]
    missing = sorted(set(expected) - set(got))
    if inputs.unknown() or missing:
        return False, f"unknown input keys {inputs.unknown()}, unknown expected keys {missing}"
    tolerance = float(params.get("relative_tolerance", 1e-9))
    got = {key: got[key] for key in expected}
    for key in expected:
        left, right = expected[key], got[key]
        if (name, key) in UNORDERED:
            left, right = sorted(left), sorted(right)
        if not same(left, right, tolerance):
            return False, got
    return True, got


def run(document: Mapping[str, Any], report: Report) -> None:
    """Replay every suite of a file."""
    for name, content in document["suites"].items():
        cases, passed = content["cases"], 0
        run_case = SUITES.get(name)
        for case in cases:
            if run_case is None:
                report.failure(case["id"], expected=case["expected"], got=f"unknown suite {name!r}")
                continue
            good, got = check(name, run_case, case, content.get("params", {}), document["now_ms"])
            passed += good
            if not good:
                report.failure(case["id"], expected=case["expected"], got=got)
        report.suite(name, passed, len(cases))

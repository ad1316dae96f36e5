"""Every vector of ``home_mixer.json`` passes in reference mode."""

from __future__ import annotations

import io
import json
from pathlib import Path

from tests.conformance import home_mixer
from tests.conformance.report import Report


def test_all_vectors_pass(shared: Path) -> None:
    document = json.loads((shared / "vectors" / "home_mixer.json").read_text())
    out = io.StringIO()
    report = Report(out=out)
    home_mixer.run(document, report)
    assert report.finish() == 0, out.getvalue()
    assert report.total > 300


def test_unknown_suites_keys_and_wrong_answers_fail() -> None:
    def replay(suite: str, case: dict[str, object]) -> int:
        report = Report(out=io.StringIO())
        home_mixer.run({"now_ms": 1, "suites": {suite: {"cases": [{"id": "x", **case}]}}}, report)
        return report.finish()

    good = {"input": {"candidates": [{"tweet_id": 1}]}, "expected": {"kept": [1], "removed": []}}
    assert replay("drop_duplicates_filter", good) == 0
    assert replay("no_such_suite", good) == 1
    assert replay("drop_duplicates_filter", {**good, "expected": {"kept": [2], "removed": []}}) == 1
    assert replay("drop_duplicates_filter", {**good, "expected": {"kept": [1], "wrong": []}}) == 1
    assert replay("drop_duplicates_filter", {**good, "input": {**good["input"], "wrong": 1}}) == 1  # type: ignore[dict-item]
    assert replay("drop_duplicates_filter", {**good, "input": {"candidates": [{"tweet_id": 1, "wrong": 1}]}}) == 1

"""The README shows the two set-up commands, and its feed example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_set_up_is_two_commands() -> None:
    first = README.split("```")[1]
    assert [line.split()[:2] for line in first.strip().splitlines()] == [["make", "demo"], ["make", "test"]]


def test_feed_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "Feed.demo()" in block)
    exec(compile(example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 10

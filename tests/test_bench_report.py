"""The benchmark report and the smoke comparison, on files of the formats they read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.smoke import compare


def _asv_file(folder: Path, commit: str, seconds: list[float]) -> None:
    document = {
        "result_columns": ["result", "params", "version"],
        "results": {"thunder.Lookup.time_lookup": [seconds, [["100", "500"]], "1"]},
    }
    (folder / "machine").mkdir(parents=True, exist_ok=True)
    (folder / "machine" / f"{commit}-env.json").write_text(json.dumps(document))


def test_report_names_a_slower_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    _asv_file(tmp_path, "aaaaaaaa", [1.0, 2.0])
    _asv_file(tmp_path, "bbbbbbbb", [1.0, 4.0])
    text = report.render("aaaaaaaa" + 32 * "0", "bbbbbbbb" + 32 * "0")
    assert "| `Lookup.time_lookup(500)` | 2 | 4 | 2.00 |" in text
    assert "2 values on both commits, 1 at least 1.3 × the base." in text
    assert "<script" not in text and "http://www.w3.org/2000/svg" in text
    with pytest.raises(SystemExit, match="no benchmark has results of both aaaaaaaa and cccccccc"):
        report.render("aaaaaaaa" + 32 * "0", "cccccccc" + 32 * "0")


def _smoke_file(path: Path, seconds: float) -> Path:
    rows = [("test_calibration_before", 0.4), ("test_scan", seconds), ("test_calibration_after", 0.6)]
    info = {"isa": "avx2"}
    path.write_text(
        json.dumps({"benchmarks": [{"name": n, "stats": {"median": s, "min": s}, "extra_info": info} for n, s in rows]})
    )
    return path


@pytest.mark.parametrize(("seconds", "code"), [(1.0, 0), (1.9, 0), (3.5, 1)])
def test_smoke_fails_only_at_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, code: int
) -> None:
    monkeypatch.setattr(compare, "MEDIANS", tmp_path / "medians.json")
    (tmp_path / "medians.json").write_text(json.dumps({"avx2": {"test_scan": 2.0}}))
    monkeypatch.setattr(sys, "argv", ["compare.py", str(_smoke_file(tmp_path / "run.json", seconds))])
    assert compare.main() == code
    (tmp_path / "medians.json").write_text(json.dumps({"avx512": {"test_scan": 2.0}}))
    assert compare.main() == 0  # another instruction set: nothing to compare with
    (tmp_path / "medians.json").write_text(json.dumps({"avx2": {"test_gone": 2.0}}))
    assert compare.main() == 1


def test_import_is_cheap() -> None:
    """API.md: `import xfast` loads none of the heavy libraries."""
    code = "import xfast, sys; print([m for m in ('jax', 'grpc', 'pyarrow', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"

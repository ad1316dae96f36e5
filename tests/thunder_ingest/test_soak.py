"""Long runs (`make soak`): load on the service with flat memory, ten minutes of fuzzing. A short load runs always."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.thunder_ingest.load import run

CORPUS = Path(__file__).with_name("corpus.txt")  # one input per line, in hexadecimal


def judge(figures: dict[str, object], growth: float) -> None:
    codes = figures["codes"]
    assert isinstance(codes, dict)
    assert codes["OK"] > 0 and set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}, figures
    assert figures["exit_code"] == 0
    before, after = figures["memory_mb_second_third"], figures["memory_mb_last_third"]
    assert isinstance(before, float) and isinstance(after, float)
    assert after <= growth * before, figures


def test_three_seconds_of_load() -> None:
    judge(run(seconds=3, clients=16, rate=500, max_concurrent=8), growth=1.5)


@pytest.mark.soak
def test_five_minutes_of_load_with_64_clients() -> None:
    figures = run(seconds=300, clients=64, rate=2_000, max_concurrent=48)
    print(figures)
    judge(figures, growth=1.05)


@pytest.mark.soak
def test_ten_minutes_of_fuzzing_find_nothing(tmp_path: Path) -> None:
    build = ROOT / "build" / "fuzz"
    cmake = shutil.which("cmake") or str(ROOT / ".venv" / "bin" / "cmake")
    flags = ["-DXFAST_TESTS=ON", "-DXFAST_PYTHON=OFF", "-DXFAST_FUZZ=ON", "-DXFAST_SANITIZE=address"]
    subprocess.run([cmake, "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *flags], check=True)
    subprocess.run([cmake, "--build", build, "--target", "fuzz_eventlog", "-j2"], check=True)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, line in enumerate(CORPUS.read_text().splitlines()):
        (corpus / f"{number:04d}").write_bytes(bytes.fromhex(line))
    program = next(build.rglob("fuzz_eventlog"))
    seconds = os.environ.get("XFAST_FUZZ_SECONDS", "600")
    done = subprocess.run([program, corpus, seconds], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    print(done.stdout)

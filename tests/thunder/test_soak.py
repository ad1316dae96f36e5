"""Long runs (`make soak`): damaged snapshots under the fuzzer, thousands of histories against the model."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.thunder.test_store_machine import FixedMachine, ReferenceMachine, StoreMachine

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.soak
def test_ten_minutes_of_damaged_snapshots(tmp_path: Path) -> None:
    build = ROOT / "build" / "fuzz"
    cmake = shutil.which("cmake") or str(ROOT / ".venv" / "bin" / "cmake")
    flags = ["-DXFAST_TESTS=ON", "-DXFAST_PYTHON=OFF", "-DXFAST_FUZZ=ON", "-DXFAST_SANITIZE=address"]
    subprocess.run([cmake, "-S", ROOT, "-B", build, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", *flags], check=True)
    subprocess.run([cmake, "--build", build, "--target", "fuzz_thunder_snapshot", "-j2"], check=True)
    corpus = tmp_path / "corpus"
    shutil.copytree(CORPUS, corpus)
    program = next(build.rglob("fuzz_thunder_snapshot"))
    seconds = os.environ.get("XFAST_FUZZ_SECONDS", "600")
    done = subprocess.run([program, corpus, seconds], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    print(done.stdout)


@pytest.mark.soak
@pytest.mark.parametrize("machine", [FixedMachine, ReferenceMachine])
def test_thousands_of_histories(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=2_000,
            stateful_step_count=60,
            deadline=None,
            derandomize=False,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

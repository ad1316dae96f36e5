"""The command line as a whole: help, version, doctor."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import xfast
from xfast.cli.main import COMMANDS, main


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        assert COMMANDS[command][1] in " ".join(capsys.readouterr().out.split())


def test_version_and_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"xfast {xfast.__version__}\n"
    with pytest.raises(SystemExit) as stopped:
        main(["fly"])
    assert stopped.value.code == 2


def test_doctor_tells_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["xfast"] == xfast.__version__
    assert found["packages"]["numpy"] is not None
    assert found["engines"]["native"].startswith("available")
    assert found["cpu"]["kernels"] in ("scalar", "avx2", "avx512", "amx")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "native kernels" in text and "to know" in text


def test_doctor_checks_the_kernels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The cases themselves are tests/kernels; here one of each kind is enough.
    from xfast.kernels import check
    from xfast.kernels.isolation_attention import shapes as attention
    from xfast.kernels.scaled_matmul import shapes as matmul

    monkeypatch.setattr(check, "KERNELS", ("mosaic_gpu",))
    monkeypatch.setattr(attention, "MODELS", {"mini": attention.MINI})
    monkeypatch.setattr(attention, "ODD", [attention.Shape(1, 1, 1, 1, 1, 16)])
    monkeypatch.setattr(matmul, "MODELS", {})
    monkeypatch.setattr(matmul, "ODD", [matmul.Shape(1, 1, 1, False)])
    assert main(["doctor", "--kernels"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("kernels on cpu, cpu:0")
    assert "mosaic_gpu: NOT RUN, this device cannot. Interpreted at 2 odd shapes, lowered at 1 model shapes, 0" in text
    monkeypatch.setattr(attention, "ODD", [])
    monkeypatch.setattr(matmul, "ODD", [])
    monkeypatch.setattr(attention, "MODELS", {"mini": attention.MINI._replace(heads=3, kv_heads=2)})
    assert main(["doctor", "--kernels", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["platform"] == "cpu"
    failures = {one["failure"] for one in found["findings"] if one["shape"].startswith("mini")}
    assert failures == {"ParameterError: query has 3 heads, must be a multiple of the 2 key heads"}


def test_doctor_names_a_lowered_instruction_set_and_a_wrong_one() -> None:
    def doctor(isa: str) -> subprocess.CompletedProcess[str]:
        code = "import os, sys; from xfast.cli.main import main; sys.exit(main(['doctor']))"
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={"XFAST_ISA": isa, "PATH": "/usr/bin"},
        )

    assert "native kernels  scalar" in doctor("scalar").stdout
    refused = doctor("mmx")
    assert refused.returncode != 0 and "XFAST_ISA is 'mmx'; it takes scalar, avx2, avx512 or amx" in refused.stderr

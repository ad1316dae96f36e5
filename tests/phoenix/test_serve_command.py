"""`xfast serve phoenix` as a process: it answers, and SIGTERM ends it cleanly."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.phoenix.models import random_candidates, random_engagements
from xfast.cli.main import main
from xfast.phoenix import Ranker, load_artifacts
from xfast.phoenix.service.client import PhoenixClient

ARTIFACTS = Path(__file__).resolve().parents[1] / "data" / "phoenix_a" / "artifacts"


async def test_serves_published_files_until_it_is_told_to_stop() -> None:
    command = [
        sys.executable,
        "-c",
        "from xfast.cli import main; raise SystemExit(main())",
        "serve",
        "phoenix",
        "--artifacts",
        str(ARTIFACTS),
    ]
    process = subprocess.Popen([*command, "--address", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = json.loads(process.stderr.readline())["port"]
        ranker = Ranker(load_artifacts(ARTIFACTS).ranker)
        rng = np.random.default_rng(0)
        sequence, candidates = random_engagements(ranker.config, rng), random_candidates(ranker.config, rng, 5)
        async with PhoenixClient(f"127.0.0.1:{port}", timeout=20) as client:
            got = await client.predict(sequence, candidates)
        expected = ranker.score(ranker.encode(sequence, keep="newest"), candidates)
        assert np.array_equal(got.probabilities, expected.probabilities)
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 0, rest


def test_a_malformed_model_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "phoenix", "--artifacts", str(ARTIFACTS), "--model", "x"]) == 2
    assert "--model is 'x', must be CLUSTER=DIR" in capsys.readouterr().err

"""``xfast train`` and ``xfast eval`` from events to tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xfast.cli import main
from xfast.events import EventBatch, write_parquet
from xfast.phoenix import load_artifacts


def test_train_and_eval(
    events: EventBatch, small: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(events, tmp_path / "events.parquet")
    model = "\n".join(f"{key} = {value}" for key, value in small.items())
    (tmp_path / "run.toml").write_text(
        f"[train]\nepochs = 1\nbatch_size = 16\nshared_negatives = 32\n[model]\n{model}\n"
    )
    common = ["--data", str(tmp_path), "--config", str(tmp_path / "run.toml"), "--output", str(tmp_path / "out")]
    assert main(["train", "retrieval", *common, "--hold-out", "last"]) == 0
    assert main(["train", "ranker", *common, "--hold-out", "tail", "--checkpoint", str(tmp_path / "c.npz")]) == 0
    output = capsys.readouterr()
    assert "saved in" in output.out
    assert "examples/s" in output.err
    artifacts = load_artifacts(tmp_path / "out")
    assert artifacts.ranker.config.num_actions == 49
    assert len(artifacts.corpus) == 60

    measure = ["eval", "--data", str(tmp_path), "--artifacts", str(tmp_path / "out")]
    assert main([*measure, "--json"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)
    assert [q["action"] for q in report["actions"]] == ["favorite", "dwell", "not_interested"]
    assert all(0 <= q["auc"] <= 1 and q["log_loss"] > 0 for q in report["actions"])
    assert set(report["recall"]) == {"recall@50", "recall@200"}
    names = [row["name"] for row in report["leave_last_out"]]
    assert names == ["popularity", "item-kNN, full history", "item-kNN, last 3", "EASE", "Phoenix retrieval"]
    assert set(report["leave_last_out"][0]["metrics"]) == {"HR@10", "HR@50", "NDCG@10"}
    assert report["held_out"] == {"ranker": "tail", "retrieval": "last"}
    assert output.err.count("note:") == 1  # retrieval knows the tail
    assert main(measure) == 0
    assert "Phoenix retrieval" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ranker", "--data", str(tmp_path)]) == 2
    assert "events.parquet: no such file" in capsys.readouterr().err
    (tmp_path / "run.toml").write_text("[train]\nepoch = 1\n")
    assert main(["train", "ranker", "--data", str(tmp_path), "--config", str(tmp_path / "run.toml")]) == 2
    assert "train.epoch is unknown" in capsys.readouterr().err

"""Runs: they learn, they are deterministic, and they go on bit for bit from a checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xfast.errors import ConfigurationError, DataError, SnapshotError
from xfast.phoenix import PhoenixConfig, load_artifacts, save_artifacts
from xfast.phoenix.training import (
    Progress,
    Sequences,
    TrainConfig,
    TrainResult,
    train_ranker,
    train_retrieval,
)
from xfast.phoenix.training.checkpoint import Checkpoint
from xfast.phoenix.training.metrics import auc
from xfast.phoenix.training.scoring import RankerScorer, corpus_of


def same(a: TrainResult, b: TrainResult) -> bool:
    tables = ("user", "item", "author")
    return all(np.array_equal(a.tower.params[key], b.tower.params[key]) for key in a.tower.params) and all(
        np.array_equal(getattr(a.tower.tables, kind), getattr(b.tower.tables, kind)) for kind in tables
    )


def test_retrieval_resumes_bit_for_bit(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig, tmp_path: Path
) -> None:
    config = replace(run, validation_rows=1, validate_every=3)
    file = tmp_path / "run" / "checkpoint.npz"
    whole = train_retrieval(sequences, config, retrieval_config, seed=5)
    half = train_retrieval(sequences, config, retrieval_config, seed=5, checkpoint=file, stop_after=whole.steps // 2)
    assert half.steps == whole.steps // 2
    assert not same(whole, half)
    assert not list(file.parent.glob("*.tmp"))
    rest = train_retrieval(sequences, config, retrieval_config, seed=5, checkpoint=file)
    assert half.losses + rest.losses == whole.losses
    assert rest.validations == whole.validations
    assert same(whole, rest)
    again = train_retrieval(sequences, config, retrieval_config, seed=5, checkpoint=file)
    assert again.losses == []
    assert same(whole, again)
    with pytest.raises(SnapshotError, match="another run: seed was 5, is 6"):
        train_retrieval(sequences, config, retrieval_config, seed=6, checkpoint=file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(SnapshotError, match="not a readable checkpoint"):
        train_retrieval(sequences, config, retrieval_config, seed=5, checkpoint=file)


def test_ranker_learns_resumes_and_is_saved(
    sequences: Sequences, ranker_config: PhoenixConfig, run: TrainConfig, tmp_path: Path
) -> None:
    from xfast.phoenix.config import ContinuousActionConfig

    model = ranker_config.replace(
        continuous_action_config=ContinuousActionConfig(loss_weight=0.1, loss_type="tweedie"),
        continuous_action_configs=((2, ContinuousActionConfig(loss_weight=0.1)),),
    )
    config = replace(
        run, epochs=30, random_negatives=2, dense_learning_rate=1e-2, table_learning_rate=0.3, user_dropout=0.1,
        embedding_dropout=0.1, residual_dropout=0.0,
    )  # fmt: skip
    steps: list[Progress] = []
    whole = train_ranker(sequences, config, model, seed=1, on_step=steps.append)
    assert [p.step for p in steps] == list(range(1, whole.steps + 1))
    assert all(p.total_steps == whole.steps and p.examples > 0 for p in steps)
    assert np.mean(whole.losses[-5:]) < 0.6 * np.mean(whole.losses[:3])
    rows = np.flatnonzero(sequences.order >= len(sequences) - 300)
    labels = (sequences.actions[rows] >> np.uint64(1)) & np.uint64(1) == 1
    logits, _ = RankerScorer(sequences, whole.tower).logits_of_rows(rows)
    assert auc(logits[:, 1], labels) > 0.75

    file = tmp_path / "checkpoint.npz"
    train_ranker(sequences, config, model, seed=1, checkpoint=file, stop_after=7)
    assert same(whole, train_ranker(sequences, config, model, seed=1, checkpoint=file))

    save_artifacts(tmp_path / "artifacts", ranker=whole.tower)
    loaded = load_artifacts(tmp_path / "artifacts").ranker
    assert loaded.config == whole.tower.config
    assert loaded.config.num_actions == 49
    assert loaded.config.right_anchored_rope
    np.testing.assert_array_equal(RankerScorer(sequences, loaded).logits_of_rows(rows)[0], logits)


def test_untouched_rows_stay(sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig) -> None:
    from xfast.phoenix import hashing
    from xfast.phoenix.training.initialise import fresh_tower

    before = fresh_tower("retrieval", retrieval_config, run, 2)
    after = train_retrieval(sequences, run, retrieval_config, seed=2, stop_after=2).tower
    touched = np.zeros(retrieval_config.item_vocab_size, bool)
    touched[hashing.rows_of(sequences.posts, "item", retrieval_config).ravel()] = True
    np.testing.assert_array_equal(after.tables.item[~touched], before.tables.item[~touched])
    assert np.any(after.tables.item[touched] != before.tables.item[touched], axis=1).mean() > 0.5
    assert not after.tables.item[0].any()


def test_early_stop_keeps_the_best(sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig) -> None:
    config = replace(run, epochs=20, validation_rows=2, validate_every=2, patience=2, dense_learning_rate=1.0)
    result = train_retrieval(sequences, config, retrieval_config, seed=0)
    assert result.stopped_early
    losses = [value for _, value in result.validations]
    assert min(losses) == losses[-3]


def test_a_killed_save_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.npz"
    Checkpoint(3, {"a": 1}, {}, {"x": np.arange(4)}).save(file)
    program = f"""
import os, numpy as np
from xfast.phoenix.training import checkpoint
def die(*args): os._exit(9)
checkpoint.os.fsync = die
checkpoint.Checkpoint(4, {{"a": 1}}, {{}}, {{"x": np.arange(400_000)}}).save({str(file)!r})
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert Checkpoint.load(file).step == 3
    np.testing.assert_array_equal(Checkpoint.load(file).arrays["x"], np.arange(4))


def test_bad_settings_name_themselves(sequences: Sequences, ranker_config: PhoenixConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="batch_size is 0, must be at least 1"):
        TrainConfig(batch_size=0)
    with pytest.raises(ConfigurationError, match=r"train.batchsize is unknown"):
        TrainConfig.from_mapping({"batchsize": 3})
    with pytest.raises(ConfigurationError, match="right_anchored_rope"):
        train_ranker(sequences, TrainConfig(), ranker_config.replace(right_anchored_rope=False))
    with pytest.raises(ConfigurationError, match="shuffle_ties"):
        train_ranker(sequences, TrainConfig(shuffle_ties=True), ranker_config)
    with pytest.raises(ConfigurationError, match="action_weights"):
        train_ranker(sequences, TrainConfig(action_weights={"video_watch_time": 1.0}), ranker_config)
    with pytest.raises(DataError, match="comes after a dropped row"):
        sequences.keep(np.arange(len(sequences)) % 2 == 0)
    file = tmp_path / "run.toml"
    file.write_text('[train]\nepochs = 3\npositive_actions = ["like"]\n[model]\nemb_size = 32\n')
    train, model = TrainConfig.load(file, "ranker")
    assert train.epochs == 3
    assert train.positive_actions == ("favorite",)
    assert model.emb_size == 32
    assert json.loads(json.dumps(train.to_mapping()))["epochs"] == 3
    file.write_text("[trainer]\n")
    with pytest.raises(ConfigurationError, match="'trainer' is unknown"):
        TrainConfig.load(file, "ranker")


def test_hard_negatives_and_a_corpus_of_every_post(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig
) -> None:
    config = replace(run, hard_negatives=2, negatives="catalogue")
    result = train_retrieval(sequences, config, retrieval_config, stop_after=1)
    assert np.isfinite(result.losses).all()
    corpus = corpus_of(sequences, result.tower)
    np.testing.assert_array_equal(corpus.post_ids, sequences.posts)
    np.testing.assert_allclose(np.linalg.norm(corpus.representations, axis=1), 1, atol=1e-5)

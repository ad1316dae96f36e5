"""Calibrated quantisation: exact where it says so, better where it is chosen, and refused with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phoenix.models import random_tower, tiny_config
from xfast.cli.main import main
from xfast.errors import DataError, ParameterError
from xfast.events import write_parquet
from xfast.phoenix import Ranker, calibration, load_artifacts, model, save_artifacts
from xfast.phoenix.calibration import balanced, calibrate, collect, viewer_lists
from xfast.phoenix.features import ContextFeatures
from xfast.phoenix.layout import layer_prefix
from xfast.phoenix.quantization import (
    compensated,
    compensated_rows,
    quantize_columns,
    quantize_params,
    quantize_rows,
    quantize_tower,
)
from xfast.phoenix.stored import Int8Matrix
from xfast.phoenix.training.sequences import Sequences
from xfast.world import SyntheticConfig, World, generate

CONFIG = tiny_config(num_heads=4, num_kv_heads=2, num_actions=49, right_anchored_rope=True)


@pytest.fixture(scope="module")
def world() -> World:
    return generate(SyntheticConfig(users=60, posts=300, impressions=6000), 3)


@pytest.fixture(scope="module")
def sequences(world: World) -> Sequences:
    return Sequences.from_events(world.events())


def test_lists_are_real_moments(sequences: Sequences) -> None:
    lists = viewer_lists(sequences, CONFIG, 40, candidates=9, seed=1)
    assert len(lists) == 40
    assert len({(x.engagements.user_id, int(x.candidates.impression_ts[0])) for x in lists}) > 30  # type: ignore[index]
    for one in lists:
        user = int(np.searchsorted(sequences.users, np.uint64(one.engagements.user_id)))
        moment = int(one.candidates.impression_ts[0])  # type: ignore[index]
        assert 5 <= len(one.engagements) <= CONFIG.history_seq_len
        assert (one.engagements.actions != 0).any(axis=1).all()
        assert len(np.unique(one.candidates.post_ids)) == 9
        met = one.later[one.later >= 0]
        # What comes later is later, is the viewer's, and is that post.
        assert (sequences.user[met] == user).all() and (sequences.time_s[met] >= moment).all()
        np.testing.assert_array_equal(sequences.posts[sequences.post[met]], one.candidates.post_ids[one.later >= 0])
    again = viewer_lists(sequences, CONFIG, 40, candidates=9, seed=1)
    assert all((a.candidates.post_ids == b.candidates.post_ids).all() for a, b in zip(lists, again, strict=True))
    with pytest.raises(DataError, match="no viewer in the events has 5 engagements before another row"):
        viewer_lists(sequences, CONFIG, 5, rows=sequences.offsets[:-1])
    with pytest.raises(DataError, match=r"hold \d+ posts, lists of 10000 need more"):
        viewer_lists(sequences, CONFIG, 5, candidates=10_000)


def test_inputs_are_those_of_the_model() -> None:
    """One layer put together from the recorded inputs is the model's layer."""
    config = CONFIG.replace(num_layers=1)
    tower = random_tower(config)
    tokens = jnp.asarray(np.random.default_rng(0).normal(size=(1, 5, 8)), jnp.float32)
    positions, mask = jnp.arange(5)[None], jnp.tri(5, dtype=bool)[None]
    inputs = calibration.layer_inputs(tower.params, config, tokens, positions, mask)
    at = layer_prefix(0)
    assert list(inputs) == [
        at + "multi_head_attention/query/w", at + "multi_head_attention/linear/w", at + "linear/w", at + "linear_1/w"
    ]  # fmt: skip

    def closed(h: Any, key: str, norm: str) -> Any:
        product = jnp.matmul(inputs[at + key], tower.params[at + key], precision="highest")
        return h + model.rms_norm(product, tower.params[f"{at}{norm}/scale"])

    h = closed(closed(tokens, "multi_head_attention/linear/w", "rms_norm_1"), "linear_1/w", "rms_norm_3")
    expected = model.transformer(tower.params, config, tokens, positions, mask)
    np.testing.assert_allclose(h, expected, atol=1e-6)
    np.testing.assert_allclose(
        inputs[at + "multi_head_attention/query/w"], model.rms_norm(tokens, tower.params[at + "rms_norm/scale"])
    )


@pytest.mark.parametrize("name", ["ranker", "retrieval"])
def test_balancing_changes_no_bit(name: Any, sequences: Sequences) -> None:
    tower = random_tower(CONFIG, name)
    lists = viewer_lists(sequences, CONFIG, 6, candidates=5)
    statistics = collect(tower, lists)
    for strength in (0.0, 0.5, 1.0):
        params, moved = balanced(tower.params, CONFIG, statistics, strength)
        changed = replace(tower, params=params)
        assert any((params[key] != tower.params[key]).any() for key in params)
        outputs = calibration._ranker_outputs if name == "ranker" else calibration._user_vectors
        before, after = (outputs(one, "float32", lists) for one in (tower, changed))
        np.testing.assert_array_equal(before, after)
        # The statistics are those of the changed model.
        measured = collect(changed, lists)
        for key in measured.grams:
            np.testing.assert_allclose(moved.peaks[key], measured.peaks[key], rtol=1e-6)
            np.testing.assert_allclose(moved.grams[key], measured.grams[key], rtol=1e-5, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 24), columns=st.integers(1, 9), tokens=st.integers(0, 60), seed=st.integers(0, 2**32 - 1))
def test_compensated_rounding_keeps_products_close(rows: int, columns: int, tokens: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-3, 3, columns)).astype(np.float32)
    matrix[:, rng.random(columns) < 0.2] = 0
    mixing = rng.normal(size=(rows, rows)) * (rng.random(rows) < 0.8)
    inputs = rng.normal(size=(tokens, rows)) @ mixing
    got = compensated(matrix, inputs.T @ inputs)
    plain = quantize_columns(matrix, scales="float16")
    np.testing.assert_array_equal(got.scale, plain.scale)
    # The same integers come out of the numbers that the file holds: an engine that packs them loses nothing more.
    np.testing.assert_array_equal(quantize_columns(np.array(got)).values, got.values)
    exact = inputs @ matrix.astype(np.float64)
    errors = [np.square(inputs @ np.array(q, np.float64) - exact).sum(axis=0) for q in (got, plain)]
    # Per column never much worse than rounding to the nearest; damping and the kept largest value cost a little.
    steps = np.square(plain.scale[0].astype(np.float64)) * np.square(inputs).sum()
    assert (errors[0] <= errors[1] + 0.3 * steps + 1e-12).all()
    assert (np.array(got)[:, (matrix == 0).all(axis=0)] == 0).all()


def test_compensated_rounding_is_better_where_inputs_go_together() -> None:
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(64, 32)).astype(np.float32)
    inputs = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 64)) + 0.05 * rng.normal(size=(500, 64))
    exact = inputs @ matrix
    errors = [
        np.square(inputs @ np.array(q) - exact).mean()
        for q in (compensated(matrix, inputs.T @ inputs), quantize_columns(matrix))
    ]
    assert errors[0] < 0.25 * errors[1]


@pytest.mark.parametrize("name", ["ranker", "retrieval", "mean"])
def test_tables_are_rounded_for_what_reads_them(name: str) -> None:
    """Less error where rows meet the model, in a model whose projections care for some directions."""
    config = tiny_config(emb_size=32, enable_linear_proj=name != "mean")
    tower = random_tower(config, "ranker" if name == "ranker" else "retrieval")
    rng = np.random.default_rng(8)
    params = dict(tower.params)
    readers = {key: value for key, value in params.items() if "proj_mat" in key or "projection_1" in key}
    for key, value in readers.items():
        blocks = value.reshape(-1, 32, value.shape[1])
        blocks[:, :] = np.exp(-np.arange(32) / 4)[:, None] * rng.normal(size=blocks.shape)
        mixing = np.linalg.qr(np.random.default_rng(9).normal(size=(32, 32)))[0]
        params[key] = (mixing @ blocks).reshape(value.shape).astype(np.float32)
    tower = replace(tower, params=params)
    small = quantize_tower(tower)
    for kind, at in (("user", 0), ("item", 0), ("author", 64)):
        table = getattr(tower.tables, kind)
        key = next(k for k in params if k.endswith("proj_mat_1" if kind == "user" else "proj_mat_3"))
        reader = params[key][at : at + 32].astype(np.float64)
        stored = getattr(small.tables, kind)
        assert stored.scale.dtype == np.float16
        errors = [np.square((np.array(q) - table) @ reader).mean() for q in (stored, quantize_rows(table))]
        assert errors[0] < (0.5 if name != "mean" or kind == "user" else 1.05) * errors[1], kind
    blocks = np.concatenate([np.array(compensated_rows(table[a : a + 7], np.eye(32))) for a in range(0, len(table), 7)])
    np.testing.assert_array_equal(blocks, np.array(quantize_rows(table, scales="float16")))  # nothing goes together


def test_the_best_method_is_kept_and_its_error_is_measured(sequences: Sequences) -> None:
    tower = random_tower(CONFIG)
    lists = viewer_lists(sequences, CONFIG, 12, candidates=7)
    found = calibrate(tower, lists)
    assert list(found.errors) == [
        "nearest", "compensated", "balanced 0.5, nearest", "balanced 0.5, compensated", "balanced 0.75, nearest",
        "balanced 0.75, compensated",
    ]  # fmt: skip
    assert found.errors[found.method] == min(found.errors.values()) and found.lists == 6
    exact, small = Ranker(tower, engine="native"), Ranker(found.tower, engine="native", precision="int8")
    differences = []
    for one in lists[1::2]:
        p, q = (r.score(r.encode(one.engagements), one.candidates).probabilities for r in (exact, small))
        differences.append(np.abs(p - q).mean())
    assert found.errors[found.method] == pytest.approx(np.mean(differences), rel=1e-4)
    with pytest.raises(DataError, match="lists has 1 entries, calibration needs at least 2"):
        calibrate(tower, lists[:1])


def test_command_calibrates_and_every_engine_loads_it(
    world: World, sequences: Sequences, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_artifacts(tmp_path / "model", ranker=random_tower(CONFIG), retrieval=random_tower(CONFIG, "retrieval"))
    write_parquet(world.events(), tmp_path / "events.parquet")
    command = ["quantize", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--calibrate", str(tmp_path)]
    assert main([*command, "--lists", "8", "--json"]) == 0
    output = capsys.readouterr()
    report = json.loads(output.out)["calibration"]
    assert "retrieval: balanced 0.5, compensated:" in output.err
    for name in ("ranker", "retrieval"):
        written = json.loads((tmp_path / "out" / name / "calibration.json").read_text())
        assert written == report[name] and written["lists"] == 4
    loaded = load_artifacts(tmp_path / "out")
    one = viewer_lists(sequences, CONFIG, 1, candidates=5)[0]
    logits = []
    for engine in ("native", "xla", "pallas"):
        ranker = Ranker(loaded.ranker, engine=engine)  # type: ignore[arg-type]
        logits.append(ranker.score(ranker.encode(one.engagements), one.candidates).logits)
    np.testing.assert_allclose(logits[1], logits[0], atol=1e-4)
    np.testing.assert_allclose(logits[2], logits[0], atol=1e-4)
    features = ContextFeatures.build(loaded.retrieval, one.engagements)
    assert features.num_valid > 1
    for wrong, message in (
        ([*command[:3], str(tmp_path / "other"), *command[4:], "--lists", "1"], "--lists is 1, must be at least 2"),
        ([*command[:3], str(tmp_path / "other"), "--lists", "9"], "--lists is 9, it goes with --calibrate"),
        ([*command[:3], str(tmp_path / "other"), "--calibrate", str(tmp_path / "model")], "no such file"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("proj_mat_1", r"ranker: 'phoenix_model/proj_mat_1' holds nan at \[2, 3\], must be finite"),
        ("item", r"ranker: 'item_embeddings' holds inf at \[7, 1\], must be finite to be quantised"),
    ],
)
def test_values_that_are_not_finite_are_named(change: str, message: str) -> None:
    tower = random_tower(CONFIG)
    if change == "item":
        tower.tables.item[7, 1] = np.inf  # type: ignore[index]
    else:
        tower.params["phoenix_model/proj_mat_1"][2, 3] = np.nan
    with pytest.raises(ParameterError, match=message):
        quantize_tower(tower)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 17), columns=st.integers(1, 17), seed=st.integers(0, 2**32 - 1))
def test_scales_are_per_output_column_at_any_size(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = (
        rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(*((-20, 20) if seed % 2 else (-1, 3)), columns)
    ).astype(np.float32)
    matrix[:, rng.random(columns) < 0.3] = 0
    got = quantize_columns(matrix)
    assert isinstance(got, Int8Matrix) and got.scale.shape == (1, columns)
    np.testing.assert_array_equal(got.scale[0], np.abs(matrix).max(axis=0) / np.float32(127))
    zero = (matrix == 0).all(axis=0)
    assert (got.values[:, zero] == 0).all() and (np.abs(got.values[:, ~zero]).max(axis=0) == 127).all()
    half_step = np.abs(matrix).max(axis=0) / 254
    assert (np.abs(np.array(got, np.float64) - matrix) <= half_step * (1 + 1e-5)).all()
    # Short scales, where the range allows them, cost a thousandth of that, and are found again.
    short = quantize_columns(matrix, scales="float16")
    used = got.scale[0, ~zero]
    fits = not used.size or bool(used.min() >= 2.0**-14 and used.max() <= 65504)
    assert short.scale.dtype == (np.float16 if fits else np.float32)
    assert (np.abs(np.array(short, np.float64) - matrix) <= half_step * (1 + 2.0**-9)).all()
    again = quantize_columns(np.array(short))
    np.testing.assert_array_equal(again.values, short.values)
    np.testing.assert_array_equal(quantize_rows(matrix.T, scales="float16").values, short.values.T)


def test_given_matrices_are_stored_as_they_are() -> None:
    tower = random_tower(CONFIG)
    key = layer_prefix(0) + "linear/w"
    mine = Int8Matrix(np.ones(tower.params[key].shape, np.int8), np.ones((1, tower.params[key].shape[1]), np.float32))
    stored = quantize_params(tower, matrices={key: mine})
    assert stored.stored[key] is mine

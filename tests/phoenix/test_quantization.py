"""Eight-bit model files: stated errors, sizes, files that load and give the scores of the numbers they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.phoenix.models import mini_config, random_candidates, random_engagements, random_tower, tiny_config
from xfast.cli.main import main
from xfast.errors import ArtifactError, ParameterError
from xfast.phoenix import Artifacts, Corpus, Ranker, Retriever, Tower, load_artifacts, save_artifacts
from xfast.phoenix.artifacts import EmbeddingTables
from xfast.phoenix.npz import write_npz
from xfast.phoenix.quantization import (
    corpus_size,
    quantize_columns,
    quantize_corpus,
    quantize_rows,
    quantize_tower,
    tower_sizes,
)
from xfast.phoenix.stored import Int8Matrix

CONFIG = tiny_config()


def _dense(tower: Tower) -> Tower:
    """The tower of float32 arrays that a quantised one stands for."""
    tables = [np.array(getattr(tower.tables, kind)) for kind in ("user", "item", "author")]
    return Tower(tower.name, tower.config, dict(tower.params), EmbeddingTables(*tables))


@pytest.mark.parametrize(("quantize", "axis"), [(quantize_columns, 0), (quantize_rows, 1)])
def test_errors_stay_within_half_a_step(quantize: Any, axis: int) -> None:
    rng = np.random.default_rng(0)
    matrix = (rng.normal(size=(70, 9)) * 10.0 ** rng.integers(-30, 30, (70, 9))).astype(np.float32)
    matrix[3], matrix[:, 4] = 0, 0
    matrix[5, 5] = 1e-44
    quantized = quantize(matrix)
    bound = np.abs(matrix).max(axis=axis, keepdims=True) / 254
    assert (np.abs(np.array(quantized) - matrix) <= bound * (1 + 1e-5) + 1e-37).all()
    assert np.abs(quantized.values).max() == 127
    rows = np.array([[3, 0], [69, 69]])
    np.testing.assert_array_equal(quantized[rows], np.array(quantized)[rows])
    assert quantized[rows].dtype == np.float32
    # Quantising once more changes nothing.
    np.testing.assert_array_equal(quantize(np.array(quantized)).values, quantized.values)


def test_bad_matrices_are_refused() -> None:
    with pytest.raises(ParameterError, match="not finite"):
        quantize_rows(np.array([[1.0, np.nan]]))
    with pytest.raises(ParameterError, match=r"scale has shape \(3, 1\), must be \(2, 1\) or \(1, 4\)"):
        Int8Matrix(np.zeros((2, 4), np.int8), np.zeros((3, 1), np.float32))


def test_memory_targets_at_the_published_sizes() -> None:
    for name in ("ranker", "retrieval"):
        tower = random_tower(mini_config(post_age_granularity_mins=60), name)  # type: ignore[arg-type]
        sizes = {size.part: size for size in tower_sizes(tower, quantize_tower(tower))}
        assert list(sizes) == ["dense", "user table", "item table", "author table"]
        assert sizes["dense"].saved >= 0.74, name
        for kind in ("user", "item", "author"):
            assert sizes[f"{kind} table"].saved >= 0.73
        assert all(0 < size.rms_error < 0.02 for size in sizes.values())


def test_heads_in_eight_bits_save_more_and_stay_close() -> None:
    tower = random_tower(CONFIG)
    small, smaller = quantize_tower(tower), quantize_tower(tower, heads="int8")
    saved = [tower_sizes(tower, one)[0].saved for one in (small, smaller)]
    assert saved[1] > saved[0]
    for key, value in smaller.params.stored.items():  # type: ignore[attr-defined]
        assert isinstance(value, Int8Matrix) == (value.ndim == 2 and min(value.shape) > 1), key
        if "unembeddings" in key:
            bound = np.abs(tower.params[key]).max(axis=0) / 253
            assert (np.abs(np.asarray(value) - tower.params[key]) <= bound).all()
    with pytest.raises(ParameterError, match="heads is 'int4', must be float16 or int8"):
        quantize_tower(tower, heads="int4")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(300, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(1, 301, dtype=np.uint64)
    path = tmp_path_factory.mktemp("int8") / "model"
    save_artifacts(
        path,
        ranker=random_tower(CONFIG),
        retrieval=random_tower(CONFIG, "retrieval", 1),
        corpus=Corpus(ids, ids, vectors.astype(np.float32)),
        example_sequence=random_engagements(CONFIG, rng, np.ones(3)),
    )
    return path


def test_command_writes_what_loads_and_says_so(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["quantize", str(original), "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["ranker", "retrieval", "corpus"]
    assert [part["saved"] for part in report["corpus"]] == [0.5]
    before, after = load_artifacts(original), load_artifacts(out)
    for part, tower in zip(report["ranker"][1:], ("user", "item", "author"), strict=True):
        table = getattr(after.ranker.tables, tower)
        assert isinstance(table, Int8Matrix) and part["bytes"] == table.nbytes
        assert not table.values.flags.owndata  # mapped
    assert report["ranker"][0]["numbers"] == sum(value.size for value in before.ranker.params.values())
    assert after.ranker.config == before.ranker.config
    assert main(["quantize", str(original), "--out", str(tmp_path / "table")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert main(["quantize", str(original), "--out", str(tmp_path / "heads"), "--heads", "int8", "--json"]) == 0
    with_heads = json.loads(capsys.readouterr().out)["ranker"][0]["bytes"]
    assert with_heads < report["ranker"][0]["bytes"]
    assert lines[0].split() == ["part", "numbers", "float32", "stored", "saved", "rms", "error"]
    assert any(line.startswith("retrieval item table") for line in lines) and any(x.startswith("total") for x in lines)
    assert main(["quantize", str(original), "--out", str(out)]) == 2
    assert "must not exist yet" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["native", "xla"])
def test_scores_are_those_of_the_numbers_in_the_file(original: Path, tmp_path: Path, engine: Any) -> None:
    source = load_artifacts(original)
    save_artifacts(tmp_path, ranker=quantize_tower(source.ranker), retrieval=quantize_tower(source.retrieval))
    loaded = load_artifacts(tmp_path)
    rng = np.random.default_rng(7)
    viewer, some = random_engagements(CONFIG, rng, np.ones(3)), random_candidates(CONFIG, rng, 5)
    results = []
    for tower in (loaded.ranker, _dense(loaded.ranker), source.ranker):
        ranker = Ranker(tower, engine=engine)
        results.append(ranker.score(ranker.encode(viewer), some).logits)
    np.testing.assert_array_equal(results[0], results[1])
    assert 0 < np.abs(results[0] - results[2]).max() < 0.1 * np.abs(results[2]).max()
    if engine == "native":
        vectors = [Retriever(t, engine=engine).encode(viewer) for t in (loaded.retrieval, source.retrieval)]
        assert float(vectors[0] @ vectors[1]) > 0.99


def test_the_int8_engine_keeps_the_files_weights() -> None:
    """Packing dequantised weights finds the same integers, so nothing is lost twice."""
    matrix = np.random.default_rng(2).normal(size=(64, 24)).astype(np.float32)
    once = quantize_columns(matrix)
    again = quantize_columns(np.array(once))
    np.testing.assert_array_equal(once.values, again.values)
    np.testing.assert_allclose(once.scale, again.scale, rtol=2e-7)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_corpus_storages_search_what_they_hold(original: Path, tmp_path: Path, storage: Any) -> None:
    source = load_artifacts(original)
    corpus = quantize_corpus(source.corpus, storage)
    save_artifacts(tmp_path, retrieval=source.retrieval, corpus=corpus)
    loaded = load_artifacts(tmp_path)
    query = np.random.default_rng(3).normal(size=8).astype(np.float32)
    hits = Retriever(loaded.retrieval, loaded.corpus).search(query, 20)
    exact = np.array(corpus.representations, np.float64) @ query
    np.testing.assert_array_equal(hits.rows, np.argsort(-exact.astype(np.float32), kind="stable")[:20])
    saved = corpus_size(source.corpus, loaded.corpus).saved
    assert saved == pytest.approx({"float32": 0, "float16": 0.5, "int8": 1 - 12 / 32}[storage])
    with pytest.raises(ParameterError, match="corpus storage is 'int4'"):
        quantize_corpus(source.corpus, "int4")  # type: ignore[arg-type]
    far = Corpus(corpus.post_ids, corpus.author_ids, np.full((300, 8), 1e5, np.float32))
    with pytest.raises(ParameterError, match="at most 65504"):
        quantize_corpus(far, "float16")


def _break(path: Path, name: str, change: Any) -> Artifacts:
    file = path / "ranker" / name
    with np.load(file) as archive:
        arrays = dict(archive)
    change(arrays)
    write_npz(file, arrays)
    return load_artifacts(path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("model_params.npz", lambda a: a.pop("phoenix_model/proj_mat_1.scale"), r"int8, but '.*\.scale' is missing"),
        ("embedding_tables.npz", lambda a: a.pop("item_embeddings.scale"), r"'item_embeddings' is int8, but"),
        (
            "embedding_tables.npz",
            lambda a: a.update({"item_embeddings.scale": np.full((41, 1), np.nan, np.float32)}),
            "must hold finite float32",
        ),
        (
            "embedding_tables.npz",
            lambda a: a.update({"user_embeddings.scale": np.ones((8, 1), np.float32)}),
            r"scale has shape \(8, 1\), must be \(31, 1\)",
        ),
    ],
)
def test_damaged_scales_are_named(original: Path, tmp_path: Path, name: str, change: Any, message: str) -> None:
    save_artifacts(tmp_path, ranker=quantize_tower(load_artifacts(original).ranker))
    load_artifacts(tmp_path)
    with pytest.raises(ArtifactError, match=message):
        _break(tmp_path, name, change)

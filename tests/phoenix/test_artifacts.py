from __future__ import annotations

import io
import json
import mmap
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.phoenix.models import random_engagements, random_tower, tiny_config
from xfast.errors import ArtifactError, ParameterError
from xfast.phoenix import Artifacts, Corpus, Retriever, Tower, load_artifacts, load_corpus, save_artifacts
from xfast.phoenix.artifacts import EmbeddingTables, load_sequence
from xfast.phoenix.layout import LOG_TEMPERATURE
from xfast.phoenix.npz import read_ahead, write_npz


def _model(rng: np.random.Generator) -> dict[str, Any]:
    config = tiny_config()
    viewer = random_engagements(config, rng)
    return {
        "ranker": random_tower(config),
        "retrieval": random_tower(config, "retrieval"),
        "corpus": Corpus(
            rng.integers(1, 2**63, 50, np.uint64),
            rng.integers(1, 2**63, 50, np.uint64),
            rng.normal(size=(50, 8)).astype(np.float32),
            topics=np.array(["a", "b"] * 25),
            topic_ids=np.arange(100).reshape(50, 2),
        ),
        "example_sequence": viewer,
    }


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return _model(np.random.default_rng(0))


@pytest.fixture
def saved(model: dict[str, Any], tmp_path: Path) -> Path:
    save_artifacts(tmp_path / "model", **model)
    return tmp_path / "model"


def _equal(got: Artifacts, model: dict[str, Any]) -> None:
    for name in ("ranker", "retrieval"):
        tower: Tower = getattr(got, name)
        assert tower.config == model[name].config
        assert set(tower.params) == set(model[name].params)
        for key, value in model[name].params.items():
            assert tower.params[key].dtype == np.float32
            assert np.array_equal(tower.params[key], value)
        for kind in ("user", "item", "author"):
            assert np.array_equal(getattr(tower.tables, kind), getattr(model[name].tables, kind))
    for key in ("post_ids", "author_ids", "representations", "topics", "topic_ids"):
        assert np.array_equal(getattr(got.corpus, key), getattr(model["corpus"], key))
    for key in ("user_id", "post_ids", "author_ids", "actions"):
        assert np.array_equal(getattr(got.example_sequence, key), getattr(model["example_sequence"], key))


def _is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, memoryview) or type(base).__name__ == "mmap"


def _zip(source: Path, target: Path, method: int, outer: str = "") -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for file in sorted(source.rglob("*")):
            if file.is_file():
                archive.write(file, f"{outer}{file.relative_to(source).as_posix()}")
    return target


def test_round_trip_maps_aligned_tables(saved: Path, model: dict[str, Any]) -> None:
    got = load_artifacts(saved)
    _equal(got, model)
    for array in (got.ranker.tables.item, got.retrieval.tables.user, got.corpus.representations):
        assert _is_mapped(array)
        assert array.ctypes.data % 64 == 0
        assert not array.flags.writeable
    # NumPy itself reads what we write.
    with np.load(saved / "ranker" / "embedding_tables.npz") as file:
        assert np.array_equal(file["item_embeddings"], model["ranker"].tables.item)


@pytest.mark.parametrize("outer", ["", "published/", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_zip_with_and_without_outer_folder(
    saved: Path, model: dict[str, Any], tmp_path: Path, outer: str, method: int
) -> None:
    path = _zip(saved, tmp_path / "model.zip", method, outer)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/ranker/config.json", "junk")
        archive.writestr(f"{outer}README.md", "hello")
    got = load_artifacts(path)
    _equal(got, model)
    assert _is_mapped(got.ranker.tables.author)  # out of the zip, or out of the unpacked temporary file
    path.unlink()
    assert got.ranker.tables.gather("item", np.array([3], np.int32)).shape == (1, 8)


def test_nested_directory_and_compressed_files(saved: Path, model: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    shutil.copytree(saved, tmp_path / "outer" / "inner" / "artifacts")
    _equal(load_artifacts(tmp_path / "outer"), model)
    save_artifacts(tmp_path / "packed", **model, compressed=True)
    got = load_artifacts(tmp_path / "packed")
    _equal(got, model)
    assert not _is_mapped(got.ranker.tables.item)


def test_a_request_touches_only_its_rows(tmp_path: Path) -> None:
    vocab, d = 200_000, 64
    config = tiny_config(emb_size=d, item_vocab_size=vocab)
    small = random_tower(tiny_config(emb_size=d))
    table = np.zeros((vocab, d), np.float32)
    table[:, 0] = np.arange(vocab)
    tables = EmbeddingTables(small.tables.user, table, small.tables.author)
    save_artifacts(tmp_path, ranker=Tower("ranker", config, small.params, tables))
    got = load_artifacts(tmp_path).ranker.tables

    def resident() -> int:
        address = got.item.ctypes.data
        lines = Path("/proc/self/smaps").read_text().splitlines()
        inside = False
        for line in lines:
            first = line.split(" ", 1)[0]
            if "-" in first and not first.endswith(":"):
                start, stop = (int(part, 16) for part in first.split("-"))
                inside = start <= address < stop
            elif inside and line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the table is not mapped")

    rows = np.array([[5, 0], [vocab - 1, 77_777]], np.int32)
    assert got.gather("item", rows)[..., 0].tolist() == [[5, 0], [vocab - 1, 77_777]]
    assert resident() < table.nbytes / 10  # the kernel maps some cached neighbours of a page, too


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ">f4"])
def test_other_float_types(saved: Path, model: dict[str, Any], dtype: Any) -> None:
    tower, corpus = model["ranker"], model["corpus"]
    tables = {f"{k}_embeddings": getattr(tower.tables, k).astype(dtype) for k in ("user", "item", "author")}
    arrays = {
        "post_ids": corpus.post_ids.view(np.int64),
        "author_ids": corpus.author_ids,
        "candidate_representations": corpus.representations.astype(dtype),
    }
    np.savez(saved / "ranker" / "embedding_tables.npz", **tables)
    np.savez(saved / "sports_corpus.npz", **arrays)
    np.savez(saved / "ranker" / "model_params.npz", **{k: v.astype(dtype) for k, v in tower.params.items()})
    got = load_artifacts(saved)
    rows = np.arange(1, 41, dtype=np.int32)
    wanted = tables["item_embeddings"].astype(np.float32)[1:]
    assert np.array_equal(got.ranker.tables.gather("item", rows), wanted)
    assert got.ranker.params["phoenix_model/proj_mat_1"].dtype == np.float32
    vectors = got.corpus.representations.astype(np.float32)
    assert np.array_equal(vectors, arrays["candidate_representations"].astype(np.float32))
    assert np.array_equal(got.corpus.post_ids, corpus.post_ids)
    assert got.corpus.topics is None
    save_artifacts(saved / "again", corpus=got.corpus, ranker=got.ranker)
    again = load_artifacts(saved / "again")
    assert np.array_equal(again.corpus.representations.astype(np.float32), vectors)


def test_bfloat16_as_unsigned_bits_and_fortran_order(saved: Path, model: dict[str, Any]) -> None:
    corpus = model["corpus"]
    bits = corpus.representations.astype(ml_dtypes.bfloat16).view(np.uint16)
    ids = {"post_ids": corpus.post_ids, "author_ids": corpus.author_ids}
    np.savez(saved / "sports_corpus.npz", candidate_representations=np.asfortranarray(bits), **ids)
    got = load_artifacts(saved).corpus.representations
    assert np.array_equal(got.astype(np.float32), bits.view(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    "topics",
    [
        np.array(["NBA", "Ünïcode", None] * 16 + ["a", "b"], object),
        np.array([np.str_("NBA"), "x"] * 25, object),
        np.array([("NBA", 1.5)] * 50, object)[:, 0],
    ],
)
def test_object_topics_go_through_the_restricted_unpickler(saved: Path, model: dict[str, Any], topics: Any) -> None:
    corpus = model["corpus"]
    np.savez(
        saved / "sports_corpus.npz", post_ids=corpus.post_ids, author_ids=corpus.author_ids,
        candidate_representations=corpus.representations, topics=topics,
    )  # fmt: skip
    assert load_artifacts(saved).corpus.topics is not None
    assert list(load_artifacts(saved).corpus.topics) == list(topics)  # type: ignore[arg-type]


class _Evil:
    def __init__(self, call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "call",
    [
        (exec, ("raise SystemExit(9)",)),
        (Path, ("/tmp",)),
        (np.load, ("x.npy",)),
        (np.frombuffer, (b"12345678",)),
        (bytes.fromhex, ("00",)),
    ],
)
def test_pickles_that_call_are_refused(saved: Path, call: Any) -> None:
    evil = np.array([_Evil(call)] * 50, object)
    ids = np.arange(1, 51)
    np.savez(
        saved / "sports_corpus.npz", post_ids=ids, author_ids=ids, candidate_representations=np.zeros((50, 8)),
        topics=evil,
    )  # fmt: skip
    with pytest.raises(ArtifactError, match=r"sports_corpus\.npz: 'topics' is a pickle that cannot be read safely"):
        load_artifacts(saved)


def _npy(shape: tuple[int, ...], payload: bytes) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": shape})
    return out.getvalue() + payload


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"garbage", pickle.dumps("text"), pickle.dumps(np.arange(3)), pickle.dumps(np.dtype("O")),
        pickle.dumps(np.array(["a"] * 50, object))[:-20],
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I5\ntS'b'\ntR.",
        b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'x'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
    ],
)  # fmt: skip
def test_broken_pickles_are_refused(saved: Path, payload: bytes) -> None:
    ids = np.arange(1, 51)
    write_npz(
        saved / "sports_corpus.npz",
        {"post_ids": ids, "author_ids": ids, "candidate_representations": np.zeros((50, 8))},
    )
    with zipfile.ZipFile(saved / "sports_corpus.npz", "a") as archive:
        archive.writestr("topics.npy", _npy((50,), payload))
    with pytest.raises(ArtifactError, match=r"sports_corpus\.npz: 'topics'"):
        load_artifacts(saved)


def test_wrappers_around_parameters_are_taken_off(saved: Path, model: dict[str, Any]) -> None:
    file = saved / "ranker" / "model_params.npz"
    params = model["ranker"].params
    np.savez(file, **{f"state/params/{k}": v for k, v in params.items()}, step=np.int64(3))
    _equal(load_artifacts(saved), model)
    nested: dict[str, Any] = {}
    for key, value in params.items():
        module, name = key.rsplit("/", 1)
        nested.setdefault(module, {})[name] = value
    np.savez(file, params=np.array(nested, object))
    _equal(load_artifacts(saved), model)


def test_the_published_command_line_finds_a_temperature(tmp_path: Path) -> None:
    tower = random_tower(tiny_config(), "retrieval")
    del tower.params[LOG_TEMPERATURE]  # type: ignore[attr-defined]
    save_artifacts(tmp_path, retrieval=tower)
    with np.load(tmp_path / "retrieval" / "model_params.npz") as file:
        assert file[LOG_TEMPERATURE].shape == ()


def test_missing_parts_raise_when_they_are_read(saved: Path, tmp_path: Path) -> None:
    (saved / "sports_corpus.npz").unlink()
    (saved / "example_sequence.json").unlink()
    shutil.rmtree(saved / "ranker")
    got = load_artifacts(saved)
    assert "retrieval" in got
    assert "corpus" not in got
    with pytest.raises(ArtifactError, match=r"sports_corpus\.npz: missing in"):
        _ = got.corpus
    with pytest.raises(ArtifactError, match=r"ranker/config\.json: missing in"):
        _ = got.ranker
    with pytest.raises(ArtifactError, match=r"holds neither ranker/config\.json nor"):
        load_artifacts(tmp_path / "model" / "retrieval")
    with pytest.raises(ArtifactError, match="no such file or directory"):
        load_artifacts(tmp_path / "nowhere")
    shutil.copytree(saved, tmp_path / "two" / "a")
    shutil.copytree(saved, tmp_path / "two" / "b")
    with pytest.raises(ArtifactError, match=r"holds several models \(a, b\)"):
        load_artifacts(tmp_path / "two")


def _rewrite(file: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    with np.load(file) as loaded:
        arrays = dict(loaded)
    change(arrays)
    np.savez(file, **arrays)


def _edit(path: Path, text: str) -> None:
    path.write_text(text)


def _params(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    _rewrite(path / "ranker/model_params.npz", change)


def _tables(path: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    _rewrite(path / "retrieval/embedding_tables.npz", change)


def _corpus(path: Path, **arrays: Any) -> None:
    _rewrite(path / "sports_corpus.npz", lambda a: a.update(arrays))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def _no_array(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("post_ids.npy", "xyz")


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "parameter shape": (
        lambda p: _params(p, lambda a: a.update({"phoenix_model/proj_mat_2": np.ones((5, 8))})),
        r"ranker/model_params\.npz: 'phoenix_model/proj_mat_2' has shape \(5, 8\), config asks for \(48, 8\)",
    ),
    "parameter missing": (
        lambda p: _params(p, lambda a: a.pop("phoenix_model/unembeddings")),
        r"ranker/model_params\.npz: 'phoenix_model/unembeddings' is missing",
    ),
    "parameter not finite": (
        lambda p: _params(p, lambda a: a.update({"phoenix_model/unembeddings": np.full((8, 7), np.nan)})),
        r"ranker/model_params\.npz: 'phoenix_model/unembeddings' holds values that are not finite",
    ),
    "parameter type": (
        lambda p: _params(p, lambda a: a.update({"phoenix_model/unembeddings": np.ones((8, 7), int)})),
        r"'phoenix_model/unembeddings' has dtype int64, must be float32",
    ),
    "table shape": (
        lambda p: _tables(p, lambda a: a.update(item_embeddings=np.ones((3, 8)))),
        r"retrieval/embedding_tables\.npz: 'item_embeddings' has shape \(3, 8\), config asks for \(41, 8\)",
    ),
    "table missing": (
        lambda p: _tables(p, lambda a: a.pop("author_embeddings")),
        r"retrieval/embedding_tables\.npz: 'author_embeddings' is missing",
    ),
    "file missing": (lambda p: (p / "ranker/model_params.npz").unlink(), r"ranker/model_params\.npz: missing in"),
    "no zip": (
        lambda p: (p / "ranker/embedding_tables.npz").write_text("hello"),
        r"ranker/embedding_tables\.npz: is no zip archive",
    ),
    "empty": (lambda p: (p / "ranker/embedding_tables.npz").write_text(""), r"embedding_tables\.npz: is empty"),
    "git lfs": (lambda p: (p / "sports_corpus.npz").write_text(LFS), r"sports_corpus\.npz: is a Git LFS pointer"),
    "single array": (lambda p: _single(p / "sports_corpus.npz"), r"sports_corpus\.npz: is a single \.npy"),
    "cut": (lambda p: _cut(p / "sports_corpus.npz"), r"sports_corpus\.npz: is no zip archive"),
    "member is no array": (
        lambda p: _no_array(p / "sports_corpus.npz"),
        r"sports_corpus\.npz: 'post_ids' is no NumPy array",
    ),
    "corpus key": (
        lambda p: _rewrite(p / "sports_corpus.npz", lambda a: a.pop("candidate_representations")),
        r"sports_corpus\.npz: 'candidate_representations' is missing",
    ),
    "corpus width": (
        lambda p: _corpus(p, candidate_representations=np.ones((50, 9))),
        r"sports_corpus\.npz: 'candidate_representations' has shape \(50, 9\), config asks for \(50, 8\)",
    ),
    "corpus rows": (
        lambda p: _corpus(p, author_ids=np.arange(49)),
        r"sports_corpus\.npz: 'author_ids' has shape \(49,\), post_ids has 50 rows",
    ),
    "corpus ids": (lambda p: _corpus(p, post_ids=np.ones(50)), r"sports_corpus\.npz: 'post_ids' has dtype float64"),
    "corpus id shape": (lambda p: _corpus(p, post_ids=np.ones((50, 1), int)), r"'post_ids' has shape \(50, 1\)"),
    "corpus vectors": (
        lambda p: _corpus(p, candidate_representations=np.ones(50)),
        r"'candidate_representations' has shape \(50,\), must be \(50, emb_size\)",
    ),
    "topic ids": (lambda p: _corpus(p, topic_ids=np.ones(50)), r"'topic_ids' has dtype float64, must be an integer"),
    "config json": (lambda p: (p / "ranker/config.json").write_text("{"), r"ranker/config\.json: not valid JSON"),
    "config bytes": (lambda p: (p / "ranker/config.json").write_bytes(b"\xff\xfe\x00"), r"ranker/config\.json: "),
    "config nesting": (
        lambda p: (p / "ranker/config.json").write_text("[" * 100_000),
        r"ranker/config\.json: not valid JSON: nested too deeply",
    ),
    "config value": (
        lambda p: _replace(p / "ranker/config.json", '"emb_size": 8', '"emb_size": "8"'),
        r"ranker/config\.json: emb_size is '8', must be an integer",
    ),
    "sequence json": (lambda p: (p / "example_sequence.json").write_text("[1"), r"example_sequence\.json: not valid"),
}


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("dtype", ["f4", "f2", "f8"])
def test_files_of_either_byte_order(saved: Path, model: dict[str, Any], order: str, dtype: str) -> None:
    width = order + dtype
    vectors = model["corpus"].representations
    _corpus(saved, candidate_representations=vectors.astype(width), post_ids=model["corpus"].post_ids.astype(">u8"))
    _tables(saved, lambda a: a.update({key: value.astype(width) for key, value in a.items()}))
    got = load_artifacts(saved)
    np.testing.assert_array_equal(got.corpus.post_ids, model["corpus"].post_ids)
    np.testing.assert_array_equal(got.corpus.representations, vectors.astype(dtype))
    rows = np.array([3, 1], np.int32)
    expected = model["retrieval"].tables.item[rows].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(got.retrieval.tables.gather("item", rows), expected)
    user = np.asarray(vectors[7], np.float32)
    hits = Retriever(got.retrieval, got.corpus).search(user / np.linalg.norm(user), 5)
    scores = vectors.astype(dtype).astype(np.float64) @ user
    np.testing.assert_array_equal(hits.rows, np.argsort(-scores, kind="stable")[:5])


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_with_file_and_key(saved: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(saved)
    with pytest.raises(ArtifactError, match=message):
        load_artifacts(saved)


def test_a_zip_that_is_cut_or_corrupt(saved: Path, tmp_path: Path) -> None:
    path = _zip(saved, tmp_path / "model.zip", zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=r"model\.zip: is no zip archive"):
        load_artifacts(path)
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        at = archive.getinfo("ranker/embedding_tables.npz").header_offset
    for i in range(200):
        data[at + 500 + i] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="ranker/embedding_tables"):
        load_artifacts(path)


def _with(**item: Any) -> dict[str, Any]:
    return {"user_id": 1, "history": [{"post_id": 1, "author_id": 1, **item}]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], r"the document is \[\], must be an object"),
        ({"history": []}, "'user_id' is missing"),
        ({"user_id": 1}, "'history' is missing"),
        ({"user_id": 1.5, "history": []}, r"user_id is 1\.5, must be a 64-bit integer"),
        ({"user_id": "7", "history": []}, 'user_id is "7", must be a 64-bit integer'),
        ({"user_id": True, "history": []}, "user_id is true"),
        ({"user_id": 2**64, "history": []}, "user_id is 18446744073709551616, must be a 64-bit integer"),
        ({"user_id": 1, "history": {}}, "history is {}, must be a list"),
        ({"user_id": 1, "history": [3]}, r"history\[0\] is 3, must be an object"),
        ({"user_id": 1, "history": [{"post_id": 1}]}, r"history\[0\]\.author_id is missing"),
        (_with(post_id=-(2**63) - 1), r"history\[0\]\.post_id is -9223"),
        (_with(author_id=1e18), r"history\[0\]\.author_id is 1e\+18, must be a 64-bit integer"),
        (_with(actions=[1]), r"actions is \[1\], must be an object"),
        (_with(actions={"x": 1}), r'actions is "x", must be keyed by action numbers'),
        (_with(actions={"-1": 1}), 'actions is "-1", must be keyed'),
        (_with(actions={"1": "y"}), r'actions\.1 is "y", must be a finite number'),
        (_with(actions={"1": 1e999}), r"actions\.1 is Infinity, must be a finite number"),
    ],
)
def test_bad_sequences_are_named(tmp_path: Path, document: Any, message: str) -> None:
    file = tmp_path / "seq.json"
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"seq\.json: .*" + message):
        load_sequence(file, 7)


def test_sequences(tmp_path: Path) -> None:
    file = tmp_path / "seq.json"
    file.write_text(
        json.dumps(
            {
                "user_id": -1,
                "history": [
                    {"post_id": 2**63 + 1, "author_id": 0, "actions": {"1": 1, "6": 0.5, "7": 1, "99999999999999": 1}},
                    {"post_id": 5, "author_id": 6},
                    {"post_id": 0, "author_id": 6, "actions": None},
                ],
            }
        )
    )
    got = load_sequence(file, 7)
    assert got.user_id == 2**64 - 1
    assert got.post_ids.tolist() == [2**63 + 1, 5, 0]
    assert got.actions[0].tolist() == [0, 1, 0, 0, 0, 0, 0.5]
    assert not got.actions[1:].any()


def test_corpus_checks() -> None:
    ids = np.arange(3, dtype=np.uint64)
    with pytest.raises(ParameterError, match="topics has 2 rows, post_ids has 3"):
        Corpus(ids, ids, np.zeros((3, 8), np.float32), topics=np.array(["a", "b"]))
    with pytest.raises(ParameterError, match=r"representations has shape \(3,\)"):
        Corpus(ids, ids, np.zeros(3, np.float32))
    with pytest.raises(ArtifactError, match=r"none\.npz: cannot be opened \(No such file"):
        load_corpus("none.npz")


def test_fixture_files_load_without_jax(fixture_a: Path) -> None:
    code = f"""
import sys
from xfast.phoenix import load_artifacts
from xfast.phoenix.features import ContextFeatures
artifacts = load_artifacts({str(fixture_a / "artifacts")!r})
ContextFeatures.build(artifacts.ranker, artifacts.example_sequence)
sys.exit("jax" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_read_ahead_asks_for_the_pages_of_the_rows(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    class Watched(mmap.mmap):
        def madvise(self, option: int, start: int = 0, length: int = 0) -> None:
            assert option == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
            asked.append((start, start + length))
            super().madvise(option, start, length)

    width, rows, lead = 300, 200, 1000  # rows that cross pages, behind a header
    (tmp_path / "table").write_bytes(bytes(lead) + np.arange(rows * width, dtype=np.float32).tobytes())
    with (tmp_path / "table").open("rb") as file:
        view = Watched(file.fileno(), 0, access=mmap.ACCESS_READ)
    table = np.frombuffer(view, np.float32, rows * width, lead).reshape(rows, width)
    read_ahead(table, np.array([[0, 199], [17, 17]], np.int32))
    assert len(asked) == 3
    for row, (start, end) in zip((0, 17, 199), asked, strict=True):
        begin = lead + row * width * 4
        assert begin - mmap.PAGESIZE < start <= begin and end == begin + width * 4
    read_ahead(np.array(table), np.array([1], np.int32))
    assert len(asked) == 3  # memory needs no disk

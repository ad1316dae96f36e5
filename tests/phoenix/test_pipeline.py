from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance import phoenix as conformance
from tests.conformance.report import Report
from tests.phoenix import oracle
from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.actions import PROTO, RESEARCH18
from xfast.cli.main import main
from xfast.errors import ParameterError
from xfast.phoenix import (
    Artifacts,
    Candidates,
    Corpus,
    Ranker,
    Retriever,
    Scores,
    hashing,
    load_corpus,
    save_artifacts,
)
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.npz import write_npz
from xfast.phoenix.pipeline import PipelineResult, format_table, run_pipeline, topic_labels, weighted_scores


def test_fixture_a_replays(fixture_a: Path) -> None:
    out = io.StringIO()
    report = Report(out)
    conformance.run(fixture_a, report, engines=("native",))
    assert report.finish() == 0, out.getvalue()
    assert report.total > 90


def test_a_case_of_fixture_a_replays_on_xla(fixture_a: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture_a, tmp_path / "one")
    (tmp_path / "one" / "pipeline.npz").unlink()
    meta = json.loads((tmp_path / "one" / "meta.json").read_text())
    meta["cases"] = [case for case in meta["cases"] if case["case"] == "gqa_kv1"]
    (tmp_path / "one" / "meta.json").write_text(json.dumps(meta))
    out = io.StringIO()
    report = Report(out)
    conformance.run(tmp_path / "one", report, engines=("xla",))
    assert report.finish() == 0, out.getvalue()
    assert "f32 logits xla uncached 1/1" in out.getvalue()


def test_the_runner_notices_what_is_wrong(fixture_a: Path, tmp_path: Path) -> None:
    shutil.copytree(fixture_a, tmp_path / "bad")
    for name in ("right_anchored", "gqa_kv1"):
        (tmp_path / "bad" / f"case_{name}.npz").unlink()
    (tmp_path / "bad" / "pipeline.npz").unlink()
    meta = json.loads((tmp_path / "bad" / "meta.json").read_text())
    meta["cases"] = [meta["cases"][0] | {"mod": {"right_anchored_rope": True, "num_ip_hashes": 0}}]
    (tmp_path / "bad" / "meta.json").write_text(json.dumps(meta))
    with np.load(fixture_a / "case_rich.npz") as file:
        arrays = dict(file)
    arrays["novelty"] = np.ones(1)
    arrays["retrieval_f32_user_repr"][0, 3] += 3e-5
    arrays["ranker_history_post_hashes"][0, 0, 0] += 1
    np.savez(tmp_path / "bad" / "case_rich.npz", **arrays)
    out = io.StringIO()
    report = Report(out)
    conformance.run(tmp_path / "bad", report, engines=("native",))
    assert report.finish() == 1
    failed = [line for line in out.getvalue().splitlines() if " 0/1 " in line]
    for expected in (
        "nothing unknown",
        "f32 user vector",
        "history_post hashes",
        "f32 logits native",
        "bf16 probs native",
    ):
        assert any(expected in line for line in failed), (expected, failed)
    assert not any("candidate vectors" in line or "token inputs" in line for line in failed)


def test_a_fixture_with_other_hash_counts_ip_and_log_dwell_replays(tmp_path: Path) -> None:
    """A directory of the same form, with what the shipped one lacks; the oracle stands in for the reference."""
    changes = {"num_user_hashes": 1, "num_item_hashes": 3, "num_author_hashes": 1}
    mod = {"num_ip_hashes": 2, "use_ip_address": True, "use_log": True, "norm_scale": 60.0, "num_kv_heads": 1}
    base, rng = tiny_config(**changes), np.random.default_rng(3)
    plain = {name: random_tower(base, name) for name in ("ranker", "retrieval")}  # type: ignore[arg-type]
    corpus = Corpus(np.arange(1, 4, dtype=np.uint64), np.arange(3, dtype=np.uint64), np.eye(3, 8, dtype=np.float32))
    viewer = random_engagements(
        base, rng, [True, True, False, True, False, False], ip_embeddings=rng.normal(size=(2, 8))
    )
    save_artifacts(tmp_path / "artifacts", **plain, corpus=corpus, example_sequence=viewer)  # type: ignore[arg-type]
    some = random_candidates(base, rng, 5, post_ids=[1, 2, 3, 2**63 + 5, 0])
    ranker, retrieval = (random_tower(base.replace(**mod), name) for name in ("ranker", "retrieval"))  # type: ignore[arg-type]
    for tower in (ranker, retrieval):
        write_npz(tmp_path / f"x_{tower.name}_model_params.npz", tower.params)
    ranker, retrieval = (  # the tables are the artifact's
        dataclasses.replace(tower, tables=plain[tower.name].tables) for tower in (ranker, retrieval)
    )
    features = ContextFeatures.build(ranker, viewer, compact=False)
    logits, continuous = oracle.rank(ranker, features, CandidateFeatures.build(ranker, some))
    vector, norm = oracle.user_vector(retrieval, ContextFeatures.build(retrieval, viewer, compact=False))
    probabilities = 1 / (1 + np.exp(-logits))
    np.savez(
        tmp_path / "case_x.npz",
        user_ids=[np.uint64(viewer.user_id)], history_post_ids=[viewer.post_ids],
        history_author_ids=[viewer.author_ids],
        history_actions=[viewer.actions], history_product_surface=[viewer.product_surface],
        history_continuous_actions=[viewer.continuous], user_ip_embeddings=[viewer.ip_embeddings],
        user_ip_hashes=[[3, 4]], candidate_post_ids=[some.post_ids], candidate_author_ids=[some.author_ids],
        candidate_product_surface=[some.product_surface], candidate_impr_ts=[some.impression_ts],
        candidate_post_creation_ts=[some.created_ts], ranker_f32_logits=[logits], ranker_f32_probs=[probabilities],
        ranker_f32_cont=[continuous], ranker_f32_ranked_indices=[np.argsort(-probabilities[:, 0], kind="stable")],
        retrieval_f32_user_repr=[vector], retrieval_f32_user_norm=[[norm]],
    )  # fmt: skip
    ids = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    kinds = {k: hashing.unified_rows(hashing.rows_of(ids, k, base), k, base) for k in ("user", "item", "author")}  # type: ignore[arg-type]
    np.savez(tmp_path / "hashes.npz", ids=ids, **kinds)
    entry = {"case": "x", "mod": mod, "params": "x_*_model_params.npz", "batch": [1, 6, 5]}
    (tmp_path / "meta.json").write_text(json.dumps({"fixture": "x", "config": base.to_json(), "cases": [entry]}))
    out = io.StringIO()
    report = Report(out)
    conformance.run(tmp_path, report, engines=("native",))
    assert report.finish() == 0, out.getvalue()
    for check in ("hashes item", "f32 logits native", "f32 user vector native", "f32 ranked_indices native"):
        assert f"{check} 1/1" in out.getvalue()


def _result(**changes: Any) -> PipelineResult:
    probabilities = np.zeros((3, 19), np.float32)
    probabilities[:, 1] = [0.5, 0.25, 0.5]
    fields: dict[str, Any] = {
        "user_id": 7, "history_items": 2, "corpus_size": 3, "vocabulary": PROTO, "rows": np.arange(3),
        "post_ids": np.array([11, 12, 13], np.uint64), "author_ids": np.array([1, 2, 3], np.uint64),
        "retrieval_scores": np.array([0.75, -0.5, 0.1], np.float32),
        "scores": Scores(probabilities, probabilities, np.zeros((3, 8), np.float32)),
        "weighted": weighted_scores(probabilities, PROTO), "topics": ["A" * 40, "", "Tennis"],
    }  # fmt: skip
    return PipelineResult(**{**fields, **changes})


def test_table() -> None:
    lines = format_table(_result(), 2).split("\n")
    assert lines[1] == lines[5] == lines[-2] == "=" * 120
    assert lines[3] == "History: 2 items | Corpus: 3 posts"
    assert lines[8] == (
        "1     0.5000   0.7500  0.5000  0.0000  0.0000  0.0000  0.0000  " + "A" * 28 + "   https://x.com/a/status/11"
    )
    assert lines[9].startswith("2     0.5000   0.1000 ")  # a tie goes by retrieval order
    assert lines[9].endswith("Tennis                         https://x.com/a/status/13")
    assert lines[11] == "Weighted score range: [0.2500, 0.5000]"
    assert lines[-1] == ""


def test_columns_that_the_model_lacks_show_a_dash_and_weigh_nothing() -> None:
    narrow = np.full((1, 5), 0.5, np.float32)
    assert weighted_scores(narrow, PROTO).tolist() == [0.75]  # favorite and reply
    assert weighted_scores(np.full((1, 18), 0.5, np.float32), RESEARCH18).tolist() == [1.0]
    scores = Scores(narrow, narrow, np.zeros((1, 8), np.float32))
    result = _result(scores=scores, weighted=np.array([0.75], np.float32), rows=np.arange(1))
    assert format_table(result).split("\n")[8].split()[3:8] == ["0.5000", "0.5000", "-", "-", "-"]


def test_topic_labels(tmp_path: Path) -> None:
    ids = np.arange(3, dtype=np.uint64)
    vectors = np.zeros((3, 8), np.float32)
    assert topic_labels(Corpus(ids, ids, vectors), np.array([2, 0])) == ["", ""]
    topics = np.array(["x", None, ["a"], "Fußball".encode()], object)
    ids, vectors = np.arange(4, dtype=np.uint64), np.zeros((4, 8), np.float32)
    corpus = Corpus(ids, ids, vectors, topics)
    assert topic_labels(corpus, np.array([2, 1, 0, 3])) == ["['a']", "", "x", "Fußball"]
    save_artifacts(tmp_path, corpus=corpus)
    assert topic_labels(load_corpus(tmp_path / "sports_corpus.npz"), np.arange(3)) == ["x", "", "['a']"]


def test_pipeline_takes_its_lengths_from_the_retrieval_model(artifacts: Artifacts) -> None:
    rng = np.random.default_rng(0)
    retrieval = random_tower(tiny_config(history_seq_len=4, candidate_seq_len=3), "retrieval")
    ranker = random_tower(tiny_config(num_actions=7))
    viewer = random_engagements(retrieval.config, rng, [True] * 6, product_surface=None, continuous=None)
    ids = rng.integers(1, 2**62, 9)
    corpus = Corpus(ids.astype(np.uint64), ids.astype(np.uint64), rng.normal(size=(9, 8)).astype(np.float32))
    parts = {"ranker": ranker, "retrieval": retrieval, "corpus": corpus, "example_sequence": viewer}
    said: list[str] = []
    result = run_pipeline(Artifacts("here", parts), top_k=100, progress=said.append)
    assert len(result) == 9
    assert said == ["encoding the viewer", "searching 9 posts", "ranking 9 posts"]
    assert result.history_items == 6
    hits = Retriever(retrieval, corpus).search(Retriever(retrieval).encode(viewer), 9)
    assert np.array_equal(hits.post_ids, result.post_ids)
    short = Ranker(ranker, config_overrides={"history_seq_len": 4})
    slots = [0, 1, 2] * 3
    scores = short.score(short.encode(viewer), Candidates(hits.post_ids, hits.author_ids, slots=slots))
    np.testing.assert_allclose(scores.logits, result.scores.logits, atol=1e-6)
    assert np.array_equal(result.weighted[result.ranked], np.sort(result.weighted)[::-1])
    with pytest.raises(ParameterError, match="top_k is 0, must be at least 1"):
        run_pipeline(artifacts, top_k=0)


# --- the command line -------------------------------------------------------------------------------------------------


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    try:
        code = main(["rank", *map(str, arguments)])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_rank_prints_the_float32_table(fixture_a: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capsys, "--artifacts", fixture_a / "artifacts", "--top_k_display", 40)
    assert code == 0
    with np.load(fixture_a / "pipeline.npz") as file:
        ids, ranked, weighted = (file[f"f32_{key}"] for key in ("top_ids", "ranked", "weighted"))
    lines = out.split("\n")
    shown = [line for line in lines if line[:1].isdigit()]
    assert [int(line.rsplit("/", 1)[1]) for line in shown] == ids[ranked[:40]].tolist()
    np.testing.assert_allclose([float(line.split()[1]) for line in shown], weighted[ranked[:40]], atol=1e-4)
    published = (fixture_a / "pipeline_stdout.txt").read_text().split("\n")
    assert lines[:8] == published[:8]  # everything up to the first row
    assert "loading" in err
    assert "ranking 200 posts" in err


def test_rank_spellings_json_and_all_actions(fixture_a: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fixture_a / "artifacts"
    code, out, _ = _run(
        capsys, "--artifacts_dir", root, "--sequence_file", root / "example_sequence.json", "--corpus_file",
        root / "sports_corpus.npz", "--top_k_retrieval", 12, "--top-k-display", 3, "--json",
    )  # fmt: skip
    assert code == 0
    document = json.loads(out)
    assert document["retrieved"] == 12
    assert [item["rank"] for item in document["results"]] == [1, 2, 3]
    first = document["results"][0]
    assert len(first["probabilities"]) == 19
    assert set(first["continuous"]) >= {"dwell_time", "click_dwell_time"}
    weights = {"favorite": 1.0, "reply": 0.5, "retweet": 0.3, "dwell": 0.2}
    assert first["score"] == pytest.approx(sum(w * first["probabilities"][a] for a, w in weights.items()), abs=1e-6)
    code, out, _ = _run(
        capsys, "--artifacts", root, "--top-k-retrieval", 12, "--top-k-display", 3, "--all-actions", "--precision",
        "bfloat16",
    )  # fmt: skip
    assert code == 0
    below = out.split("All predictions")[1]
    assert below.count("favorite 0.") == 3
    assert below.count(" | ") + below.count(" |\n") == 3
    assert max(map(len, out.split("\n"))) < 150


def test_bad_input_is_one_line_and_exit_code_2(
    fixture_a: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fixture_a / "artifacts"
    bad_sequence = tmp_path / "s.json"
    bad_sequence.write_text('{"user_id": 1, "history": [{"post_id": 1e30, "author_id": 2}]}')
    bad_corpus = tmp_path / "c.npz"
    np.savez(bad_corpus, post_ids=[1], author_ids=[2], candidate_representations=np.ones((1, 5)))
    empty = tmp_path / "empty"
    empty.mkdir()
    ranker_only = tmp_path / "one"
    rng = np.random.default_rng(0)
    viewer = random_engagements(tiny_config(), rng)
    save_artifacts(ranker_only, ranker=random_tower(tiny_config()), example_sequence=viewer)
    broken = tmp_path / "broken"
    shutil.copytree(root, broken)
    (broken / "ranker" / "model_params.npz").write_bytes(b"PK\x03\x04 nothing")
    with np.load(root / "sports_corpus.npz", allow_pickle=True) as file:
        corpus = dict(file)
    corpus["candidate_representations"][7, 2] = np.nan
    np.savez(tmp_path / "nan.npz", **corpus)
    unfinished = tmp_path / "unfinished"
    shutil.copytree(root, unfinished)
    with np.load(root / "ranker" / "embedding_tables.npz") as file:
        tables = {key: np.full_like(value, np.inf) for key, value in file.items()}
    np.savez(unfinished / "ranker" / "embedding_tables.npz", **tables)
    no_items = tmp_path / "no_items"
    shutil.copytree(root, no_items)
    with np.load(root / "retrieval" / "embedding_tables.npz") as file:
        tables = dict(file) | {"item_embeddings": np.full_like(file["item_embeddings"], np.nan)}
    np.savez(no_items / "retrieval" / "embedding_tables.npz", **tables)
    a_file = tmp_path / "file.zip"
    a_file.write_text("hello")
    for arguments, message in (
        (("--artifacts", tmp_path / "nowhere"), "nowhere: no such file or directory"),
        (("--artifacts", empty), "holds neither ranker/config.json nor retrieval/config.json"),
        (("--artifacts", a_file), "file.zip: is no zip archive"),
        (("--artifacts", broken), "ranker/model_params.npz: is no zip archive"),
        (("--artifacts", ranker_only), "sports_corpus.npz: missing in"),
        (
            ("--artifacts", root, "--sequence-file", bad_sequence),
            "s.json: history[0].post_id is 1e+30, must be a 64-bit",
        ),
        (("--artifacts", root, "--sequence-file", tmp_path / "no.json"), "no.json: cannot be opened"),
        (("--artifacts", root, "--sequence-file", tmp_path), "cannot be opened (Is a directory)"),
        (("--artifacts", root, "--corpus-file", bad_corpus), "c.npz: 'candidate_representations' has shape (1, 5)"),
        (("--artifacts", root, "--corpus-file", bad_sequence), "s.json: is no zip archive"),
        (
            ("--artifacts", root, "--corpus-file", tmp_path / "nan.npz"),
            "nan.npz: 'candidate_representations': row 7 is not finite",
        ),
        (
            ("--artifacts", unfinished),
            "ranker/embedding_tables.npz: 'user_embeddings', 'item_embeddings', 'author_embeddings' hold values that",
        ),
        (
            ("--artifacts", no_items),
            "retrieval/embedding_tables.npz: 'item_embeddings' hold values that are not finite",
        ),
    ):
        code, out, err = _run(capsys, *arguments)
        complaints = [line for line in err.splitlines() if not line.startswith("[")]
        assert (code, out) == (2, ""), arguments
        assert len(complaints) == 1, err
        assert complaints[0].startswith("xfast rank: ")
        assert message in complaints[0]
    for arguments, message in (
        (("--top-k-retrieval", "0"), "'0' is not a positive integer"),
        (("--top-k-display", "many"), "'many' is not a positive integer"),
        (("--precision", "int4"), "invalid choice"),
        (("--nonsense",), "unrecognized arguments"),
    ):
        code, _, err = _run(capsys, "--artifacts", root, *arguments)
        assert code == 2
        assert message in err

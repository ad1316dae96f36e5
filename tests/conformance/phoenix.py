"""Replay a Phoenix fixture directory: ``python -m tests.conformance phoenix DIR``.

A directory of the form that the fixtures' README describes, with any sizes, hash counts, flags and parameters. Each
line is one check with its largest error and its bound.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tests.conformance.report import Report
from xfast.errors import XfastError
from xfast.phoenix import (
    Artifacts,
    Candidates,
    Engagements,
    PhoenixConfig,
    Ranker,
    Retriever,
    Scores,
    Tower,
    load_artifacts,
    load_params,
)
from xfast.phoenix.engines.xla import candidate_inputs, context_inputs
from xfast.phoenix.features import CandidateFeatures, ContextFeatures
from xfast.phoenix.hashing import rows_of, unified_rows
from xfast.phoenix.model import ranker_tokens
from xfast.phoenix.pipeline import PipelineResult, format_table, run_pipeline, topic_labels, weighted_scores

LOGITS, PROBABILITIES, VECTORS, INPUTS, TIE = 2e-4, 3e-5, 1e-5, 1e-5, 1e-6
PIPELINE_F32 = 1e-4
Engine = Literal["native", "xla"]
ENGINES: tuple[Engine, ...] = ("native", "xla")
PRECISIONS: dict[str, Literal["float32", "bfloat16"]] = {"f32": "float32", "bf16": "bfloat16"}
INPUT_KEYS = {
    "user_ids", "history_post_ids", "history_author_ids", "history_actions", "history_product_surface",
    "candidate_post_ids", "candidate_author_ids", "candidate_product_surface", "history_continuous_actions",
    "candidate_impr_ts", "candidate_post_creation_ts", "user_ip_hashes", "user_ip_embeddings",
}  # fmt: skip
PIPELINE_KEYS = {
    "user_repr", "top_idx", "top_ids", "top_scores", "lax_top_idx", "lax_top_scores", "probs", "cont", "weighted",
    "ranked",
}  # fmt: skip


class _Checks:
    """Checks of one fixture; a check that raises is a failure, too."""

    def __init__(self, report: Report, prefix: str) -> None:
        self.report, self.prefix = report, prefix

    def error(self, name: str, compute: Callable[[], tuple[Any, Any, Any]], bound: float) -> None:
        """``compute`` gives (got, expected, where): the largest absolute difference must not exceed ``bound``."""
        label = f"{self.prefix} {name}"
        try:
            got, expected, where = compute()
            got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
            if got.shape != expected.shape:
                raise ValueError(f"shape {got.shape} instead of {expected.shape}")
            difference = np.abs(got - expected)
            if where is not None:
                difference = difference[where]
            largest = float(difference.max(initial=0.0))
            passed = bool(largest <= bound)  # a NaN is no pass
        except Exception as problem:  # whatever it is, it is a failure of this check
            self.report.suite(label, 0, 1)
            self.report.failure(label, expected=f"an error of at most {bound:.3g}", got=repr(problem))
            return
        self.report.suite(label, int(passed), 1, f"max error {largest:.3g}, bound {bound:.3g}")
        if not passed:
            worst = np.unravel_index(int(np.nanargmax(np.abs(got - expected))), got.shape) if got.size else ()
            self.report.failure(f"{label} {list(map(int, worst))}", expected=expected[worst], got=got[worst])

    def exact(self, name: str, compute: Callable[[], tuple[Any, Any]]) -> None:
        """``compute`` gives (got, expected), which must be equal."""
        label = f"{self.prefix} {name}"
        try:
            got, expected = compute()
            same = np.array_equal(got, expected)
        except Exception as problem:
            got, expected, same = repr(problem), "no exception", False
        self.report.suite(label, int(same), 1, "exact")
        if not same:
            self.report.failure(label, expected=expected, got=got)


def run(directory: Path, report: Report, *, engines: Sequence[Engine] = ENGINES) -> None:
    """Replay one directory on these engines."""
    checks = _Checks(report, directory.name)
    try:
        meta = json.loads((directory / "meta.json").read_text())
        checks.prefix = str(meta.get("fixture", directory.name))
        artifacts = load_artifacts(directory / "artifacts")
    except (XfastError, OSError, ValueError) as problem:
        checks.exact("model files", lambda problem=problem: (repr(problem), "readable"))
        return

    def part(name: str, replay: Callable[[_Checks], None]) -> None:
        """A part that breaks off is one more failure, and the others go on."""
        checking = _Checks(report, f"{checks.prefix}{name}")
        try:
            replay(checking)
        except Exception as problem:
            checking.exact("runs to its end", lambda problem=problem: (repr(problem), "no exception"))

    part("", lambda c: _hashes(directory, artifacts, PhoenixConfig.from_json(meta["config"]), c))
    for entry in meta["cases"]:
        part(f"/{entry['case']}", lambda c, entry=entry: _case(directory, artifacts, entry, engines, c))
    if (directory / "case_meanpool.npz").exists():
        part("", lambda c: _meanpool(directory, artifacts, meta["cases"][0]["case"], c))
    if (directory / "pipeline.npz").exists():
        part("/pipeline", lambda c: _pipeline(directory, artifacts, meta, engines, c))


def _hashes(directory: Path, artifacts: Artifacts, config: PhoenixConfig, checks: _Checks) -> None:
    with np.load(directory / "hashes.npz") as file:
        arrays = dict(file)
    for kind in ("user", "item", "author"):
        checks.exact(
            f"hashes {kind}",
            lambda kind=kind: (unified_rows(rows_of(arrays["ids"], kind, config), kind, config), arrays[kind]),
        )
    checks.exact("config of the ranker", lambda: (artifacts.ranker.config == config, True))


def _engagements(case: dict[str, np.ndarray], b: int) -> Engagements:
    def row(key: str) -> Any:
        return case[key][b] if key in case else None

    return Engagements(
        user_id=case["user_ids"][b],
        post_ids=case["history_post_ids"][b],
        author_ids=case["history_author_ids"][b],
        actions=case["history_actions"][b],
        product_surface=row("history_product_surface"),
        continuous=row("history_continuous_actions"),
        ip_embeddings=row("user_ip_embeddings"),
        ip_hashes=row("user_ip_hashes"),
    )


def _candidates(case: dict[str, np.ndarray], b: int) -> Candidates:
    def row(key: str) -> Any:
        return case[key][b] if key in case else None

    return Candidates(
        case["candidate_post_ids"][b],
        case["candidate_author_ids"][b],
        product_surface=row("candidate_product_surface"),
        impression_ts=row("candidate_impr_ts"),
        created_ts=row("candidate_post_creation_ts"),
    )


def _tower(directory: Path, tower: Tower, entry: dict[str, Any], lengths: dict[str, int]) -> Tower:
    """The artifact's tower under the case's ``mod`` and replaced parameters."""
    config = tower.config.replace(**{**lengths, **entry["mod"]})
    if "params" not in entry:
        return dataclasses.replace(tower, config=config)
    path = directory / entry["params"].replace("*", tower.name)
    return dataclasses.replace(tower, config=config, params=load_params(path, config, tower.name))


def _unknown(case: dict[str, np.ndarray]) -> list[str]:
    """Arrays of a case that no check reads. (A ``mod`` that the configuration does not know fails by itself.)"""
    known = INPUT_KEYS | {"ranker_padding_mask", "ranker_f32_inputs", "ranker_f32_inputs_rows"}
    known |= {f"ranker_{kind}_hashes" for kind in (
        "user", "history_post", "history_author", "candidate_post", "candidate_author")}  # fmt: skip
    for p in PRECISIONS:
        known |= {f"ranker_{p}_{x}" for x in ("logits", "probs", "cont", "ranked_indices", "jit_logits")}
        known |= {f"retrieval_{p}_{x}" for x in ("user_repr", "user_norm", "cand_repr", "cand_mask")}
    return sorted(set(case) - known)


def _case(
    directory: Path, artifacts: Artifacts, entry: dict[str, Any], engines: Sequence[Engine], checks: _Checks
) -> None:
    with np.load(directory / f"case_{entry['case']}.npz") as file:
        case = dict(file)
    checks.exact("nothing unknown", lambda: (_unknown(case), []))
    batch, slots = case["history_post_ids"].shape
    lengths = {"history_seq_len": slots, "candidate_seq_len": case["candidate_post_ids"].shape[1]}
    viewers = [_engagements(case, b) for b in range(batch)]
    lists = [_candidates(case, b) for b in range(batch)]
    try:
        ranker_tower = _tower(directory, artifacts.ranker, entry, lengths)
        retrieval_tower = _tower(directory, artifacts.retrieval, entry, lengths)
    except XfastError as problem:
        checks.exact("model", lambda problem=problem: (repr(problem), "a model"))
        return
    _inputs(case, ranker_tower, viewers, lists, checks)
    _retrieval(case, entry, retrieval_tower, viewers, lists, engines, checks)
    valid = case["candidate_post_ids"] != 0
    for short, precision in PRECISIONS.items():
        key = f"ranker_{short}_logits"
        if key not in case:
            continue
        drift = 2 * entry.get("drift_logit_bf16_vs_f32", 0.0)
        bounds = (
            (LOGITS, PROBABILITIES, PROBABILITIES) if short == "f32" else (drift, drift / 4 + 2**-8, drift / 4 + 2**-8)
        )
        ways: dict[str, list[Scores]] = {}
        for engine in engines:
            ranker = Ranker(ranker_tower, engine=engine, precision=precision)
            ways[engine] = ranker.score_batch([ranker.encode(viewer) for viewer in viewers], lists)
        if short == "f32" and "xla" in engines:
            ranker = Ranker(ranker_tower, engine="xla")
            pairs = zip(viewers, lists, strict=True)
            ways["xla uncached"] = [ranker.score_uncached(viewer, some) for viewer, some in pairs]
        for way, scores in ways.items():
            for name, attribute, bound in zip(
                ("logits", "probs", "cont"), ("logits", "probabilities", "continuous"), bounds, strict=True
            ):
                if f"ranker_{short}_{name}" not in case:
                    continue
                checks.error(
                    f"{short} {name} {way}",
                    lambda s=scores, a=attribute, n=name, p=short: (
                        np.stack([getattr(x, a) for x in s]), case[f"ranker_{p}_{n}"], valid,
                    ),
                    bound,
                )  # fmt: skip
            if f"ranker_{short}_jit_logits" in case:
                checks.error(
                    f"{short} jit logits {way}",
                    lambda s=scores, p=short: (np.stack([x.logits for x in s]), case[f"ranker_{p}_jit_logits"], valid),
                    bounds[0],
                )
            if f"ranker_{short}_ranked_indices" in case:
                _ranking(case, short, scores, valid, bounds[1], f"{short} ranked_indices {way}", checks)


def _ranking(
    case: dict[str, np.ndarray], short: str, scores: list[Scores], valid: np.ndarray, bound: float, name: str,
    checks: _Checks,
) -> None:  # fmt: skip
    """Order by column 0: the reference's order must descend in our scores, but for differences within the bound."""

    def compute() -> tuple[Any, Any, Any]:
        worst = 0.0
        for b, indices in enumerate(case[f"ranker_{short}_ranked_indices"]):
            if sorted(indices) != list(range(len(indices))):
                raise ValueError(f"ranked_indices of row {b} is no permutation")
            column = scores[b].probabilities[:, 0].astype(np.float64)
            order = column[[i for i in indices if valid[b, i]]]
            worst = max(worst, float(np.diff(order).max(initial=0.0)))
        return worst, 0.0, None

    checks.error(name, compute, 2 * bound)


def _inputs(
    case: dict[str, np.ndarray], tower: Tower, viewers: list[Engagements], lists: list[Candidates], checks: _Checks
) -> None:
    config = tower.config
    for key, kind, ids in (
        ("user", "user", case["user_ids"]),
        ("history_post", "item", case["history_post_ids"]),
        ("history_author", "author", case["history_author_ids"]),
        ("candidate_post", "item", case["candidate_post_ids"]),
        ("candidate_author", "author", case["candidate_author_ids"]),
    ):
        if f"ranker_{key}_hashes" not in case:
            continue
        checks.exact(
            f"{key} hashes",
            lambda key=key, kind=kind, ids=ids: (
                unified_rows(rows_of(ids, kind, config), kind, config), case[f"ranker_{key}_hashes"],
            ),
        )  # fmt: skip
    tokens, valid = zip(*(_tokens(tower, v, c) for v, c in zip(viewers, lists, strict=True)), strict=True)
    if "ranker_padding_mask" in case:
        checks.exact("padding mask", lambda: (np.stack(valid), case["ranker_padding_mask"]))
    if "ranker_f32_inputs" in case:
        checks.error(
            "token inputs",
            lambda: (np.stack(tokens)[:, case["ranker_f32_inputs_rows"]], case["ranker_f32_inputs"], None),
            INPUTS,
        )


def _tokens(tower: Tower, viewer: Engagements, candidates: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """Token matrix [1+S+C, D] and validity of one row, in float32."""
    features = ContextFeatures.build(tower, viewer, compact=False)
    context, _ = context_inputs(features, features.history_slots, tower.config.emb_size, tower.config.num_ip_hashes > 0)
    some, _ = candidate_inputs([CandidateFeatures.build(tower, candidates)], len(candidates), 1)
    tokens, valid = ranker_tokens(tower.params, tower.config, context, some)
    return np.asarray(tokens)[0], np.asarray(valid)[0]


def _retrieval(
    case: dict[str, np.ndarray],
    entry: dict[str, Any],
    tower: Tower,
    viewers: list[Engagements],
    lists: list[Candidates],
    engines: Sequence[Engine],
    checks: _Checks,
) -> None:
    for engine, (short, precision) in itertools.product(engines, PRECISIONS.items()):
        key = f"retrieval_{short}"
        if f"{key}_user_repr" not in case:
            continue
        retriever = Retriever(tower, engine=engine, precision=precision)
        users = [retriever.user_vector(viewer) for viewer in viewers]
        bound = VECTORS if short == "f32" else 2 * entry.get("drift_user_repr_bf16_vs_f32", 0.0)
        checks.error(
            f"{short} user vector {engine}",
            lambda u=users, k=key: (np.stack([x.vector for x in u]), case[f"{k}_user_repr"], None),
            bound,
        )
        if f"{key}_user_norm" in case:
            # The vector's bound is relative to its unit length; the norm's is the same, relative to its own. A
            # difference of two vectors of D components that each differ by the bound is sqrt(D) times as long.
            expected = case[f"{key}_user_norm"][:, 0]
            checks.error(
                f"{short} user norm {engine}, relative",
                lambda u=users, n=expected: (np.array([x.norm for x in u]) / n, np.ones(len(n)), None),
                bound if short == "f32" else bound * tower.config.emb_size**0.5,
            )
        if f"{key}_cand_repr" in case:
            checks.error(
                f"{short} candidate vectors {engine}",
                lambda r=retriever, k=key: (
                    np.stack([r.encode_candidates(some) for some in lists]), case[f"{k}_cand_repr"],
                    case["candidate_post_ids"] != 0,
                ),
                VECTORS,
            )  # fmt: skip
        if f"{key}_cand_mask" in case and engine == engines[0]:
            checks.exact(
                f"{short} candidate mask",
                lambda k=key: (
                    np.stack([CandidateFeatures.build(tower, some).valid for some in lists]), case[f"{k}_cand_mask"],
                ),
            )  # fmt: skip


def _meanpool(directory: Path, artifacts: Artifacts, first: str, checks: _Checks) -> None:
    with np.load(directory / f"case_{first}.npz") as file:
        case = dict(file)
    with np.load(directory / "case_meanpool.npz") as file:
        expected = file["cand_repr"]
    retriever = Retriever(artifacts.retrieval, config_overrides={"enable_linear_proj": False})
    checks.error(
        "meanpool candidate vectors",
        lambda: (
            np.stack([retriever.encode_candidates(_candidates(case, b)) for b in range(len(expected))]), expected,
            case["candidate_post_ids"] != 0,
        ),
        VECTORS,
    )  # fmt: skip


def _same_but_ties(got: Any, expected: Any, scores: dict[int, float], bound: float) -> tuple[Any, Any]:
    """Ids by place, with those replaced by the expected one whose score is within ``bound`` of it."""
    expected = [int(i) for i in expected]
    return [
        e if g == e or (g in scores and e in scores and abs(scores[g] - scores[e]) <= bound) else g
        for g, e in zip(map(int, got), expected, strict=True)
    ], expected


def _pipeline(
    directory: Path, artifacts: Artifacts, meta: dict[str, Any], engines: Sequence[Engine], checks: _Checks
) -> None:
    with np.load(directory / "pipeline.npz") as file:
        arrays = dict(file)
    corpus, viewer, shape = artifacts.corpus, artifacts.example_sequence, artifacts.retrieval.config
    drift = max((2 * e.get("drift_logit_bf16_vs_f32", 0.0) for e in meta["cases"]), default=0.0)
    user_drift = max((2 * e.get("drift_user_repr_bf16_vs_f32", 0.0) for e in meta["cases"]), default=0.0)
    k = len(arrays["f32_top_ids"])
    known = {f"{p}_{key}" for p in PRECISIONS for key in PIPELINE_KEYS}
    checks.exact("nothing unknown", lambda: (sorted(set(arrays) - known), []))
    lengths = {"history_seq_len": shape.history_seq_len, "candidate_seq_len": shape.candidate_seq_len}
    for engine, (short, precision) in itertools.product(engines, PRECISIONS.items()):
        if f"{short}_user_repr" not in arrays:
            continue
        retriever = Retriever(artifacts.retrieval, corpus, engine=engine, precision=precision)
        checks.error(
            f"{short} user vector {engine}",
            lambda r=retriever, p=short: (r.encode(viewer), arrays[f"{p}_user_repr"], None),
            VECTORS if short == "f32" else user_drift,
        )
        # Ranking is checked on the reference's order, as the slot is part of the input.
        posts, authors = _posts(corpus, arrays[f"{short}_top_idx"])
        slots = np.arange(k, dtype=np.int32) % shape.candidate_seq_len
        ranker = Ranker(artifacts.ranker, engine=engine, precision=precision, config_overrides=lengths)
        scores = ranker.score(ranker.encode(viewer), Candidates(posts, authors, slots=slots))
        bound = PROBABILITIES if short == "f32" else drift / 4 + 2**-8
        weighted = weighted_scores(scores.probabilities, ranker.vocabulary)
        for name, got, allowed in (
            ("probs", scores.probabilities, bound),
            ("cont", scores.continuous, bound),
            ("weighted", weighted, 2 * bound),
        ):
            checks.error(
                f"{short} {name} {engine}", lambda g=got, n=name, p=short: (g, arrays[f"{p}_{n}"], None), allowed
            )
    for short in PRECISIONS:
        if f"{short}_user_repr" in arrays:
            _search(artifacts, arrays, short, checks)
    _end_to_end(artifacts, arrays, k, checks)
    _stdout(directory, artifacts, arrays, checks)


def _search(artifacts: Artifacts, arrays: dict[str, np.ndarray], short: str, checks: _Checks) -> None:
    """The search is float32 in both precisions: from the reference's own vector it must find the reference's posts."""
    corpus = artifacts.corpus
    retriever = Retriever(artifacts.retrieval, corpus)
    everything = retriever.search(arrays[f"{short}_user_repr"], len(corpus))
    found = retriever.search(arrays[f"{short}_user_repr"], len(arrays[f"{short}_top_ids"]))
    by_id = dict(zip(map(int, everything.post_ids), map(float, everything.scores), strict=True))
    checks.exact(f"{short} top ids", lambda: _same_but_ties(found.post_ids, arrays[f"{short}_top_ids"], by_id, TIE))
    checks.error(f"{short} top scores", lambda: (found.scores, arrays[f"{short}_top_scores"], None), VECTORS)
    if f"{short}_lax_top_idx" in arrays:
        by_row = dict(zip(map(int, everything.rows), map(float, everything.scores), strict=True))
        rows = arrays[f"{short}_lax_top_idx"]
        checks.exact(f"{short} lax top rows", lambda: _same_but_ties(found.rows, rows, by_row, TIE))
    # Given the reference's probabilities, the weighted sum is exact to the last bit.
    vocabulary = artifacts.ranker.config.vocabulary
    checks.error(
        f"{short} weighted of the reference's probs",
        lambda: (weighted_scores(arrays[f"{short}_probs"], vocabulary), arrays[f"{short}_weighted"], None),
        1e-6,
    )


def _posts(corpus: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return corpus.post_ids[rows], corpus.author_ids[rows]


def _end_to_end(artifacts: Artifacts, arrays: dict[str, np.ndarray], k: int, checks: _Checks) -> None:
    """``run_pipeline`` in float32: what ``xfast rank`` prints."""
    result = run_pipeline(artifacts, top_k=k)
    # Scores of all posts: a tie may go on beyond the last place.
    corpus = artifacts.corpus
    everything = Retriever(artifacts.retrieval, corpus).search(arrays["f32_user_repr"], len(corpus))
    scores = dict(zip(map(int, everything.post_ids), map(float, everything.scores), strict=True))
    checks.exact("rank: top ids", lambda: _same_but_ties(result.post_ids, arrays["f32_top_ids"], scores, TIE))
    # A tie may swap two slots, which are part of the input, and so moves both posts' scores: compare the others.
    same = np.asarray(result.post_ids == arrays["f32_top_ids"].astype(np.uint64))
    for name, got, key in (
        ("probs", result.scores.probabilities, "f32_probs"),
        ("cont", result.scores.continuous, "f32_cont"),
        ("weighted", result.weighted, "f32_weighted"),
        ("retrieval scores", result.retrieval_scores, "f32_top_scores"),
    ):
        checks.error(f"rank: {name}", lambda g=got, e=key: (g, arrays[e], same), PIPELINE_F32)
    by_id = dict(zip(map(int, result.post_ids), map(float, result.weighted), strict=True))
    expected = arrays["f32_top_ids"][arrays["f32_ranked"]]
    stay = result.post_ids[same]
    ours, theirs = (
        order[np.isin(order, stay)] for order in (result.post_ids[result.ranked], expected.astype(np.uint64))
    )
    checks.exact("rank: final order", lambda: _same_but_ties(ours, theirs, by_id, 2 * PIPELINE_F32))


def _stdout(directory: Path, artifacts: Artifacts, arrays: dict[str, np.ndarray], checks: _Checks) -> None:
    """The printer, fed with the reference's bfloat16 arrays, gives its output byte for byte outside ties."""
    path = directory / "pipeline_stdout.txt"
    if not path.exists() or path.stat().st_size == 0:
        return  # the reference itself crashed
    rows = arrays["bf16_top_idx"]
    result = PipelineResult(
        user_id=artifacts.example_sequence.user_id,
        history_items=len(artifacts.example_sequence),
        corpus_size=len(artifacts.corpus),
        vocabulary=artifacts.ranker.config.vocabulary,
        rows=rows,
        post_ids=artifacts.corpus.post_ids[rows],
        author_ids=artifacts.corpus.author_ids[rows],
        retrieval_scores=arrays["bf16_top_scores"],
        scores=Scores(np.zeros_like(arrays["bf16_probs"]), arrays["bf16_probs"], arrays["bf16_cont"]),
        weighted=arrays["bf16_weighted"],
        topics=topic_labels(artifacts.corpus, rows),
    )
    expected = path.read_bytes().decode()
    shown = sum(line[:1].isdigit() for line in expected.splitlines())
    # Inside a tie of the weighted score the published sort has no order: both sides are put in one.
    lines = dict(zip(map(str, result.post_ids), map(float, result.weighted), strict=True))
    last = result.weighted[result.ranked[shown - 1]] if shown else None
    checks.exact(
        "stdout bytes",
        lambda: (_canonical(format_table(result, shown), lines, last), _canonical(expected, lines, last)),
    )


def _canonical(text: str, weights: dict[str, float], last: Any) -> str:
    """The table with the lines of a tie in the order of their post ids, keeping the rank numbers in place.

    The tie that the last displayed line belongs to may go on below it, so its lines are only counted.
    """
    out = []
    ties: list[tuple[float, str]] = []
    for line in [*text.split("\n"), ""]:
        post = line.rsplit("/", 1)[-1]
        weight = weights.get(post) if line[:1].isdigit() else None
        if ties and (weight is None or weight != ties[0][0]):
            start = sum(entry[:1].isdigit() for entry in out)
            for n, (w, rest) in enumerate(sorted(ties, key=lambda item: item[1].rsplit("/", 1)[-1])):
                out.append(f"{start + n + 1:<5} {rest if len(ties) == 1 or w != last else '(tie)'}")
            ties = []
        if weight is None:
            out.append(line)
        else:
            ties.append((weight, line[6:]))
    return "\n".join(out)

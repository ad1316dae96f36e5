"""Rankings with eight bits against float32 on a trained model, by part and together.

    python -m scripts.quality.int8 MODEL [--events DIR] [--lists 2000] [--seed 0] [--page docs/int8.md]

MODEL holds a trained ranker. Without --events the viewers are those of the synthetic network of the same seed, and the
relevance behind NDCG is the network's true probability of each action. With --events (of `xfast import`) lists come
from the last tenth of all rows by time, which a model trained with `--hold-out tail` has not seen, and the relevance is
what the viewer did with a post afterwards. Either way a variant may also gain. Every list is another viewer and moment
with other posts. The bfloat16 row is the noise that nobody complains about. Intervals are 95 % bootstrap intervals over
viewers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from scripts.page import fill
from xfast.cli.train import load_events, tail_start
from xfast.phoenix import Candidates, Context, ContextCache, Engagements, Ranker, dump_context, load_artifacts
from xfast.phoenix.calibration import calibrate, viewer_lists
from xfast.phoenix.pipeline import WEIGHTS, weighted_scores
from xfast.phoenix.quantization import quantize_params, quantize_tower, tower_sizes
from xfast.phoenix.stored import StoredParams
from xfast.phoenix.training.sequences import Sequences
from xfast.world import SyntheticConfig, generate
from xfast.world.truth import HEADS

F64 = npt.NDArray[np.float64]
CANDIDATES = 32
SHORTEST_HISTORY = 5
CALIBRATION_LISTS = 256
METRICS = (
    *("top1", "top3_set", "top3_overlap", "top10_overlap"),
    *("kendall_tau", "ndcg_change_percent", "mean_dp", "max_dp"),
)
#: What a variant must reach: metric, lowest and highest mean.
TARGETS = {"top3_set": (0.97, 1.0), "top10_overlap": (0.99, 1.0), "ndcg_change_percent": (-0.2, 0.2)}


class List(NamedTuple):
    """A request and what is true about it."""

    engagements: Engagements
    candidates: Candidates
    relevance: F64


class Lists(NamedTuple):
    """What is measured on, and events to calibrate with."""

    measured: list[List]
    calibration: list[Any]
    where: str


def synthetic(ranker: Ranker, count: int, seed: int) -> Lists:
    """Distinct requests: a viewer at a moment, and posts that exist by then, half of them by chance from the newest."""
    world = generate(SyntheticConfig(), seed)
    rows = world.interactions()
    histories, posts = rows.histories(), world.posts
    rng = np.random.default_rng(seed)
    order = np.argsort(posts.created_ms, kind="stable")
    created = posts.created_ms[order]
    weights = dict(WEIGHTS)
    lists: list[List] = []
    seen: set[tuple[int, int]] = set()
    while len(lists) < count:
        at = int(rng.integers(len(rows)))
        user, now = int(rows.user_id[at]), int(rows.time_ms[at])
        past = histories.of(user)
        past = past[(rows.time_ms[past] < now) & (rows.actions[past] != 0)][-ranker.config.history_seq_len :]
        known = int(np.searchsorted(created, now))
        if len(past) < SHORTEST_HISTORY or known < 4 * CANDIDATES or (user, now) in seen:
            continue
        seen.add((user, now))
        newest = known - 1 - rng.permutation(2 * CANDIDATES)[: CANDIDATES // 2]
        others = rng.permutation(known - 2 * CANDIDATES)[: CANDIDATES - len(newest)]
        chosen = order[np.concatenate([newest, others])]
        continuous = np.zeros((len(past), 8), np.float32)
        continuous[:, 1] = rows.dwell_ms[past] / 1000
        engagements = Engagements(
            user, rows.post_id[past], rows.author_id[past],
            rows.action_matrix(past, num_actions=ranker.config.num_actions), rows.surface[past], continuous,
        )  # fmt: skip
        authors = world.users.user_id[posts.author[chosen]]
        candidates = Candidates(
            posts.post_id[chosen], authors, impression_ts=np.full(CANDIDATES, now // 1000),
            created_ts=posts.created_ms[chosen] // 1000,
        )  # fmt: skip
        user_rows, post_rows = world.truth.rows(np.full(CANDIDATES, user, np.uint64), posts.post_id[chosen])
        true = world.truth.probabilities(user_rows, post_rows, np.full(CANDIDATES, now))
        relevance = sum(weight * true[:, HEADS.index(action)] for action, weight in weights.items())
        lists.append(List(engagements, candidates, np.asarray(relevance, np.float64)))
    calibration = viewer_lists(Sequences.from_interactions(rows), ranker.config, CALIBRATION_LISTS, seed=seed + 1)
    return Lists(lists, calibration, f"the synthetic network of seed {seed}")


def held_out(events: Path, ranker: Ranker, count: int, seed: int) -> Lists:
    """Lists of the last tenth by time; calibration lists of what came before."""
    sequences = Sequences.from_events(load_events(events))
    start = tail_start(sequences)
    late = np.flatnonzero(sequences.order >= start)
    lists = []
    for one in viewer_lists(sequences, ranker.config, count, candidates=CANDIDATES, seed=seed, rows=late):
        did = sequences.action_matrix(np.maximum(one.later, 0), ranker.config.num_actions)
        did[one.later < 0] = 0
        lists.append(List(one.engagements, one.candidates, weighted_scores(did, ranker.vocabulary).astype(np.float64)))
    calibration = viewer_lists(sequences.before(start), ranker.config, CALIBRATION_LISTS, seed=seed + 1)
    return Lists(lists, calibration, f"{events.name}, last tenth by time")


def scores_of(ranker: Ranker, encode: Callable[[Engagements], Context], lists: list[List]) -> tuple[F64, F64]:
    """Weighted scores [lists, C] and probabilities [lists, C, A]."""
    probabilities = np.stack([ranker.score(encode(x.engagements), x.candidates).probabilities for x in lists])
    weighted = np.stack([weighted_scores(p, ranker.vocabulary) for p in probabilities])
    return weighted.astype(np.float64), probabilities.astype(np.float64)


def _top(scores: F64, k: int) -> npt.NDArray[np.int64]:
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def _overlap(a: F64, b: F64, k: int) -> F64:
    x, y = _top(a, k), _top(b, k)
    shared: F64 = (x[:, :, None] == y[:, None, :]).any(axis=2).mean(axis=1)
    return shared


def _ndcg(scores: F64, relevance: F64, k: int = 10) -> F64:
    discount = 1 / np.log2(np.arange(2, k + 2))
    gain = np.take_along_axis(relevance, _top(scores, k), 1) @ discount
    best = -np.sort(-relevance, axis=1)[:, :k] @ discount
    # A list without anything relevant has no order to get wrong.
    return np.divide(gain, best, out=np.ones_like(gain), where=best > 0)


def _kendall(a: F64, b: F64) -> F64:
    i, j = np.triu_indices(a.shape[1], 1)
    return np.asarray((np.sign(a[:, i] - a[:, j]) * np.sign(b[:, i] - b[:, j])).mean(axis=1), np.float64)


def compare(exact: tuple[F64, F64], other: tuple[F64, F64], relevance: F64) -> dict[str, F64]:
    """Metrics per list."""
    (a, p), (b, q) = exact, other
    reference = _ndcg(a, relevance)
    difference = np.abs(p - q).reshape(len(p), -1)
    return {
        "top1": _overlap(a, b, 1),
        "top3_set": (_overlap(a, b, 3) == 1).astype(np.float64),
        "top3_overlap": _overlap(a, b, 3),
        "top10_overlap": _overlap(a, b, 10),
        "kendall_tau": _kendall(a, b),
        "ndcg_change_percent": 100 * (_ndcg(b, relevance) - reference) / reference.mean(),
        "mean_dp": difference.mean(axis=1),
        "max_dp": difference.max(axis=1),
    }


def interval(values: F64, viewers: npt.NDArray[np.int64], seed: int, resamples: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean; viewers are drawn with all their lists."""
    sums, counts = np.bincount(viewers, values), np.bincount(viewers)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), resamples)
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    return float(low), float(high)


def _stored(params: Any) -> dict[str, Any]:
    return dict(params.stored)


def run(model: Path, events: Path | None, count: int, seed: int) -> dict[str, Any]:
    """All variants against float32."""
    tower = load_artifacts(model).ranker
    small, heads = quantize_tower(tower), quantize_tower(tower, heads="int8")
    exact = Ranker(tower, engine="native")
    lists, calibration, where = (
        synthetic(exact, count, seed) if events is None else held_out(events, exact, count, seed)
    )
    found = calibrate(tower, calibration, lambda text: print(text, file=sys.stderr, flush=True))
    int8_heads = {key: v for key, v in _stored(quantize_params(found.exact, heads="int8")).items() if "unembed" in key}
    with_heads = replace(found.tower, params=StoredParams(_stored(found.tower.params) | int8_heads))
    relevance = np.stack([x.relevance for x in lists])
    _, viewers = np.unique([x.engagements.user_id for x in lists], return_inverse=True)
    reference = scores_of(exact, exact.encode, lists)

    def plain(tower: Any, precision: Any, keys: Any = None) -> tuple[Ranker, Callable[[Engagements], Context]]:
        ranker = Ranker(tower, engine="native", precision=precision, kv_precision=keys)
        return ranker, ranker.encode

    variants = {
        "bfloat16 engine": plain(tower, "bfloat16"),
        "int8 keys and values, stored": (exact, ContextCache(exact, storage="int8", max_bytes=0).encode),
        "int8 keys and values, in the engine": plain(tower, "float32", "int8"),
        "int8 tables": plain(replace(tower, tables=small.tables), "float32"),
        "int8 weights, nearest": plain(replace(tower, params=small.params), "float32"),
        "both: int8 files": plain(small, "float32"),
        "… with int8 heads, too": plain(heads, "float32"),
        "int8 engine, float32 files": plain(tower, "int8"),
        "**int8 files and engine**": plain(small, "int8"),
        "int8 files, calibrated": plain(found.tower, "float32"),
        "**… and int8 engine**": plain(found.tower, "int8"),
        "**… and int8 keys and values: everything**": plain(found.tower, "int8", "int8"),
        "**… and int8 heads**": plain(with_heads, "int8", "int8"),
    }
    longest = max(lists, key=lambda x: len(x.engagements))
    context = exact.encode(longest.engagements)
    report: dict[str, Any] = {
        "where": where,
        "lists": len(lists),
        "viewers": int(viewers.max()) + 1,
        "candidates": CANDIDATES,
        "ndcg_float32": float(_ndcg(reference[0], relevance).mean()),
        "score_spread": float(reference[0].std(axis=1).mean()),
        "calibration": {"method": found.method, "errors": dict(found.errors), "lists": found.lists},
        "memory": [asdict(part) | {"saved": part.saved} for part in tower_sizes(found.exact, found.tower)],
        "dense_with_int8_heads": asdict(dense := tower_sizes(tower, heads)[0]) | {"saved": dense.saved},
        "context_bytes": {
            "tokens": context.num_valid,
            "float32": context.nbytes,
            "int8": len(dump_context(exact, context, storage="int8")),
        },
        "variants": {},
    }
    for name, (ranker, encode) in variants.items():
        metrics = compare(reference, scores_of(ranker, encode, lists), relevance)
        report["variants"][name] = {
            key: {"mean": float(v.mean()), "interval": interval(v, viewers, seed), "worst": float(v.max())}
            for key, v in metrics.items()
        }
    return report


def misses(report: dict[str, Any], variant: str) -> list[str]:
    """Targets that a variant's mean misses."""
    means = {key: report["variants"][variant][key]["mean"] for key in TARGETS}
    return [f"{key} {means[key]:.4f}" for key, (low, high) in TARGETS.items() if not low <= means[key] <= high]


def rankings(report: dict[str, Any]) -> str:
    """What was ranked and how it came out, as Markdown; intervals where targets are."""
    lines = [
        (
            f"{report['lists']:,} lists, {report['viewers']} viewers; NDCG@10 of float32 {report['ndcg_float32']:.4f}, "
            f"mean spread of scores in a list {report['score_spread']:.4f}."
        ),
        "",
        (
            "| against float32 | top 1 | top-3 set | top-3 share | top-10 share | Kendall τ | NDCG@10 change, % "
            "| mean \\|Δp\\| | max \\|Δp\\| |"
        ),
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for name, metrics in report["variants"].items():
        cells = []
        for key in METRICS:
            mean, (low, high) = metrics[key]["mean"], metrics[key]["interval"]
            cells.append(
                f"{metrics[key]['worst']:.3f}" if key == "max_dp"
                else f"{1e4 * mean:.2f}e-4" if key == "mean_dp"
                else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" if key == "ndcg_change_percent"
                else f"{mean:.4f} [{low:.4f}, {high:.4f}]" if key in TARGETS
                else f"{mean:.4f}"
            )  # fmt: skip
        missed = misses(report, name)
        lines.append(
            f"| {name}{' (misses: ' + ', '.join(missed) + ')' if missed else ''} | " + " | ".join(cells) + " |"
        )
    found = report["calibration"]
    errors = "; ".join(f"{method}: {1e4 * error:.2f}" for method, error in found["errors"].items())
    lines += [
        "",
        f"Calibration chose *{found['method']}*; mean |Δp| × 10⁴ on the {found['lists']} lists held back: {errors}.",
    ]
    return "\n".join(lines)


def memory(report: dict[str, Any]) -> str:
    """Bytes by part, as Markdown."""
    kept = report["context_bytes"]
    lines = ["| part | numbers | float32 | stored | saved |", "|---|---|---|---|---|"]
    for part in (report["memory"][0], report["dense_with_int8_heads"], *report["memory"][1:]):
        name = "… with int8 heads" if part is report["dense_with_int8_heads"] else part["part"]
        lines.append(
            f"| {name} | {part['numbers']:,} | {part['float32_bytes']:,} | {part['bytes']:,} | "
            f"−{100 * part['saved']:.1f} % |"
        )
    saved = 1 - kept["int8"] / kept["float32"]
    lines.append(
        f"| keys and values of {kept['tokens']} tokens | | {kept['float32']:,} | {kept['int8']:,} "
        f"| −{100 * saved:.1f} % |"
    )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="model files with a ranker")
    parser.add_argument("--events", type=Path, metavar="DIR", help="lists from the last tenth of these events")
    parser.add_argument("--lists", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the lists (default: 0)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="fill the measured blocks of this page, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    args = parser.parse_args()
    report = run(args.model, args.events, args.lists, args.seed)
    name = "synthetic" if args.events is None else "events"
    blocks = {name: rankings(report), f"{name} memory": memory(report)}
    print(report["where"], *blocks.values(), sep="\n\n")
    if args.page is not None:
        fill(args.page, blocks)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

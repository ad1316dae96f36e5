"""What eight bits cost: rankings of distinct lists against float32, on a trained model and the synthetic network.

    python scripts/quality/int8.py MODEL [--lists 2000] [--seed 0]

MODEL holds a ranker trained on the synthetic network of the same seed. Every list is another viewer and moment with
other posts; the relevance behind NDCG is the network's true probability of each action, so a variant may also gain.
The bfloat16 row is the noise that nobody complains about. Intervals are 95 % bootstrap intervals over viewers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xfast.phoenix import Candidates, Context, ContextCache, Engagements, Ranker, load_artifacts
from xfast.phoenix.pipeline import WEIGHTS, weighted_scores
from xfast.phoenix.quantization import quantize_tower
from xfast.world import SyntheticConfig, generate
from xfast.world.truth import HEADS

F64 = npt.NDArray[np.float64]
CANDIDATES = 32
SHORTEST_HISTORY = 5
METRICS = ("top1", "top3_set", "top10_overlap", "kendall_tau", "ndcg_change_percent", "mean_dp", "max_dp")


class List(NamedTuple):
    """A request and what is true about it."""

    engagements: Engagements
    candidates: Candidates
    relevance: F64


def make_lists(ranker: Ranker, count: int, seed: int) -> list[List]:
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
    return lists


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
    return np.asarray(gain / best, np.float64)


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


def run(model: Path, count: int, seed: int) -> dict[str, Any]:
    """All variants against float32."""
    tower = load_artifacts(model).ranker
    small = quantize_tower(tower)
    exact = Ranker(tower, engine="native")
    lists = make_lists(exact, count, seed)
    relevance = np.stack([x.relevance for x in lists])
    _, viewers = np.unique([x.engagements.user_id for x in lists], return_inverse=True)
    reference = scores_of(exact, exact.encode, lists)

    def plain(tower: Any, precision: Any) -> tuple[Ranker, Callable[[Engagements], Context]]:
        ranker = Ranker(tower, engine="native", precision=precision)
        return ranker, ranker.encode

    variants = {
        "bfloat16 engine": plain(tower, "bfloat16"),
        "int8 keys and values": (exact, ContextCache(exact, storage="int8", max_bytes=0).encode),
        "int8 files, float32 engine": plain(small, "float32"),
        "int8 engine": plain(tower, "int8"),
        "int8 files and engine": plain(small, "int8"),
    }
    report: dict[str, Any] = {
        "lists": len(lists),
        "viewers": int(viewers.max()) + 1,
        "candidates": CANDIDATES,
        "ndcg_float32": float(_ndcg(reference[0], relevance).mean()),
        "score_spread": float(reference[0].std(axis=1).mean()),
        "variants": {},
    }
    for name, (ranker, encode) in variants.items():
        metrics = compare(reference, scores_of(ranker, encode, lists), relevance)
        report["variants"][name] = {
            key: {"mean": float(v.mean()), "interval": interval(v, viewers, seed), "worst": float(v.max())}
            for key, v in metrics.items()
        }
    return report


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [
        (
            f"{report['lists']:,} lists of {report['candidates']} posts, {report['viewers']} viewers; "
            f"NDCG@10 of float32 {report['ndcg_float32']:.4f}, mean spread of scores in a list "
            f"{report['score_spread']:.4f}"
        ),
        "",
        "| against float32 | " + " | ".join(METRICS) + " |",
        "|---" * (len(METRICS) + 1) + "|",
    ]
    for name, metrics in report["variants"].items():
        cells = []
        for key in METRICS:
            mean, (low, high) = metrics[key]["mean"], metrics[key]["interval"]
            cells.append(
                f"{metrics[key]['worst']:.2g}" if key == "max_dp"
                else f"{mean:.1e}" if key == "mean_dp"
                else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" if key == "ndcg_change_percent"
                else f"{mean:.4f} [{low:.4f}, {high:.4f}]"
            )  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="model files with a ranker")
    parser.add_argument("--lists", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the network and the lists (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    args = parser.parse_args()
    report = run(args.model, args.lists, args.seed)
    print(table(report))
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Retrieval: the best 100 of 537,000 posts, exact and approximate, with recall beside time.

Rivals: NumPy (one query, and a matrix product for 64), faiss Flat, SQ8, PQ with refinement, IVF. All of them in one
process on one core. `python -m benchmarks.retrieval` prints docs/retrieval.md's table: the methods take turns, and the
rate at which this core reads memory is measured between them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.phoenix import Corpus
from xfast.phoenix.search import ExactIndex

ROWS, WIDTH, BEST, BATCH = 537_000, 128, 100, 64
DATA = ("clustered", "random")
METHODS = (
    "xfast exact",
    "xfast exact, 2,000 excluded",
    "xfast exact, 1 of 50 topics",
    "numpy",
    "faiss Flat",
    "faiss SQ8",
    "faiss PQ64x4fs,RFlat",
    "faiss IVF2048,SQ8",
    "xfast exact, batch",
    "numpy, batch",
    "faiss Flat, batch",
)
F32 = npt.NDArray[np.float32]
Search = Callable[[F32], npt.NDArray[Any]]


@cache
def data(kind: str, rows: int = ROWS) -> tuple[F32, F32]:
    """Unit vectors [rows, 128] and 64 queries near some of them; clustered ones lie around 2,000 centres."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, WIDTH), np.float32)
    if kind == "clustered":
        centres = rng.standard_normal((2000, WIDTH), np.float32)
        vectors = centres[rng.integers(0, len(centres), rows)] + np.float32(0.5) * vectors
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    noise = rng.standard_normal((BATCH, WIDTH), np.float32) / np.float32(np.sqrt(WIDTH))
    queries = vectors[rng.integers(0, rows, BATCH)] + np.float32(0.8) * noise
    return vectors, queries / np.linalg.norm(queries, axis=1, keepdims=True)


@cache
def _exact(kind: str, rows: int) -> ExactIndex:
    vectors, _ = data(kind, rows)
    ids = np.arange(rows, dtype=np.uint64)
    return ExactIndex.of(Corpus(ids, ids, vectors, topic_ids=np.arange(rows) % 50 + 1), threads=1)


def _best(scores: F32) -> npt.NDArray[Any]:
    top = np.argpartition(-scores, BEST, axis=1)[:, :BEST]
    return np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable"), 1)


def build(method: str, kind: str, rows: int = ROWS) -> Search:
    """A function from queries [Q, 128] to rows [Q, 100]."""
    vectors, _ = data(kind, rows)
    name = method.removesuffix(", batch")
    if name.startswith("xfast"):
        index = _exact(kind, rows)
        options: dict[str, Any] = {}
        if "excluded" in name:
            options["exclude_ids"] = np.arange(0, 2000, dtype=np.uint64)
        if "topics" in name:
            options["topic_ids"] = np.array([7])
        return lambda queries: index.search(queries, BEST, **options).rows
    if name == "numpy":
        return lambda queries: _best(queries @ vectors.T)
    import faiss

    faiss.omp_set_num_threads(1)
    approximate = faiss.index_factory(WIDTH, name.removeprefix("faiss "), faiss.METRIC_INNER_PRODUCT)
    if not approximate.is_trained:
        approximate.train(vectors[:: max(1, rows // 100_000)])
    approximate.add(vectors)
    if hasattr(approximate, "nprobe"):
        approximate.nprobe = 64
    if hasattr(approximate, "k_factor"):
        approximate.k_factor = 8
    return lambda queries: approximate.search(queries, BEST)[1]  # type: ignore[no-any-return]


def allowed(method: str, rows: int = ROWS) -> npt.NDArray[np.bool_]:
    """Which rows a method may find."""
    mask = np.ones(rows, bool)
    if "excluded" in method:
        mask[:2000] = False
    if "topics" in method:
        mask = np.arange(rows) % 50 == 6
    return mask


def recall(method: str, kind: str, search: Search, rows: int = ROWS) -> float:
    """The share of the true best 100 that a method finds, over 64 queries."""
    vectors, queries = data(kind, rows)
    may = np.flatnonzero(allowed(method, rows))
    truth = may[_best(queries @ vectors[may].T)]
    found = np.concatenate([search(queries[q : q + 1]) for q in range(BATCH)])
    return float(np.mean([len(np.intersect1d(a, b)) / BEST for a, b in zip(truth, found, strict=True)]))


class Top100:
    """One query, or 64 at once, on one core."""

    params = (METHODS, DATA)
    param_names = ("method", "data")
    timeout = 600.0

    def setup(self, method: str, kind: str) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.search = build(method, kind)
        _, queries = data(kind)
        self.queries = queries if method.endswith("batch") else queries[:1]

    def time_search(self, method: str, kind: str) -> None:
        self.search(self.queries)

    def track_recall(self, method: str, kind: str) -> float:
        return recall(method, kind, self.search)


class Live:
    """A corpus of 537,000 posts that changes."""

    timeout = 600.0

    def setup(self) -> None:
        vectors, self.queries = data("clustered")
        ids = np.arange(ROWS, dtype=np.uint64)
        self.index = ExactIndex.of(Corpus(ids, ids, vectors), threads=1)
        self.next = ROWS
        self.fresh = vectors[:100].copy()

    def time_append_100(self) -> None:
        ids = np.arange(self.next, self.next + 100, dtype=np.uint64)
        self.next += 100
        self.index.append(Corpus(ids, ids, self.fresh))

    def time_remove_20(self) -> None:
        self.next -= 20
        self.index.remove(np.arange(self.next, self.next + 20, dtype=np.uint64))

    def time_search_after_appends(self) -> None:
        self.index.search(self.queries[:1], BEST)

    def track_bytes_per_post(self) -> float:
        return self.index.nbytes / len(self.index)


def _cpu(search: Search, queries: F32, turns: int) -> list[float]:
    times = []
    for turn in range(turns):
        one = queries if len(queries) == BATCH and turns == 1 else queries[turn % len(queries)][None]
        began = time.process_time()
        search(one)
        times.append(time.process_time() - began)
    return times


def main() -> None:
    """Print the table."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    int8 = np.zeros(ROWS * WIDTH // 8, np.uint64) + np.uint64(1)
    for kind in DATA:
        _, queries = data(kind)
        searches = {method: build(method, kind) for method in METHODS}
        found = {method: recall(method, kind, search) for method, search in searches.items()}
        times: dict[str, list[float]] = {method: [] for method in METHODS}
        reads = []
        for _ in range(5):  # A B A B: whatever else the machine does hits all of them
            for method, search in searches.items():
                batch = method.endswith("batch")
                times[method] += [t / (BATCH if batch else 1) for t in _cpu(search, queries, 1 if batch else 8)]
                if not batch:
                    began = time.process_time()
                    int8.max()
                    reads.append(time.process_time() - began)
        read = float(np.median(reads))
        print(f"\n{kind}: one pass over {int8.nbytes / 1e6:.1f} MB takes {1e3 * read:.2f} ms", end=" ")
        print(f"({int8.nbytes / read / 1e9:.1f} GB/s)\n")
        print("| method | CPU ms per query | of one pass | recall@100 |\n|---|---|---|---|")
        for method in METHODS:
            median = float(np.median(times[method]))
            print(f"| {method} | {1e3 * median:.2f} | {median / read:.2f} | {found[method]:.3f} |", flush=True)
        data.cache_clear()
        _exact.cache_clear()


if __name__ == "__main__":
    main()

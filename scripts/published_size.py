"""Model files of the published size with random weights, and how `xfast rank` starts on them.

    python scripts/published_size.py make FOLDER            # 3.4 GB in FOLDER/files, as much in FOLDER/files.zip
    python scripts/published_size.py make FOLDER --deflate  # … and FOLDER/deflated.zip; minutes
    python scripts/published_size.py measure FOLDER         # a table: wall clock, CPU time, largest memory, same posts

The layout and the sizes are those of PHOENIX §7: three tables of 1,000,000 rows for each of two towers, and 537,000
posts of 128 numbers. Every run is a new process; "cold" runs follow after the files were dropped from the page cache
(posix_fadvise), so that they are read from the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from xfast.phoenix import Corpus, EmbeddingTables, Engagements, PhoenixConfig, Tower, save_artifacts
from xfast.phoenix.config import HashFamily
from xfast.phoenix.layout import TowerName, param_shapes

ROWS, POSTS, WIDTH = 1_000_000, 537_000, 128
_FAMILIES = {
    "user_hash": HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897),
    "item_hash": HashFamily((2161410491, 1754358832), (1935840681, 167407236), 2361375383),
    "author_hash": HashFamily((371965780, 328930218), (139686260, 37755056), 631860353),
}


def tower(name: TowerName, rng: np.random.Generator) -> Tower:
    """A tower with the published mini's sizes."""
    config = PhoenixConfig(
        emb_size=WIDTH, key_size=32, num_heads=4, num_layers=4, num_actions=19, history_seq_len=127,
        candidate_seq_len=64, num_user_hashes=2, num_item_hashes=2, num_author_hashes=2, user_vocab_size=ROWS,
        item_vocab_size=ROWS, author_vocab_size=ROWS, **_FAMILIES,
    )  # fmt: skip
    params = {
        key: (np.ones(shape) if key.endswith("scale") else rng.normal(size=shape) / np.sqrt(shape[0])).astype(
            np.float32
        )
        for key, shape in param_shapes(config, name).items()
    }
    tables = [2 * rng.random((ROWS, WIDTH), np.float32) - 1 for _ in range(3)]
    return Tower(name, config, params, EmbeddingTables(*tables))


def make(folder: Path, *, deflate: bool) -> None:
    """Write the files."""
    rng = np.random.default_rng(0)
    for name in ("ranker", "retrieval"):
        save_artifacts(folder / "files", **{name: tower(name, rng)})  # type: ignore[arg-type]
    vectors = rng.standard_normal((POSTS, WIDTH), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = rng.integers(1 << 60, 1 << 61, (2, POSTS)).astype(np.uint64)
    topics = np.array(["sports", "football", "tennis"], object)[rng.integers(0, 3, POSTS)]
    history = rng.integers(1 << 60, 1 << 61, (2, 127)).astype(np.uint64)
    viewer = Engagements(7, history[0], history[1], (rng.random((127, 19)) < 0.2).astype(np.float32))
    corpus = Corpus(ids[0], ids[1], vectors, topics)
    save_artifacts(folder / "files", corpus=corpus, example_sequence=viewer)
    methods = {"files.zip": zipfile.ZIP_STORED} | ({"deflated.zip": zipfile.ZIP_DEFLATED} if deflate else {})
    for name, method in methods.items():
        with zipfile.ZipFile(folder / name, "w", method, compresslevel=1) as archive:
            for path in sorted((folder / "files").rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder))


def forget(folder: Path) -> None:
    """Drop the files from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_rate(path: Path) -> float:
    """MB per second of reading a file in pieces of 1 MB, after it was dropped from the page cache."""
    forget(path.parent)
    buffer, total, started = bytearray(1 << 20), 0, time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            total += size
    return total / (time.perf_counter() - started) / 1e6


def rank(artifacts: Path, *options: str) -> tuple[dict[str, Any], float, float, float]:
    """Run `xfast rank`; returns its answer, wall clock and CPU seconds, and the largest resident MB."""
    with tempfile.TemporaryFile() as out, Path(os.devnull).open("w") as log:
        command = [sys.executable, "-m", "xfast.cli.main", "rank", "--artifacts", str(artifacts), "--json", *options]
        started = time.perf_counter()
        child = os.posix_spawn(
            sys.executable, command, os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
        )  # fmt: skip
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - started
        if status:
            raise SystemExit(f"{' '.join(command)} failed with status {status}")
        out.seek(0)
        return json.loads(out.read()), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def same(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Whether two answers show the same posts in the same order, and their largest difference in score."""
    posts = [[(row["rank"], row["post_id"]) for row in answer["results"]] for answer in (one, other)]
    difference = max(abs(a["score"] - b["score"]) for a, b in zip(one["results"], other["results"], strict=True))
    return f"{'same' if posts[0] == posts[1] else 'other'} posts, scores within {difference:.1e}"


def measure(folder: Path, runs: int) -> None:
    """Print the table."""
    expected, *_ = rank(folder / "files", "--engine", "xla")
    corpus = folder / "files" / "sports_corpus.npz"
    rates = [read_rate(corpus) for _ in range(3)]
    floor = corpus.stat().st_size / 1e6 / max(rates)
    print(
        f"disk {min(rates):,.0f} to {max(rates):,.0f} MB/s: the corpus alone, {corpus.stat().st_size / 1e6:.0f} MB, "
        f"takes {floor:.2f} s"
    )
    print(f"{'files':<14}{'page cache':<12}{'wall s':>8}{'CPU s':>8}{'MB':>7}  against engine=xla")
    for name in ("files", "files.zip", "deflated.zip"):
        if not (folder / name).exists():
            continue
        for cache in ("cold", "warm"):
            for _ in range(runs):
                if cache == "cold":
                    forget(folder)
                answer, wall, cpu, memory = rank(folder / name)
                print(
                    f"{name:<14}{cache:<12}{wall:>8.2f}{cpu:>8.2f}{memory:>7.0f}  {same(answer, expected)}", flush=True
                )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--deflate", action="store_true", help="make: a compressed zip, too")
    parser.add_argument("--runs", type=int, default=2, help="measure: processes per line")
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder, deflate=args.deflate)
    else:
        measure(args.folder, args.runs)


if __name__ == "__main__":
    main()

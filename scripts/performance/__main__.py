"""Measure, and write the tables and plots of docs/performance.md.

    python -m scripts.performance mini|history|long|wide|claims [--cores 1]    one part into build/performance.json
    python -m scripts.performance page                                         tables and plots from that file

Everything that is compared runs in one process, in turn (A B A B): a number is the lower quartile of the rounds. Run
on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path("build/performance.json")
PARTS = ("mini", "history", "long", "wide", "claims")


def peaks() -> dict[str, float]:
    """GFLOP/s and GB/s of one core, measured now."""
    source = Path(__file__).with_name("peaks.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/peaks"
        subprocess.run([os.environ.get("CXX", "c++"), "-O2", "-std=c++20", str(source), "-o", program], check=True)
        measured: dict[str, float] = json.loads(subprocess.run([program], check=True, capture_output=True).stdout)
    return measured


def race(contestants: Mapping[str, Callable[[], Any]], *, seconds: float, rounds: int = 5) -> dict[str, float]:
    """Milliseconds of each, taken in turn for about ``seconds`` and at least ``rounds`` rounds.

    The lower quartile of the rounds: on a shared machine a median is now and then that of somebody else's work.
    """
    batch: dict[str, int] = {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        batch[name] = max(1, int(2e-3 / (time.perf_counter() - start)))
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    begun = time.perf_counter()
    while len(samples[next(iter(samples))]) < rounds or time.perf_counter() - begun < seconds:
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(batch[name]):
                call()
            samples[name].append((time.perf_counter() - start) / batch[name] * 1e3)
    return {name: statistics.quantiles(times, n=4)[0] for name, times in samples.items()}


def _raced(work: Any, contestants: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    return {"ms": race(contestants, seconds=seconds), "work": [work.inputs, work.layers, work.attention]}


def _native(model: Any, threads: int) -> dict[str, Any]:
    from xfast.phoenix.engines.native import NativeRanker

    kinds: list[tuple[str, Any, Any]] = [
        ("float32", "float32", None), ("bfloat16", "bfloat16", None), ("int8", "int8", None),
        ("int8, int8 keys", "int8", "int8"),
    ]  # fmt: skip
    return {name: NativeRanker(model, precision, kv_precision=kv, threads=threads) for name, precision, kv in kinds}


def _scores(
    model: Any, threads: int, counts: tuple[int, ...], seconds: float, plain: bool = True
) -> list[dict[str, Any]]:
    import jax.numpy as jnp

    from benchmarks import phoenix_models as models
    from benchmarks.phoenix_rivals import Rivals

    viewer = models.viewer(model)
    rivals, engines = Rivals(model, viewer), _native(model, threads)
    contexts = {name: engine.encode(viewer) for name, engine in engines.items()}
    rows = []
    for count in counts:
        some = models.candidates(model, count)
        contestants: dict[str, Callable[[], Any]] = {}
        if plain:
            contestants["jit full float32"] = rivals.plain(some, jnp.float32)
            contestants["jit full bfloat16"] = rivals.plain(some, jnp.bfloat16)
        contestants["jit cached float32"] = rivals.cached(some, jnp.float32)
        contestants["jit cached bfloat16"] = rivals.cached(some, jnp.bfloat16)
        contestants["jit cached int8"] = rivals.int8(some)
        for name, engine in engines.items():
            contestants[f"native {name}"] = lambda e=engine, c=contexts[name], s=some: e.score(c, s)
        row = {"history": model.config.history_seq_len, "candidates": count}
        rows.append(row | _raced(models.score_work(model.config, count), contestants, seconds))
    return rows


def _encodes(model: Any, retrieval: Any, threads: int, seconds: float) -> dict[str, Any]:
    import jax.numpy as jnp

    from benchmarks import phoenix_models as models
    from benchmarks.phoenix_rivals import Rivals
    from xfast.phoenix.engines.native import NativeRetrieval

    viewer = models.viewer(model)
    rivals = Rivals(model, viewer)
    contestants: dict[str, Callable[[], Any]] = {
        "jit float32": rivals.encode(jnp.float32), "jit bfloat16": rivals.encode(jnp.bfloat16),
    }  # fmt: skip
    for name, engine in _native(model, threads).items():
        contestants[f"native {name}"] = lambda e=engine: e.encode(viewer)
    result = _raced(models.encode_work(model.config, whole=False), contestants, seconds)
    if retrieval is None:
        return {"encode": result}
    user, tower_rivals = models.viewer(retrieval), Rivals(retrieval, models.viewer(retrieval))
    contestants = {
        "jit float32": tower_rivals.user_vector(jnp.float32), "jit bfloat16": tower_rivals.user_vector(jnp.bfloat16),
    }  # fmt: skip
    for precision in ("float32", "bfloat16", "int8"):
        engine = NativeRetrieval(retrieval, precision, threads=threads)
        contestants[f"native {precision}"] = lambda e=engine: e.encode(user)
    tower = _raced(models.encode_work(retrieval.config, whole=True), contestants, seconds)
    return {"encode": result, "user tower": tower}


def mini(threads: int) -> dict[str, Any]:
    """The published mini model against C, its encode and user tower, and what an XLA call costs."""
    import jax
    import jax.numpy as jnp

    from benchmarks import phoenix_models as models
    from xfast.phoenix import Ranker, ffi
    from xfast.phoenix.engines.xla import candidate_inputs, context_inputs

    model = models.tower(models.config(127))
    result: dict[str, Any] = {"score": _scores(model, threads, (8, 64, 256, 1024), seconds=4)}
    result |= _encodes(model, models.tower(models.config(127), "retrieval"), threads, seconds=3)
    ranker = Ranker(model, engine="native")
    engine = ranker.native_engine("the benchmark")
    viewer, some = models.viewer(model), models.candidates(model, 1)
    context, at = jax.tree.map(jnp.asarray, context_inputs(viewer, len(viewer.valid), 128, ip=False))
    inputs, positions = jax.tree.map(jnp.asarray, candidate_inputs([some], 1, 1))
    contexts, encoded = ffi.encode(ranker, context, at), engine.encode(viewer)
    call = jax.jit(lambda c, i, p: ffi.score(ranker, c, i, p).probabilities)
    nothing = jax.jit(lambda p: p + 1)
    result["one candidate"] = race(
        {
            "plain function": lambda: engine.score(encoded, some),
            "XLA call inside jit": lambda: call(contexts, inputs, positions).block_until_ready(),
            "jit of nothing": lambda: nothing(positions).block_until_ready(),
        },
        seconds=2,
    )
    return result


def history(threads: int) -> dict[str, Any]:
    """64 candidates against the history's length."""
    from benchmarks import phoenix_models as models

    rows = []
    for slots in (15, 63, 255, 1023):
        rows += _scores(models.tower(models.config(slots)), threads, (64,), seconds=4, plain=slots < 1000)
    return {"score": rows}


def long(threads: int) -> dict[str, Any]:
    """A large model with a long history and eight candidates."""
    from benchmarks import phoenix_models as models

    model = models.tower(models.long_config())
    return {"score": _scores(model, threads, (8,), seconds=1)} | _encodes(model, None, threads, seconds=1)


def wide(threads: int) -> dict[str, Any]:
    """One production-like layer."""
    from benchmarks import phoenix_models as models

    model = models.tower(models.wide_config())
    rows = _scores(model, threads, (16, 128, 1024), seconds=2, plain=False)
    return {"score": rows} | _encodes(model, None, threads, seconds=2)


def claims(threads: int) -> dict[str, Any]:
    """Eager against jit, as the seed's study did it."""
    import jax.numpy as jnp

    from benchmarks import phoenix_models as models
    from benchmarks.phoenix_rivals import Rivals

    model = models.tower(models.config(127))
    rivals, some = Rivals(model, models.viewer(model)), models.candidates(model, 64)
    return {
        "eager": race(
            {
                "eager float32": rivals.eager(some, jnp.float32), "jit float32": rivals.plain(some, jnp.float32),
                "eager bfloat16": rivals.eager(some, jnp.bfloat16), "jit bfloat16": rivals.plain(some, jnp.bfloat16),
            },
            seconds=3,
        )
    }  # fmt: skip


def main() -> None:
    """Run one part, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=(*PARTS, "page"))
    parser.add_argument("--cores", type=int, default=1, help="processors to use, for both sides (default 1)")
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    arguments = parser.parse_args()
    if arguments.part == "page":
        from scripts.performance.page import write

        write(json.loads(RESULTS.read_text()), arguments.page)
        return
    allowed = sorted(os.sched_getaffinity(0))[-arguments.cores :]
    os.sched_setaffinity(0, allowed)  # before JAX counts processors for its pool
    measured = peaks()
    part: dict[str, Any] = {"mini": mini, "history": history, "long": long, "wide": wide, "claims": claims}[
        arguments.part
    ](len(allowed))
    part |= {"peaks": measured, "cores": len(allowed)}
    everything = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    everything[f"{arguments.part} {len(allowed)}"] = part
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(everything, indent=1) + "\n")
    print(json.dumps(part, indent=1))


if __name__ == "__main__":
    main()

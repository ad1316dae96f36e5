"""``optimisations``: what compiling, caching and eight bits bring, measured on our engines with the published shapes.

Ratios of times are from one process, the two sides alternating, medians; they hold for the machine named in the result.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import jax
import numpy as np

from xfast.phoenix import Candidates, Engagements, PhoenixConfig, Ranker, model
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.quantization import quantize_tower, tower_sizes
from xfast.phoenix.stored import StoredParams
from xfast.phoenix.training import TrainConfig, default_model_config
from xfast.phoenix.training.initialise import fresh_tower
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series, Why

Engine = Literal["xla", "native"]
# Shapes of the published study: the small model, and the one with a long history.
SMALL = {"emb_size": 128, "key_size": 32, "num_heads": 4, "num_layers": 4, "num_actions": 19}
LARGE = {"emb_size": 512, "key_size": 64, "num_heads": 8, "num_kv_heads": 4, "num_layers": 12, "num_actions": 19}
TABLES = {"user_vocab_size": 2_000, "item_vocab_size": 4_000, "author_vocab_size": 1_000}


def config(sizes: dict[str, int], history: int, candidates: int) -> PhoenixConfig:
    """A ranker of these sizes in the numbering of the published runner."""
    return default_model_config(
        "ranker", **sizes, **TABLES, actions="runner19", history_seq_len=history, candidate_seq_len=candidates
    )  # fmt: skip


def alternate(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each way: one untimed call, then A B A B …"""
    for call in ways.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: float(np.median(each)) for name, each in taken.items()}


def random_inputs(
    settings: PhoenixConfig, batch: int, rng: np.random.Generator
) -> tuple[model.ContextInputs, model.CandidateInputs]:
    """Gathered inputs of a full batch without padding."""
    size, length, count = settings.emb_size, settings.history_seq_len, settings.candidate_seq_len

    def rows(*shape: int) -> np.ndarray:
        return rng.standard_normal((batch, *shape, size)).astype(np.float32)

    context = model.ContextInputs(
        rows(settings.num_user_hashes),
        np.ones(batch, bool),
        rows(length, settings.num_item_hashes),
        rows(length, settings.num_author_hashes),
        np.ones((batch, length), bool),
        (rng.random((batch, length, settings.num_actions)) < 0.1).astype(np.float32),
        np.zeros((batch, length), np.int32),
        np.zeros((batch, length), np.float32),
    )
    shape = (batch, count)
    candidates = model.CandidateInputs(
        rows(count, settings.num_item_hashes),
        rows(count, settings.num_author_hashes),
        np.ones(shape, bool),
        np.zeros(shape, np.int32),
        np.zeros(shape, np.int32),
    )
    return context, candidates


def compiled_against_eager(batch: int, *, history: int = 32, candidates: int = 8, rounds: int = 15) -> dict[str, float]:
    """Seconds of the small model operation by operation, and in one compiled function."""
    settings = config(SMALL, history, candidates)
    tower = fresh_tower("ranker", settings, TrainConfig(), 0)
    params = jax.device_put(dict(tower.params))
    inputs = jax.device_put(random_inputs(settings, batch, np.random.default_rng(0)))
    compiled = jax.jit(partial(model.ranker, config=settings))
    return alternate(
        {
            "eager": lambda: _wait(model.ranker(params, settings, *inputs)),
            "compiled": lambda: _wait(compiled(params, context=inputs[0], candidates=inputs[1])),
        },
        rounds,
    )


def _wait(output: model.RankerOutput) -> Any:
    return output.logits.block_until_ready()


def cached_against_full(
    sizes: dict[str, int],
    *,
    history: int,
    candidates: int = 8,
    rounds: int = 3,
    engines: Sequence[Engine] = ("xla", "native"),
) -> dict[str, dict[str, float]]:
    """Seconds of a full pass and of candidates against an encoded history, per engine, and how far the two differ.

    Returns
    -------
    Engine -> ``full``, ``hit`` (seconds) and ``difference`` (largest one of the probabilities).
    """
    settings = config(sizes, history, candidates)
    tower = fresh_tower("ranker", settings, TrainConfig(), 0)
    rng = np.random.default_rng(0)
    posts = rng.integers(1, 10**9, history + candidates).astype(np.uint64)
    authors = rng.integers(1, 10**6, history + candidates).astype(np.uint64)
    actions = (rng.random((history, settings.num_actions)) < 0.1).astype(np.float32)
    viewer = Engagements(7, posts[:history], authors[:history], actions)
    shown = Candidates(posts[history:], authors[history:])
    out: dict[str, dict[str, float]] = {}
    for engine in engines:
        ranker = Ranker(tower, engine=engine)
        context = ranker.encode(viewer)
        full, hit = ranker.score_uncached(viewer, shown), ranker.score(context, shown)
        taken = alternate(
            {
                "full": partial(ranker.score_uncached, viewer, shown),
                "hit": partial(ranker.score, context, shown),
            },
            rounds,
        )
        out[engine] = {**taken, "difference": float(np.abs(full.probabilities - hit.probabilities).max())}
    return out


def eight_bits(sizes: dict[str, int]) -> dict[str, float]:
    """Share of the dense float32 bytes that eight bits save: all matrices, and parts of them as the seed's quantiser.

    The seed is known to leave out half of the feed-forward matrices; what else it leaves out is not published.
    """
    settings = config(sizes, 32, 8)
    tower = fresh_tower("ranker", settings, TrainConfig(), 0)
    whole = quantize_tower(tower)
    parts = {
        "every matrix": lambda key: True,
        "layers only": lambda key: key.startswith("transformer/"),
        "attention and half of the feed-forward": _half,
        "attention only": lambda key: "multi_head_attention" in key,
    }
    return {name: _saved(tower, whole, chosen) for name, chosen in parts.items()}


def _half(key: str) -> bool:
    """Attention, and half of the feed-forward matrices: one per layer, another one in every other layer."""
    layer = key.startswith("transformer/") and int(key.split("/")[1].rsplit("_", 1)[1])
    return (
        "multi_head_attention" in key or key.endswith("/linear_v/w") or (key.endswith("/linear_1/w") and layer % 2 == 0)
    )


def _saved(tower: Tower, whole: Tower, chosen: Callable[[str], bool]) -> float:
    """Saving when only the chosen parameters become eight bits wide."""
    assert isinstance(whole.params, StoredParams)
    stored = whole.params.stored
    mixed = {key: stored[key] if chosen(key) else value for key, value in tower.params.items()}
    dense = tower_sizes(tower, replace(whole, params=StoredParams(mixed)))[0]
    return dense.saved


def run(context: Context) -> Result:
    """Speed of compiling and caching, size of eight bits."""
    full = context.tier == "full"
    rounds = context.count(15, 2)
    small = SMALL if full else {**SMALL, "num_layers": 1, "emb_size": 32, "key_size": 16, "num_heads": 2}
    large = LARGE if full else small
    eager = {batch: compiled_against_eager(batch, rounds=rounds) for batch in ((1, 4) if full else (1,))}
    speedup = {batch: taken["eager"] / taken["compiled"] for batch, taken in eager.items()}
    engines: tuple[Engine, ...] = ("xla", "native") if full else ("native",)  # compiling takes seconds
    kept = cached_against_full(large, history=context.count(1_023, 31), rounds=context.count(3, 1), engines=engines)
    ratios = {engine: taken["full"] / taken["hit"] for engine, taken in kept.items()}
    across = kept[engines[0]]["full"] / kept["native"]["hit"]
    bits = {"L4_d128": eight_bits(small), "L12_d512": eight_bits(large)}
    milliseconds = ", ".join(
        f"{engine} {taken['full'] * 1e3:.1f} → {taken['hit'] * 1e3:.2f} ms" for engine, taken in kept.items()
    )
    places = [float(i) for i in range(len(bits["L4_d128"]))]
    return Result(
        {
            "optim.jit_speedup_small": speedup[1],
            "optim.kv_speedup_L12_d512_hist1023_cand8": ratios[engines[0]],
            **{f"optim.int8_param_reduction_{name}": found["every matrix"] for name, found in bits.items()},
        },
        whys={
            **{
                f"optim.int8_param_reduction_{name}": Why(
                    "every matrix is covered here, the published quantiser skips an unpublished part of them; saved "
                    "share of the dense bytes by what is covered",
                    dict(found),
                )
                for name, found in bits.items()
            },
            "optim.jit_speedup_small": Why(
                "the batch of the published measurement is not stated",
                {f"batch {batch}": ratio for batch, ratio in speedup.items()},
            ),
            "optim.kv_speedup_L12_d512_hist1023_cand8": Why(
                f"full pass → hit: {milliseconds}", {f"{engine} engine": ratio for engine, ratio in ratios.items()}
            ),
        },
        detail={
            "machine": f"{platform.machine()}, {len(_cores())} core(s) allowed, jax {jax.__version__}",
            "eager_and_compiled_seconds": eager,
            "full_and_hit_seconds": kept,
            "speedup_by_engine": ratios,
            "native_hit_against_xla_full": across,
            "int8_saved": bits,
        },
        figures={
            "optimisations": Figure(
                "Dense parameters: bytes saved by eight bits, by what is covered",
                ", ".join(f"{i}: {name}" for i, name in enumerate(bits["L4_d128"])),
                "share of the float32 bytes",
                [Series(name, places, list(found.values()), kind="bars") for name, found in bits.items()],
            )
        },
    )


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0)


EXPERIMENT = Experiment("optimisations", "compiling, caching and eight bits on our engines", (Part("engines", run),))

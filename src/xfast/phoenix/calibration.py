"""Eight-bit weights chosen with real viewers: what the matrices are multiplied with decides how they are rounded.

Two means, alone and together, beside rounding to the nearest; :func:`calibrate` takes the one that measures best on
viewers it did not learn from.

*Balancing* moves magnitude between the two operands of a product: the engine quantises activations per token, so one
large channel costs all others their digits. Channel ``j`` is divided by ``s_j`` on the side that feeds the product (a
norm scale, value columns, the linear half of the feed-forward layer) and row ``j`` of the matrix is multiplied by it.
With ``s_j`` a power of two this changes not one bit of a float32 result.

*Compensated rounding* (:func:`xfast.phoenix.quantization.compensated`) makes the error of the *product* small rather
than that of the matrix, given how the inputs go together. Balancing follows Xiao et al. (SmoothQuant,
arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.errors import DataError
from xfast.phoenix import model
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.engines import xla
from xfast.phoenix.features import CandidateFeatures, Candidates, ContextFeatures, Engagements
from xfast.phoenix.layout import layer_prefix
from xfast.phoenix.quantization import HeadStorage, compensated, quantize_params, quantize_tables
from xfast.phoenix.ranker import Ranker
from xfast.phoenix.stored import Int8Matrix
from xfast.phoenix.training.sequences import Sequences

__all__ = ["Calibration", "Statistics", "ViewerList", "balanced", "calibrate", "viewer_lists"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Params = Mapping[str, F32]
ATTENTION = "multi_head_attention/"
SHORTEST_HISTORY = 5
#: Share of the magnitude that balancing moves from the activations into the weights.
STRENGTHS = (0.5, 0.75)
_LARGEST_MOVE = 10  # powers of two


# --- viewers ---------------------------------------------------------------------------------------------------------


class ViewerList(NamedTuple):
    """A viewer at a moment, and posts to rank."""

    engagements: Engagements
    candidates: Candidates
    later: npt.NDArray[np.int64]
    """[C] the row in which the viewer meets the post later, or -1"""


def viewer_lists(
    sequences: Sequences,
    config: PhoenixConfig,
    count: int,
    *,
    candidates: int = 32,
    seed: int = 0,
    rows: npt.NDArray[np.int64] | None = None,
) -> list[ViewerList]:
    """Distinct requests out of real histories: half of the posts the viewer meets next, the others drawn by chance.

    Parameters
    ----------
    sequences
        Where they come from.
    config
        The model's; its history length cuts the histories.
    count
        How many lists; fewer come back where the events hold fewer moments.
    candidates
        Posts per list.
    seed
        Decides which.
    rows
        Rows that may be the moment; any by default. A moment has at least five engagements before it.

    Raises
    ------
    DataError
        No row has enough history before it, or there are fewer posts than ``candidates``.
    """
    if len(sequences.posts) < candidates:
        raise DataError(f"the events hold {len(sequences.posts)} posts, lists of {candidates} need more")
    moments = np.arange(len(sequences)) if rows is None else np.asarray(rows)
    moments = moments[sequences.seen[moments] >= SHORTEST_HISTORY]
    if not len(moments):
        raise DataError(f"no viewer in the events has {SHORTEST_HISTORY} engagements before another row")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(moments)[:count]
    return [_viewer_list(sequences, config, int(row), candidates, rng) for row in chosen]


def _viewer_list(
    sequences: Sequences, config: PhoenixConfig, row: int, count: int, rng: np.random.Generator
) -> ViewerList:
    user, now = int(sequences.user[row]), int(sequences.time_s[row])
    begin, end = sequences.offsets[user], sequences.offsets[user + 1]
    mine = np.arange(begin, end)
    past = mine[sequences.actions[begin:end] != 0][: sequences.seen[row]][-config.history_seq_len :]
    ahead = np.arange(row, end)
    posts, first = np.unique(sequences.post[ahead], return_index=True)
    soonest = np.argsort(first)[: count // 2]
    next_posts, later = posts[soonest], ahead[first[soonest]]
    pool = np.setdiff1d(np.flatnonzero(sequences.created_s <= now), next_posts)
    if len(pool) < count - len(next_posts):
        pool = np.setdiff1d(np.arange(len(sequences.posts)), next_posts)
    others = rng.choice(pool, count - len(next_posts), replace=False)
    chosen = np.concatenate([next_posts, others])
    order = rng.permutation(count)
    continuous = np.zeros((len(past), 8), np.float32)
    continuous[:, 1] = sequences.dwell_s[past]
    engagements = Engagements(
        int(sequences.users[user]), sequences.posts[sequences.post[past]],
        sequences.authors[sequences.post_author[sequences.post[past]]],
        sequences.action_matrix(past, config.num_actions), sequences.surface[past], continuous,
    )  # fmt: skip
    listed = Candidates(
        sequences.posts[chosen], sequences.authors[sequences.post_author[chosen]],
        impression_ts=np.full(count, now), created_ts=sequences.created_s[chosen],
    )  # fmt: skip
    return ViewerList(engagements, listed[order], np.concatenate([later, np.full(len(others), -1)])[order])


# --- what goes into the matrices -------------------------------------------------------------------------------------


@dataclass
class Statistics:
    """Inputs of the layers' matrices, by the key of the first matrix that reads them."""

    peaks: dict[str, F64] = field(default_factory=dict)
    """[in] largest magnitude per channel"""
    grams: dict[str, F64] = field(default_factory=dict)
    """[in, in] sum of outer products"""

    def add(self, key: str, inputs: F32) -> None:
        """Count inputs [tokens, in]."""
        wide = inputs.astype(np.float64)
        gram = wide.T @ wide
        self.grams[key] = self.grams[key] + gram if key in self.grams else gram
        peak = np.abs(wide).max(axis=0, initial=0.0)
        self.peaks[key] = np.maximum(self.peaks[key], peak) if key in self.peaks else peak


def _readers(layer: int) -> dict[str, tuple[str, ...]]:
    """The matrices of a layer that read each input of :func:`layer_inputs`."""
    at = layer_prefix(layer)
    heads = tuple(f"{at}{ATTENTION}{name}/w" for name in ("query", "key", "value"))
    return {
        heads[0]: heads,
        f"{at}{ATTENTION}linear/w": (f"{at}{ATTENTION}linear/w",),
        f"{at}linear/w": (f"{at}linear/w", f"{at}linear_v/w"),
        f"{at}linear_1/w": (f"{at}linear_1/w",),
    }


def layer_inputs(params: Any, config: PhoenixConfig, tokens: Array, positions: Array, mask: Array) -> dict[str, Array]:
    """Inputs [B, T, in] of the matrices of every layer of :func:`xfast.phoenix.model.transformer`, keyed as there."""
    inputs: dict[str, Array] = {}
    h = tokens
    for layer in range(config.num_layers):
        at = layer_prefix(layer)
        x = model.rms_norm(h, params[at + "rms_norm/scale"])
        query, key, value = model.project_qkv(params, config, layer, x, positions)
        mixed = model.attend(config, query, key, value, mask)
        attended = h + model.rms_norm(model.attention_output(params, layer, mixed), params[at + "rms_norm_1/scale"])
        y = model.rms_norm(attended, params[at + "rms_norm_2/scale"])
        gate = jnp.matmul(y, params[at + "linear/w"], precision="highest")
        hidden = jax.nn.gelu(gate, approximate=True) * jnp.matmul(y, params[at + "linear_v/w"], precision="highest")
        inputs |= dict(zip(_readers(layer), (x, mixed, y, hidden), strict=True))
        h = model.close_layer(params, layer, h, mixed)
    return inputs


@partial(jax.jit, static_argnames="config")
def _ranker_inputs(params: Any, context: Any, candidates: Any, places: Any, *, config: PhoenixConfig) -> Any:
    tokens, valid = model.ranker_tokens(params, config, context, candidates)
    start = places[0].shape[1]
    mask = model.ranker_mask(config, valid[:, :start], valid[:, start:])
    return layer_inputs(params, config, tokens, jnp.concatenate(places, axis=1), mask), valid


@partial(jax.jit, static_argnames="config")
def _retrieval_inputs(params: Any, context: Any, places: Any, *, config: PhoenixConfig) -> Any:
    tokens = model.context_tokens(params, config, "retrieval", context)
    valid = jnp.concatenate([context.user_valid[:, None], context.valid], axis=1)
    return layer_inputs(params, config, tokens, places, model.context_mask(valid, config.context_attention)), valid


def collect(tower: Tower, lists: Sequence[ViewerList]) -> Statistics:
    """Statistics of the valid tokens of some lists, in float32."""
    config, statistics = tower.config, Statistics()
    params = {key: jnp.asarray(value) for key, value in tower.params.items()}
    for one in lists:
        features = ContextFeatures.build(tower, one.engagements, keep="newest")
        ip = tower.name == "ranker" and config.num_ip_hashes > 0
        context, positions = xla.context_inputs(features, config.history_seq_len, config.emb_size, ip)
        if tower.name == "ranker":
            some = CandidateFeatures.build(tower, one.candidates)
            candidates, places = xla.candidate_inputs([some], len(some), 1)
            inputs, valid = _ranker_inputs(params, context, candidates, (positions, places), config=config)
        else:
            inputs, valid = _retrieval_inputs(params, context, positions, config=config)
        kept = np.asarray(valid[0])
        for key, array in inputs.items():
            statistics.add(key, np.asarray(array[0])[kept])
    return statistics


# --- the two means ---------------------------------------------------------------------------------------------------


def _divisors(peaks: F64, weights: F64, strength: float) -> F64:
    """Powers of two [in] that balance channels with these largest magnitudes in inputs and weights."""
    used = (peaks > 0) & (weights > 0)
    logs = np.zeros(len(peaks))
    logs[used] = strength * np.log2(peaks[used]) - (1 - strength) * np.log2(weights[used])
    if used.any():
        logs[used] -= logs[used].mean()  # a factor common to all channels changes nothing
    powers: F64 = np.exp2(np.clip(np.rint(logs), -_LARGEST_MOVE, _LARGEST_MOVE))
    return powers


def balanced(
    params: Params, config: PhoenixConfig, statistics: Statistics, strength: float
) -> tuple[dict[str, F32], Statistics]:
    """Parameters with the same float32 results bit for bit, easier to quantise, and the statistics that go with them.

    Parameters
    ----------
    params, config
        The model.
    statistics
        Of :func:`collect`.
    strength
        0 evens out the rows of the weights, 1 the channels of the activations.
    """
    changed = dict(params)
    moved = Statistics()

    def scale(key: str, factors: F64, axis: int) -> None:
        by = factors[:, None] if axis == 0 and changed[key].ndim == 2 else factors
        changed[key] = (changed[key] * by).astype(np.float32)

    for layer in range(config.num_layers):
        at = layer_prefix(layer)
        feeders = (at + "rms_norm/scale", f"{at}{ATTENTION}value/w", at + "rms_norm_2/scale", at + "linear_v/w")
        for (key, readers), feeder in zip(_readers(layer).items(), feeders, strict=True):
            peaks = statistics.peaks[key]
            weights = np.max([np.abs(params[one]).max(axis=1) for one in readers], axis=0).astype(np.float64)
            if feeder.endswith("value/w"):
                # Query heads of a group read the same value channel: one divisor for all of them.
                shape = (config.num_kv_heads, -1, config.key_size)
                shared = _divisors(
                    peaks.reshape(shape).max(axis=1).ravel(), weights.reshape(shape).max(axis=1).ravel(), strength
                )
                group = config.num_heads // config.num_kv_heads
                divisors = np.repeat(shared.reshape(shape[0], 1, shape[2]), group, axis=1).ravel()
                scale(feeder, 1 / shared, 1)
            else:
                divisors = _divisors(peaks, weights, strength)
                scale(feeder, 1 / divisors, 1)
            for one in readers:
                scale(one, divisors, 0)
            moved.peaks[key] = peaks / divisors
            moved.grams[key] = statistics.grams[key] / np.outer(divisors, divisors)
    return changed, moved


# --- the choice ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Calibration:
    """What :func:`calibrate` found."""

    tower: Tower
    """Quantised the best way."""
    method: str
    exact: Tower
    """The float32 model whose numbers were rounded: the given one, or balanced, with the same results bit for bit."""
    errors: Mapping[str, float]
    """Mean error of every method on the lists that were held back; see :func:`calibrate`."""
    lists: int
    """How many were learnt from, and as many were measured on."""


def calibrate(
    tower: Tower,
    lists: Sequence[ViewerList],
    say: Callable[[str], None] = lambda _: None,
    *,
    heads: HeadStorage = "float16",
) -> Calibration:
    """Quantise a tower in every way, and keep the one that measures best.

    Parameters
    ----------
    tower
        The float32 model.
    lists
        Of :func:`viewer_lists`; every other one is learnt from, the rest is measured on.
    say
        Called with a line of text per method.
    heads
        How output heads are kept (:func:`~xfast.phoenix.quantization.quantize_params`).

    Returns
    -------
    Calibration
        The error is, for the ranker, the mean absolute difference of a probability between the int8 engine with the
        quantised model and the float32 engine with the given one; for retrieval, the mean of one minus the cosine
        between user vectors.

    Raises
    ------
    DataError
        Fewer than two lists.
    """
    if len(lists) < 2:
        raise DataError(f"lists has {len(lists)} entries, calibration needs at least 2")
    learnt, held = lists[::2], lists[1::2]
    statistics = collect(tower, learnt)
    outputs = _ranker_outputs if tower.name == "ranker" else _user_vectors
    exact = outputs(tower, "float32", held)
    variants: dict[str, tuple[Params, Statistics]] = {"": (tower.params, statistics)}
    for strength in STRENGTHS:
        variants[f"balanced {strength}"] = balanced(tower.params, tower.config, statistics, strength)
    tables = quantize_tables(tower)  # no method changes what reads them
    errors: dict[str, float] = {}
    best: tuple[float, str, Tower, Tower] | None = None
    for name, (params, seen) in variants.items():
        for rounding in ("nearest", "compensated"):
            matrices = {} if rounding == "nearest" else _compensate_all(params, seen)
            method = f"{name}, {rounding}" if name else rounding
            dense = replace(tower, params=params)
            small = replace(tower, params=quantize_params(dense, matrices=matrices, heads=heads), tables=tables)
            error = float(np.mean([_difference(tower, a, b) for a, b in zip(exact, outputs(small, "int8", held))]))
            errors[method] = error
            say(f"{tower.name}: {method}: {error:.3g}")
            if best is None or error < best[0]:
                best = (error, method, small, dense)
    assert best is not None
    return Calibration(best[2], best[1], best[3], errors, len(learnt))


def _compensate_all(params: Params, statistics: Statistics) -> dict[str, Int8Matrix]:
    layers = sum(key.endswith(ATTENTION + "query/w") for key in params)
    return {
        reader: compensated(params[reader], statistics.grams[key])
        for layer in range(layers)
        for key, readers in _readers(layer).items()
        for reader in readers
    }


def _ranker_outputs(tower: Tower, precision: Any, lists: Sequence[ViewerList]) -> list[F32]:
    ranker = Ranker(tower, engine="native", precision=precision)
    contexts = [ranker.encode(one.engagements, keep="newest") for one in lists]
    return [scores.probabilities for scores in ranker.score_batch(contexts, [one.candidates for one in lists])]


def _user_vectors(tower: Tower, precision: Any, lists: Sequence[ViewerList]) -> list[F32]:
    from xfast.phoenix.engines.native import NativeRetrieval

    engine = NativeRetrieval(tower, precision)
    return [engine.encode(ContextFeatures.build(tower, one.engagements, keep="newest"))[0] for one in lists]


def _difference(tower: Tower, exact: F32, other: F32) -> float:
    if tower.name == "ranker":
        return float(np.abs(exact.astype(np.float64) - other).mean())
    return float(1 - exact.astype(np.float64) @ other)

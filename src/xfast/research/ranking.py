"""A ranker trained on MovieLens-100K the published way, and what its lists of eight are worth (RESEARCH §8).

The published study ranks one liked film among seven others from the same batch, by a model of 64 columns and 4 layers
trained with pairwise (BPR) or pointwise (BCE) loss. Its code is not used: data, model, training and engine are ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import kendalltau

from xfast.actions import PROTO
from xfast.phoenix import Candidates, Engagements, PhoenixConfig, Ranker
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.hashing import Kind
from xfast.phoenix.training import Sequences, TrainConfig, default_model_config
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.inputs import candidate_inputs, context_inputs
from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.towers import Rates, ranker_at_anchors
from xfast.research.environment import F64
from xfast.world import Interactions, import_movielens, interactions

FAVORITE = PROTO.column("favorite")
LIST = 8
LossName = Literal["bpr", "bce", "untrained"]
HISTORY = 64
NEGATIVES = 64
_NUMBER = np.uint64((1 << 22) - 1)  # a film's number stands in the low bits of its post id


@dataclass(frozen=True)
class Split:
    """Ratings of ML-100K: ``ua.base`` without a random tenth trains, the tenth validates, ``ua.test`` tests."""

    rows: Interactions
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(folder: Path) -> Split:
    """Read the folder; masks are over the interactions, in time order."""
    rows = interactions(import_movielens(folder).events)
    base = np.loadtxt(folder / "ua.base", np.int64)[:, :2]
    order = np.random.default_rng(42).permutation(len(base))
    cut = int(len(base) * 0.1)
    key = rows.user_id.astype(np.int64) * 100_000 + (rows.post_id & _NUMBER).astype(np.int64)
    train, validation = (np.isin(key, base[part] @ [100_000, 1]) for part in (order[cut:], order[:cut]))
    return Split(rows, train, validation, ~(train | validation))


@dataclass(frozen=True)
class Bpr:
    """Pairwise loss, a liked film above drawn ones of the same moment (:class:`xfast.phoenix.training.loop.Loss`)."""

    model: PhoenixConfig
    rates: Rates

    def __call__(
        self,
        params: Mapping[str, jax.Array],
        rows: Mapping[Kind, jax.Array],
        arrays: Mapping[str, jax.Array],
        key: jax.Array,
    ) -> jax.Array:
        """Mean ``softplus(r_drawn - r_liked)`` over pairs that share an anchor."""
        candidates = candidate_inputs(rows, arrays)
        anchors = arrays["anchors"]
        output = ranker_at_anchors(
            params, self.model, context_inputs(rows, arrays), candidates, anchors, self.rates, key
        )
        scores = output.logits[..., FAVORITE]
        liked, drawn = (arrays["labels"][..., FAVORITE] > 0)[:, :-NEGATIVES], candidates.valid[:, -NEGATIVES:]
        first, last = scores[:, :-NEGATIVES, None], scores[:, None, -NEGATIVES:]
        pairs = liked[:, :, None] & drawn[:, None, :]
        pairs &= anchors[:, :-NEGATIVES, None] == anchors[:, None, -NEGATIVES:]
        return jnp.asarray(jnp.sum(jax.nn.softplus(last - first) * pairs) / jnp.maximum(pairs.sum(), 1))


def settings(sequences: Sequences) -> PhoenixConfig:
    """The published sizes: 64 columns, 4 layers."""
    return default_model_config(
        "ranker", emb_size=64, key_size=16, num_heads=4, num_layers=4, history_seq_len=HISTORY, candidate_seq_len=LIST,
        user_vocab_size=2 * len(sequences.users), item_vocab_size=2 * len(sequences.posts),
        author_vocab_size=2 * len(sequences.authors) + 2,
    )  # fmt: skip


def train(sequences: Sequences, loss: LossName, *, epochs: int, rate: float = 5e-4, seed: int = 0) -> Tower:
    """Fit a ranker; negatives come in proportion to popularity, as films of other users' batches do."""
    config = TrainConfig(
        epochs=epochs, batch_size=32, weight_decay=1e-4, dense_learning_rate=rate, random_negatives=NEGATIVES,
        negative_power=1.0, post_age=False, user_dropout=0.1, warmup_steps=20,
    )  # fmt: skip
    model = settings(sequences)
    tower = fresh_tower("ranker", model, config, seed)
    if loss == "untrained":
        return tower
    task = RankerTask(sequences, model, config)
    if loss == "bpr":
        rates = Rates(config.embedding_dropout, config.residual_dropout, config.user_dropout)
        task.loss = Bpr(model, rates)  # type: ignore[assignment]
    return Trainer(task, tower, seed=seed).run().tower


@dataclass(frozen=True)
class Case:
    """One list: a viewer's history, eight films, the liked one first."""

    viewer: Engagements
    candidates: Candidates


def cases(data: Split, chosen: np.ndarray, *, limit: int, popular: bool = True, seed: int = 0) -> list[Case]:
    """Lists for liked rows of a mask; the other films are those of random rows of the mask (or of the catalogue).

    The viewer's history holds training rows alone, older than the liked one.
    """
    rng = np.random.default_rng(seed)
    rows = data.rows
    liked = np.flatnonzero(chosen & (rows.actions >> np.uint64(FAVORITE) & np.uint64(1)).astype(bool))
    others = np.flatnonzero(chosen)
    known = data.rows.take(np.flatnonzero(data.train))
    histories = known.histories()
    catalogue, first = np.unique(rows.post_id, return_index=True)
    rated = {int(u): set(rows.post_id[rows.user_id == u].tolist()) for u in np.unique(rows.user_id)}
    out = []
    for row in rng.permutation(liked):
        user = int(rows.user_id[row])
        past = histories.of(user)
        past = past[known.time_ms[past] <= rows.time_ms[row]][-HISTORY:]
        if len(past) < 5:
            continue
        picked = [int(row)]
        while len(picked) < LIST:
            other = int(rng.choice(others)) if popular else int(first[rng.integers(len(catalogue))])
            post = int(rows.post_id[other])
            if post not in rated[user] and post not in rows.post_id[picked].tolist():
                picked.append(other)
        out.append(
            Case(
                Engagements(user, known.post_id[past], known.author_id[past], known.action_matrix(past)),
                Candidates(rows.post_id[picked], rows.author_id[picked]),
            )
        )
        if len(out) == limit:
            break
    return out


def scores(ranker: Ranker, lists: Sequence[Case]) -> F64:
    """Favorite logits ``[lists, 8]``."""
    found = [ranker.score(ranker.encode(case.viewer, keep="newest"), case.candidates).logits for case in lists]
    return np.stack(found)[:, :, FAVORITE].astype(np.float64)


def ndcg3(found: F64) -> F64:
    """NDCG@3 of each list ``[n, 8]`` whose first film is the liked one; equal scores count against it."""
    rank = (found[:, 1:] >= found[:, :1]).sum(axis=1)
    return np.where(rank < 3, 1.0 / np.log2(rank + 2.0), 0.0)


def overlap3(left: F64, right: F64) -> F64:
    """Share of common films among the first three of each list."""
    a, b = (np.argsort(-each, axis=1, kind="stable")[:, :3] for each in (left, right))
    return np.asarray((a[:, :, None] == b[:, None, :]).any(axis=2).mean(axis=1))


def order_changes(before: F64, after: F64) -> tuple[float, float]:
    """Share of lists whose first film changes, and mean Kendall tau of the two orders."""
    changed = float(np.mean(before.argmax(axis=1) != after.argmax(axis=1)))
    return changed, float(np.mean([kendalltau(a, b).statistic for a, b in zip(before, after, strict=True)]))


def without(case: Case, keep: float) -> Case:
    """The list with only the oldest `keep` share of the history: what would have been shown without the rest."""
    viewer = case.viewer
    count = round(keep * len(viewer.post_ids))
    shorter = Engagements(viewer.user_id, viewer.post_ids[:count], viewer.author_ids[:count], viewer.actions[:count])
    return Case(shorter, case.candidates)


def engage(case: Case, place: int) -> Case:
    """The list after the viewer liked one of its films."""
    viewer, films = case.viewer, case.candidates
    action = np.zeros((1, viewer.actions.shape[1]), np.float32)
    action[0, FAVORITE] = 1.0
    after = Engagements(
        viewer.user_id,
        np.append(viewer.post_ids, films.post_ids[place]),
        np.append(viewer.author_ids, films.author_ids[place]),
        np.vstack([viewer.actions, action]),
    )
    return Case(after, films)


def trajectory_tau(ranker: Ranker, lists: Sequence[Case], *, steps: int = 5) -> float:
    """Mean Kendall tau of consecutive rankings while the viewer likes the best film that is left."""
    taus = []
    for case in lists:
        seen: list[int] = []
        ranking = scores(ranker, [case])[0]
        for _ in range(steps):
            place = next(int(i) for i in np.argsort(-ranking, kind="stable") if int(i) not in seen)
            seen.append(place)
            case = engage(case, place)
            following = scores(ranker, [case])[0]
            taus.append(kendalltau(ranking, following).statistic)
            ranking = following
    return float(np.mean(taus))

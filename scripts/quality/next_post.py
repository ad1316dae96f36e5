"""Leave-last-out over the whole catalogue: retrieval towers beside popularity, two item-kNN and EASE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.phoenix.layout import LOG_TEMPERATURE
from xfast.phoenix.training import Progress, Sequences, TrainConfig, default_model_config, train_retrieval
from xfast.phoenix.training.baselines import Scorer, baselines
from xfast.phoenix.training.evaluation import before_last, catalogue_ranks, leave_last_out
from xfast.phoenix.training.metrics import Interval, bootstrap, ndcg
from xfast.phoenix.training.scoring import RetrievalScorer

F32 = npt.NDArray[np.float32]

RUN = TrainConfig(
    epochs=16, batch_size=64, shuffle_ties=True, negatives="catalogue", dense_learning_rate=5e-3,
    table_learning_rate=0.1, embedding_dropout=0.3, residual_dropout=0.2, user_dropout=0.5, weight_decay=0.01,
)  # fmt: skip
# Short: the user vector is a mean over tokens, in which a long past outweighs what is being watched now.
MODEL = default_model_config("retrieval", history_seq_len=8)
SEEDS = (0, 1)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Mean of the probabilities that several models give to every post."""

    scorers: list[RetrievalScorer]
    temperatures: list[float]

    def scores(self, sequences: Sequences, users: npt.NDArray[np.int32], histories: list[npt.NDArray[np.int64]]) -> F32:
        """See :class:`xfast.phoenix.training.baselines.Scorer`."""
        total = np.zeros((len(users), len(sequences.posts)), np.float64)
        for scorer, temperature in zip(self.scorers, self.temperatures):
            logits = scorer.scores(sequences, users, histories) / temperature
            odds = np.exp(logits - logits.max(1, keepdims=True))
            total += odds / odds.sum(1, keepdims=True)
        return total.astype(np.float32)


def choose(sequences: Sequences, lengths: Sequence[int], say: Callable[[str], None]) -> dict[int, Interval]:
    """NDCG@10 by history length on the five ratings before the last of every user; the last one is never read.

    The models learn from all that comes before these five.
    """
    past = sequences.without_last(1)
    train = sequences.without_last(6)
    rows = np.flatnonzero(np.arange(len(past)) >= past.offsets[1:][past.user] - 5)
    found = {}
    for length in lengths:
        tower = train_retrieval(train, RUN, MODEL.replace(history_seq_len=length), seed=0).tower
        ranks = catalogue_ranks(past, RetrievalScorer(past, tower), rows)
        found[length] = bootstrap(ndcg(ranks, 10), np.random.default_rng(0))
        say(f"history of {length}: NDCG@10 {found[length]} on {len(rows):,} earlier ratings")
    return found


def run(sequences: Sequences, say: Callable[[str], None]) -> dict[str, Any]:
    """Train, measure, and say which goals are met."""
    train = before_last(sequences)
    say("fitting the baselines")
    scorers: dict[str, Scorer] = dict(baselines(train))
    towers, temperatures = [], []
    for seed in SEEDS:

        def on_step(progress: Progress, seed: int = seed) -> None:
            if progress.step % 100 == 0 or progress.step == progress.total_steps:
                rate = f"{progress.examples_per_second:,.0f} examples/s"
                say(f"retrieval, seed {seed}: step {progress.step}/{progress.total_steps}, {progress.loss:.3f}, {rate}")

        tower = train_retrieval(train, RUN, MODEL, seed=seed, on_step=on_step).tower
        towers.append(RetrievalScorer(sequences, tower))
        temperatures.append(float(np.exp(tower.params[LOG_TEMPERATURE])))
        scorers[f"Phoenix retrieval, seed {seed}"] = towers[-1]
    if len(towers) > 1:
        scorers[f"Phoenix retrieval, {len(towers)} seeds averaged"] = Mixture(towers, temperatures)
    say("measuring")
    results = leave_last_out(sequences, scorers, np.random.default_rng(0))
    of = {result.name: result for result in results}
    ours, full, recent = of["Phoenix retrieval, seed 0"], of["item-kNN, full history"], of["item-kNN, last 3"]
    rng = np.random.default_rng(1)
    value = {result.name: result.metrics["NDCG@10"].value for result in results}
    difference = bootstrap(ndcg(results[-1].ranks, 10) - ndcg(recent.ranks, 10), rng)
    single = bootstrap(ndcg(ours.ranks, 10) - ndcg(recent.ranks, 10), rng)
    return {
        "users": ours.users,
        "rows": [{"name": r.name, **{k: [v.value, v.low, v.high] for k, v in r.metrics.items()}} for r in results],
        "ratio_to_full_knn": value[ours.name] / value[full.name],
        "single_minus_recent_knn": [single.value, single.low, single.high],
        "best_minus_recent_knn": [difference.value, difference.low, difference.high],
        "goals": {
            "NDCG@10 at least 1.5 x item-kNN (full history)": value[ours.name] >= 1.5 * value[full.name],
            "NDCG@10 above item-kNN (last 3)": value[ours.name] > value[recent.name],
        },
    }

"""What a model is worth: per-action quality on rows, recall of retrieval, and the next post against the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.training.baselines import Scorer
from xfast.phoenix.training.metrics import (
    Interval,
    auc,
    bootstrap,
    calibration_error,
    hit_rate,
    log_loss,
    ndcg,
    rank_in_catalogue,
)
from xfast.phoenix.training.sequences import Sequences

__all__ = [
    "ActionQuality",
    "LeaveLastOut",
    "action_quality",
    "catalogue_ranks",
    "leave_last_out",
    "next_post_ranks",
    "recall",
]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ActionQuality:
    """How well one action was predicted on some rows."""

    action: str
    rows: int
    positives: int
    auc: float
    log_loss: float
    calibration_error: float
    base_log_loss: float
    """Of always predicting the share of positives: what a model must beat."""


def action_quality(sequences: Sequences, rows: I64, logits: F32, tower: Tower) -> list[ActionQuality]:
    """Quality of every action that occurs among ``rows``, in the order of the heads; logits are [len(rows), A]."""
    config = tower.config
    report = []
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for action, column in config.vocabulary.heads(config.num_actions).items():
        labels = (sequences.actions[rows] >> np.uint64(column)) & np.uint64(1) == 1
        if not labels.any():
            continue
        own = probabilities[:, column]
        base = np.full(len(rows), labels.mean())
        report.append(
            ActionQuality(
                action,
                len(rows),
                int(labels.sum()),
                auc(own, labels),
                log_loss(own, labels),
                calibration_error(own, labels),
                log_loss(base, labels),
            )
        )
    return report


@dataclass(frozen=True)
class LeaveLastOut:
    """Leave-last-out quality of one scorer over the whole catalogue, with 95 % bootstrap intervals over users."""

    name: str
    users: int
    metrics: Mapping[str, Interval]
    """"HR@10", "HR@50", "NDCG@10"."""
    ranks: npt.NDArray[np.int64]
    """[users] rank of the last post among those that the user had not acted on, 0 = first."""


def last_rows(sequences: Sequences) -> I64:
    """The last acted row of every user with at least two."""
    acted = np.flatnonzero(sequences.actions != 0)
    users = sequences.user[acted]
    last = np.flatnonzero(np.r_[users[1:] != users[:-1], True])
    enough = np.r_[-1, last[:-1]] < last - 1
    if not enough.any():
        raise DataError("no user has two posts that were acted on: nothing to leave out")
    rows: I64 = acted[last[enough]]
    return rows


def before_last(sequences: Sequences) -> Sequences:
    """What leave-last-out models may train on: everything of a user before the last acted row."""
    keep = np.ones(len(sequences), bool)
    last = np.full(len(sequences.users), np.iinfo(np.int64).max)
    rows = last_rows(sequences)
    last[sequences.user[rows]] = rows
    keep &= np.arange(len(sequences)) < last[sequences.user]
    return sequences.keep(keep)


def next_post_ranks(sequences: Sequences, scorer: Scorer, *, block: int = 256) -> npt.NDArray[np.int64]:
    """Rank of every user's last post in the whole catalogue by ``scorer``; posts acted on before do not count."""
    rows = last_rows(sequences)
    ranks = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        users = sequences.user[part]
        histories = []
        for row in part:
            own = np.arange(sequences.offsets[sequences.user[row]], row)
            histories.append(own[sequences.actions[own] != 0])
        for i, scores in enumerate(scorer.scores(sequences, users, histories)):
            target = int(sequences.post[part[i]])
            known = sequences.post[histories[i]]
            ranks[start + i] = rank_in_catalogue(scores, target, known[known != target])
    return ranks


def leave_last_out(sequences: Sequences, scorers: Mapping[str, Scorer], rng: np.random.Generator) -> list[LeaveLastOut]:
    """Measure scorers that were fitted on :func:`before_last`."""
    results = []
    for name, scorer in scorers.items():
        ranks = next_post_ranks(sequences, scorer)
        values = {"HR@10": hit_rate(ranks, 10), "HR@50": hit_rate(ranks, 50), "NDCG@10": ndcg(ranks, 10)}
        results.append(
            LeaveLastOut(name, len(ranks), {key: bootstrap(value, rng) for key, value in values.items()}, ranks)
        )
    return results


def recall(
    sequences: Sequences, scorer: Any, rows: I64, rng: np.random.Generator, *, at: Sequence[int] = (50, 200)
) -> dict[str, Interval]:
    """Share of ``rows`` whose post is among the first k of :func:`catalogue_ranks`."""
    ranks = catalogue_ranks(sequences, scorer, rows)
    return {f"recall@{k}": bootstrap(hit_rate(ranks, k), rng) for k in at}


def catalogue_ranks(sequences: Sequences, scorer: Any, rows: I64) -> I64:
    """Rank of the post of each row in the whole catalogue just before the row; posts acted on by then do not count.

    ``scorer`` is a :class:`~xfast.phoenix.training.scoring.RetrievalScorer`.
    """
    ranks = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        for i, scores in enumerate(scorer.scores_of_rows(part)):
            row = part[i]
            own = np.arange(sequences.offsets[sequences.user[row]], row)
            known = sequences.post[own[sequences.actions[own] != 0]]
            target = int(sequences.post[row])
            ranks[start + i] = rank_in_catalogue(scores, target, known[known != target])
    return ranks

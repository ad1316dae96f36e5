"""Prequential training: predict what comes next, then learn from it, like a model that is trained while it serves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.scoring import RankerScorer
from xfast.phoenix.training.sequences import Sequences

__all__ = ["predict_then_learn"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


def predict_then_learn(
    trainer: Trainer,
    task: RankerTask,
    rows: I64,
    *,
    block: int = 500,
    steps_per_block: int = 4,
    replay: float = 0.5,
    seed: int = 0,
) -> F32:
    """Predict rows in time order, learning from each block after it was predicted.

    A row's prediction sees the user's own rows before it, also those of its block, through the history; weights have
    seen rows of earlier blocks only. Nothing later is touched.

    Parameters
    ----------
    trainer, task
        A run over ``task``, whose sequences hold all rows; it goes on at the end of its schedule's rate.
    rows
        Rows to predict, in time order.
    block
        Rows between updates.
    steps_per_block
        Steps after each block; windows are drawn from the rows so far.
    replay
        Share of a batch's windows that come from any user; the others are of users in the block.
    seed
        For the choice of windows.

    Returns
    -------
    logits [len(rows), A]
    """
    data: Sequences = task.sequences
    parts = []
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        scorer = RankerScorer(data, trainer.tower(), post_age=task.config.post_age)
        parts.append(scorer.logits_of_rows(part)[0])
        known = data.order <= data.order[part].max()
        rng = np.random.default_rng([seed, start])
        recent = np.isin(data.user, data.user[part])
        others = rng.random(len(data.users)) < replay * recent.sum() / max(len(data), 1) + 0.02
        chosen = known & (recent | others[data.user])
        for number, windows in enumerate(task.windows(chosen).epoch(rng, task.config.batch_size)):
            if number == steps_per_block:
                break
            trainer.train_batch(windows)
    return np.concatenate(parts)

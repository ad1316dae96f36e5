"""Will they like it? Rating >= 4 on the last tenth by time: the ranker beside an online user + item bias model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.actions import DISCRETE_HEADS
from xfast.phoenix.training import Progress, Sequences, TrainConfig, default_model_config
from xfast.phoenix.training.baselines import OnlineBias
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.metrics import Interval, auc, bootstrap, calibration_error, log_loss, paired_auc_difference
from xfast.phoenix.training.online import predict_then_learn
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.scoring import RankerScorer
from xfast.world.movielens import ratings_of

# The four actions that tell one rating from another; click and not_dwelled follow from them, the others never occur.
_TOLD = {"favorite": 1.0, "dwell": 0.3, "share": 0.3, "not_interested": 0.3}
RUN = TrainConfig(
    epochs=6, batch_size=32, dense_learning_rate=2e-3, warmup_steps=20, table_learning_rate=0.02, final_fraction=0.1,
    embedding_dropout=0.3, residual_dropout=0.2, user_dropout=0.7, shuffle_ties=True, window_stride=64,
    examples_per_window=128, post_age=False, action_weights={name: _TOLD.get(name, 0.0) for name in DISCRETE_HEADS},
)  # fmt: skip
MODEL = default_model_config("ranker", history_seq_len=128)
TRAIN_SHARE = 0.9
# The number of epochs is chosen on the tenth before the measured one, from at most so many of its rows.
VALIDATION_SHARE = 0.1
VALIDATION_ROWS = 5_000
PATIENCE = 2


def is_liked(sequences: Sequences, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether rows [N] are ratings of 4 or 5."""
    liked: npt.NDArray[np.bool_] = (sequences.actions[rows] >> np.uint64(_favorite())) & np.uint64(1) == 1
    return liked


def _favorite() -> int:
    return MODEL.vocabulary.column("favorite")


def choose_epochs(sequences: Sequences, say: Callable[[str], None]) -> list[float]:
    """AUC after every epoch on rows before the measured ones, by a model that has not seen these; stops after the best.

    Nothing of the measured tenth is read: the model learns from the first eight tenths of the rows by time.
    """
    start = round((TRAIN_SHARE - VALIDATION_SHARE) * len(sequences))
    rows = np.argsort(sequences.order)[start : round(TRAIN_SHARE * len(sequences))]
    if len(rows) > VALIDATION_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(rows, VALIDATION_ROWS, replace=False))
    task = RankerTask(sequences, MODEL, RUN, examples=sequences.order < start)
    trainer = Trainer(task, fresh_tower("ranker", MODEL, RUN, 0), seed=0)
    found: list[float] = []
    while len(found) < RUN.epochs and len(found) - int(np.argmax([0, *found])) < PATIENCE:
        trainer.run(stop_after=(len(found) + 1) * task.steps_per_epoch())
        scorer = RankerScorer(sequences, trainer.tower(), post_age=RUN.post_age)
        found.append(auc(scorer.logits_of_rows(rows)[0][:, _favorite()], is_liked(sequences, rows)))
        say(f"ranker, choosing: AUC {found[-1]:.4f} on earlier rows after {len(found)} epochs")
    return found


def run(sequences: Sequences, say: Callable[[str], None]) -> dict[str, Any]:
    """Choose the number of epochs, train on the first nine tenths, predict the rest row by row, compare."""
    count = round(TRAIN_SHARE * len(sequences))
    in_time = np.argsort(sequences.order)
    past, rows = in_time[:count], in_time[count:]
    favorite, liked = _favorite(), is_liked(sequences, rows)
    stars = ratings_of(sequences.actions).astype(np.float64)

    say("fitting user + item bias")
    bias = OnlineBias(len(sequences.users), len(sequences.posts))
    bias.fit(sequences.user[past], sequences.post[past], stars[past])
    static = np.array([bias.predict(u, p) for u, p in zip(sequences.user[rows], sequences.post[rows])])
    online = bias.run(sequences.user[rows], sequences.post[rows], stars[rows])

    validation = choose_epochs(sequences, say)
    epochs = 1 + int(np.argmax(validation))
    task = RankerTask(sequences, MODEL, RUN, examples=sequences.order < count)
    trainer = Trainer(task, fresh_tower("ranker", MODEL, RUN, 0), seed=0)
    steps = epochs * task.steps_per_epoch()

    def on_step(progress: Progress) -> None:
        if progress.step % 40 == 0 or progress.step == steps:
            rate = f"{progress.examples_per_second:,.0f} examples/s"
            say(f"ranker: step {progress.step}/{steps}, loss {progress.loss:.3f}, {rate}")

    trainer.run(on_step=on_step, stop_after=steps)
    say("predicting the last tenth, weights fixed")
    fixed = RankerScorer(sequences, trainer.tower(), post_age=RUN.post_age).logits_of_rows(rows)[0][:, favorite]
    say("predicting the last tenth, learning after every 500 rows")
    learning = predict_then_learn(trainer, task, rows)[:, favorite]

    rng = np.random.default_rng(0)
    users = sequences.user[rows]
    known = np.isin(users, sequences.user[past])
    by_row = paired_auc_difference(fixed, online, liked, rng)
    by_user = paired_auc_difference(fixed, online, liked, rng, groups=users)
    learning_by_user = paired_auc_difference(learning, online, liked, rng, groups=users)
    probability = 1 / (1 + np.exp(-fixed.astype(np.float64)))

    def bounds(interval: Interval) -> list[float]:
        return [interval.value, interval.low, interval.high]

    return {
        "rows": len(rows),
        "rows_of_unknown_users": int((~known).sum()),
        "auc": {
            "user + item bias, static": auc(static, liked),
            "user + item bias, updated after every row": auc(online, liked),
            "Phoenix ranker, weights fixed": auc(fixed, liked),
            "Phoenix ranker, learning after every 500 rows": auc(learning, liked),
        },
        "auc_known_users": [auc(online[known], liked[known]), auc(fixed[known], liked[known])],
        "auc_unknown_users": [auc(online[~known], liked[~known]), auc(fixed[~known], liked[~known])],
        "difference_by_row": bounds(by_row),
        "difference_by_user": bounds(by_user),
        "learning_difference_by_user": bounds(learning_by_user),
        "validation": validation,
        "log_loss": log_loss(probability, liked),
        "calibration_error": calibration_error(probability, liked),
        "base_rate": bounds(bootstrap(liked.astype(np.float64), rng)),
        "goals": {
            "liked AUC above the online bias model, interval over rows above 0": by_row.low > 0,
            "liked AUC above the online bias model, interval over users above 0": by_user.low > 0,
        },
    }

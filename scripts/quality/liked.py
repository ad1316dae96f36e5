"""Will they like it? Rating >= 4 on the last tenth by time: the ranker beside an online user + item bias model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xfast.phoenix.training import Progress, Sequences, TrainConfig, default_model_config
from xfast.phoenix.training.baselines import OnlineBias
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.metrics import Interval, auc, bootstrap, calibration_error, log_loss, paired_auc_difference
from xfast.phoenix.training.online import predict_then_learn
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.scoring import RankerScorer
from xfast.world.movielens import ratings_of

RUN = TrainConfig(
    epochs=5, batch_size=32, dense_learning_rate=2e-3, table_learning_rate=0.05, final_fraction=0.1,
    embedding_dropout=0.3, residual_dropout=0.2, user_dropout=0.7, examples_per_window=128, post_age=False,
    action_weights={"favorite": 1.0, "dwell": 0.3, "share": 0.3, "not_interested": 0.3, "not_dwelled": 0, "click": 0},
)  # fmt: skip
MODEL = default_model_config("ranker", history_seq_len=128)
TRAIN_SHARE = 0.9


def run(sequences: Sequences, say: Callable[[str], None]) -> dict[str, Any]:
    """Train on the first nine tenths, predict the rest row by row, compare."""
    count = round(TRAIN_SHARE * len(sequences))
    in_time = np.argsort(sequences.order)
    past, rows = in_time[:count], in_time[count:]
    favorite = MODEL.vocabulary.column("favorite")
    liked = (sequences.actions[rows] >> np.uint64(favorite)) & np.uint64(1) == 1
    stars = ratings_of(sequences.actions).astype(np.float64)

    say("fitting user + item bias")
    bias = OnlineBias(len(sequences.users), len(sequences.posts))
    bias.fit(sequences.user[past], sequences.post[past], stars[past])
    static = np.array([bias.predict(u, p) for u, p in zip(sequences.user[rows], sequences.post[rows])])
    online = bias.run(sequences.user[rows], sequences.post[rows], stars[rows])

    task = RankerTask(sequences, MODEL, RUN, examples=sequences.order < count)
    trainer = Trainer(task, fresh_tower("ranker", MODEL, RUN, 0), seed=0)

    def on_step(progress: Progress) -> None:
        if progress.step % 40 == 0 or progress.step == progress.total_steps:
            rate = f"{progress.examples_per_second:,.0f} examples/s"
            say(f"ranker: step {progress.step}/{progress.total_steps}, loss {progress.loss:.3f}, {rate}")

    trainer.run(on_step=on_step)
    say("predicting the last tenth, weights fixed")
    fixed = RankerScorer(sequences, trainer.tower(), post_age=RUN.post_age).logits_of_rows(rows)[0][:, favorite]
    say("predicting the last tenth, learning after every 500 rows")
    learning = predict_then_learn(trainer, task, rows)[:, favorite]

    rng = np.random.default_rng(0)
    users = sequences.user[rows]
    known = np.isin(users, sequences.user[past])
    by_row = paired_auc_difference(learning, online, liked, rng)
    by_user = paired_auc_difference(learning, online, liked, rng, groups=users)
    fixed_by_user = paired_auc_difference(fixed, online, liked, rng, groups=users)
    probability = 1 / (1 + np.exp(-learning.astype(np.float64)))

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
        "auc_known_users": [auc(online[known], liked[known]), auc(learning[known], liked[known])],
        "auc_unknown_users": [auc(online[~known], liked[~known]), auc(learning[~known], liked[~known])],
        "difference_by_row": bounds(by_row),
        "difference_by_user": bounds(by_user),
        "fixed_difference_by_user": bounds(fixed_by_user),
        "log_loss": log_loss(probability, liked),
        "calibration_error": calibration_error(probability, liked),
        "base_rate": bounds(bootstrap(liked.astype(np.float64), rng)),
        "goals": {
            "liked AUC above the online bias model, interval over rows above 0": by_row.low > 0,
            "liked AUC above the online bias model, interval over users above 0": by_user.low > 0,
        },
    }

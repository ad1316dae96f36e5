"""Training: a step of either tower, preparing a batch, a checkpoint. Rival: the retrieval step with the dense tables
handed to AdamW, which is what one gets by putting them among the parameters.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from xfast.phoenix.training import Sequences, TrainConfig, default_model_config
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.retrieval import RetrievalTask
from xfast.world import Interactions

USERS, POSTS, ROWS = 400, 2_000, 20_000
TABLE = 200_000


def interactions() -> Interactions:
    """Random favorites with Zipf posts; time does not depend on what they mean."""
    rng = np.random.default_rng(0)
    posts = np.minimum(rng.zipf(1.3, ROWS), POSTS).astype(np.uint64)
    zeros = np.zeros(ROWS, np.int32)
    return Interactions(
        user_id=rng.integers(1, USERS, ROWS).astype(np.uint64),
        post_id=posts,
        author_id=posts % np.uint64(97) + np.uint64(1),
        request_id=np.arange(1, ROWS + 1, dtype=np.uint64),
        time_ms=1_700_000_000_000 + np.arange(ROWS, dtype=np.int64) * 1000,
        actions=np.where(rng.random(ROWS) < 0.7, 2, 1 << 11).astype(np.uint64),
        dwell_ms=zeros,
        click_dwell_ms=zeros,
        surface=zeros,
        shown=np.ones(ROWS, bool),
    )


class Steps:
    """One step, compiled: windows of 64 tokens, batch 32, D 64, two layers, tables of 200,000 rows."""

    params = ("ranker", "retrieval")
    param_names = ("tower",)
    timeout = 300

    def setup(self, tower: str) -> None:
        sequences = Sequences.from_interactions(interactions())
        config = TrainConfig(batch_size=32)
        model = default_model_config(tower, user_vocab_size=TABLE, item_vocab_size=TABLE, author_vocab_size=TABLE)
        task: Any = (RankerTask if tower == "ranker" else RetrievalTask)(sequences, model, config)
        self.trainer = Trainer(task, fresh_tower(tower, model, config, 0), seed=0)
        self.windows = next(task.epoch(np.random.default_rng(0)))
        self.trainer.train_batch(self.windows)
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self, tower: str) -> None:
        self.folder.cleanup()

    def time_step(self, tower: str) -> None:
        self.trainer.train_batch(self.windows)

    def time_batch_on_the_host(self, tower: str) -> None:
        self.trainer.task.batch(self.windows, np.random.default_rng(0))

    def time_checkpoint(self, tower: str) -> None:
        self.trainer.save(Path(self.folder.name) / "checkpoint.npz")

    def track_examples_per_step(self, tower: str) -> int:
        return int((self.windows.examples >= 0).sum())


class DenseTables:
    """The rival: the same retrieval step, whole tables as dense parameters of AdamW."""

    timeout = 300

    def setup(self) -> None:
        sequences = Sequences.from_interactions(interactions())
        config = TrainConfig(batch_size=32)
        model = default_model_config("retrieval", user_vocab_size=TABLE, item_vocab_size=TABLE, author_vocab_size=TABLE)
        task = RetrievalTask(sequences, model, config)
        tower = fresh_tower("retrieval", model, config, 0)
        windows = next(task.epoch(np.random.default_rng(0)))
        batch = task.batch(windows, np.random.default_rng(0))
        optimizer = optax.adamw(1e-3)
        tables = {kind: jnp.asarray(getattr(tower.tables, kind)) for kind in ("user", "item", "author")}
        everything = ({key: jnp.asarray(value) for key, value in tower.params.items()}, tables)

        @jax.jit
        def update(weights: Any, state: Any) -> Any:
            def loss(weights: Any) -> Any:
                rows = {kind: weights[1][kind][index] for kind, index in batch.rows.items()}
                return task.loss(weights[0], rows, dict(batch.arrays), jax.random.key(0, impl="rbg"))

            updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
            return optax.apply_updates(weights, updates), state

        self.update = update
        self.weights, self.state = update(everything, optimizer.init(everything))

    def time_step_dense_adamw(self) -> None:
        jax.block_until_ready(self.update(self.weights, self.state))

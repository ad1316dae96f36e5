"""The training loop, the same for both towers: batches, one jitted step, sparse tables, validation, checkpoints.

A step gathers the table rows that its batch touches, runs one jitted function on them (loss, gradients, AdamW, row-wise
Adagrad), and writes the rows back. What a step does follows from (seed, step) alone: epochs draw their windows from
``[seed, 1, epoch]``, negatives from ``[seed, 2, step]``, dropout from the step folded into the seed's key. So a run
that stops and goes on from a checkpoint ends bit for bit where it would have.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.errors import ParameterError
from xfast.phoenix.artifacts import EmbeddingTables, Tower
from xfast.phoenix.hashing import Kind
from xfast.phoenix.training.checkpoint import Checkpoint
from xfast.phoenix.training.config import TrainConfig
from xfast.phoenix.training.optimizer import DenseOptimizer, relative_rate, update_rows
from xfast.phoenix.training.sequences import Sequences

__all__ = ["Batch", "Loss", "Progress", "Task", "TrainResult", "Trainer"]

KINDS: tuple[Kind, ...] = ("user", "item", "author")
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step needs: which table rows, and arrays whose row numbers point into the gathered rows."""

    rows: Mapping[Kind, npt.NDArray[np.int32]]
    """Distinct rows of each table, padded with 0; entry 0 is row 0, "no entity"."""
    arrays: Mapping[str, npt.NDArray[Any]]
    examples: int
    """Examples in it, for the progress display."""


class Loss(Protocol):
    """What to minimise. Hashable and equal to any other that computes the same: it is compiled once."""

    def __call__(
        self, params: Mapping[str, Array], rows: Mapping[Kind, Array], arrays: Mapping[str, Array], key: Array
    ) -> Array:
        """Loss of a batch; ``rows`` are the gathered table rows, row 0 zero, ``key`` decides dropout."""

    def __hash__(self) -> int: ...


class Task(Protocol):
    """What is trained: how data becomes batches, and what is minimised."""

    config: TrainConfig
    sequences: Sequences

    @property
    def loss(self) -> Loss:
        """What to minimise."""

    def steps_per_epoch(self) -> int:
        """Batches of an epoch (an upper bound that fixes the schedule)."""

    def epoch(self, rng: np.random.Generator) -> Iterator[Any]:
        """Cut the windows of an epoch."""

    def batch(self, windows: Any, rng: np.random.Generator) -> Batch:
        """Draw negatives, collect rows."""

    def validate(self, tower: Tower) -> float:
        """Loss on rows that training does not see; NaN if there are none."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, given to ``on_step`` after every step."""

    step: int
    total_steps: int
    loss: float
    examples: int
    examples_per_second: float
    validation: float | None = None
    """Set on the steps that validated."""


@dataclass(frozen=True, eq=False)
class TrainResult:
    """A trained tower and how it came about."""

    tower: Tower
    steps: int
    losses: list[float]
    """Training loss of every step since the start or the checkpoint."""
    validations: list[tuple[int, float]]
    """(step, validation loss)"""
    stopped_early: bool
    seconds: float


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2, 3, 4, 5))
def _update(
    loss: Loss,
    optimizer: DenseOptimizer,
    params: Any,
    state: Any,
    rows: Any,
    squares: Any,
    arrays: Any,
    key: Array,
    dense_rate: Array,
    table_rate: Array,
) -> Any:
    """One step. Equal losses and optimisers share the compiled function, whatever run they belong to."""
    value, (gradients, row_gradients) = jax.value_and_grad(loss, argnums=(0, 1))(params, rows, arrays, key)
    params, state = optimizer.update(gradients, state, params, dense_rate)
    new_rows, new_squares = {}, {}
    for kind, gathered in rows.items():
        # Entry 0 is row 0, "no entity", which stays zero.
        gradient = row_gradients[kind].at[0].set(0)
        new_rows[kind], new_squares[kind] = update_rows(gathered, squares[kind], gradient, table_rate)
    return params, state, new_rows, new_squares, value


class Trainer:
    """Runs a task from a tower to a trained tower.

    Parameters
    ----------
    task
        Data and loss.
    tower
        Where to start: a fresh tower or a trained one.
    seed
        Decides windows, negatives and dropout.
    total_steps
        Length of the schedule; ``config.epochs`` epochs if left out.
    """

    def __init__(self, task: Task, tower: Tower, *, seed: int, total_steps: int | None = None) -> None:
        self.task = task
        self.seed = seed
        self.total_steps = task.steps_per_epoch() * task.config.epochs if total_steps is None else total_steps
        self.step = 0
        self._start = tower
        self._params = {key: jnp.asarray(value) for key, value in tower.params.items()}
        self._tables: dict[Kind, F32] = {k: np.array(getattr(tower.tables, k), np.float32) for k in KINDS}
        self._squares: dict[Kind, F32] = {k: np.zeros(len(self._tables[k]), np.float32) for k in KINDS}
        self._optimizer = DenseOptimizer.of(task.config)
        self._state = self._optimizer.init(self._params)
        # The default generator costs more than the matrix products on CPUs.
        self._key = jax.random.key(seed, impl="rbg")
        self._best: tuple[float, dict[str, F32], dict[Kind, F32]] | None = None
        self._worse = 0
        self._validations: list[tuple[int, float]] = []

    def tower(self) -> Tower:
        """The tower as it stands."""
        params = {key: np.asarray(value) for key, value in self._params.items()}
        tables = EmbeddingTables(**{kind: table.copy() for kind, table in self._tables.items()})
        return Tower(self._start.name, self._start.config, params, tables)

    def train_batch(self, windows: Any) -> tuple[float, int]:
        """One step on given windows: the loss before it, and the number of examples."""
        batch = self.task.batch(windows, np.random.default_rng([self.seed, 2, self.step]))
        rows = {kind: self._tables[kind][index] for kind, index in batch.rows.items()}
        squares = {kind: self._squares[kind][index] for kind, index in batch.rows.items()}
        config = self.task.config
        share = relative_rate(config, self.total_steps, self.step)
        self._params, self._state, new_rows, new_squares, loss = _update(
            self.task.loss,
            self._optimizer,
            self._params,
            self._state,
            rows,
            squares,
            dict(batch.arrays),
            jax.random.fold_in(self._key, self.step),
            np.float32(config.dense_learning_rate * share),
            np.float32(config.table_learning_rate * share),
        )
        for kind, index in batch.rows.items():
            self._tables[kind][index] = np.asarray(new_rows[kind])
            self._squares[kind][index] = np.asarray(new_squares[kind])
        self.step += 1
        return float(loss), batch.examples

    def run(
        self,
        *,
        checkpoint: str | Path | None = None,
        on_step: Callable[[Progress], None] | None = None,
        stop_after: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> TrainResult:
        """Train to the end of the schedule, or until validation stops improving.

        Parameters
        ----------
        checkpoint
            File to go on from, if it exists, and to write every ``checkpoint_every`` steps and at the end.
        on_step
            Called after every step.
        stop_after
            Stop once that many steps are done in all, as if interrupted (a checkpoint is written).
        clock
            Seconds, for the rates that are reported.

        Raises
        ------
        SnapshotError
            The checkpoint is unreadable or of another run.
        """
        config = self.task.config
        if stop_after is not None and stop_after < 1:
            raise ParameterError(f"stop_after is {stop_after}, must be at least 1")
        if checkpoint is not None and Path(checkpoint).exists():
            self._restore(Checkpoint.load(checkpoint), checkpoint)
        started, losses, stopped = clock(), [], self._exhausted()
        every = config.validate_every or self.task.steps_per_epoch()
        while not stopped and self.step < self.total_steps and self.step != stop_after:
            for windows in self._rest_of_epoch():
                before = clock()
                loss, examples = self.train_batch(windows)
                losses.append(loss)
                validation = None
                last = self.step == self.total_steps
                if config.validation_rows and (self.step % every == 0 or last):
                    validation = self._look()
                    stopped = self._exhausted()
                if on_step is not None:
                    rate = examples / max(clock() - before, 1e-9)
                    on_step(Progress(self.step, self.total_steps, loss, examples, rate, validation))
                done = stopped or last or self.step == stop_after
                if checkpoint is not None and (done or self.step % config.checkpoint_every == 0):
                    self.save(checkpoint)
                if done:
                    break
        tower = self.tower()
        if self._best is not None:
            _, params, tables = self._best
            tower = Tower(tower.name, tower.config, params, EmbeddingTables(**tables))
        return TrainResult(tower, self.step, losses, list(self._validations), stopped, clock() - started)

    def _rest_of_epoch(self) -> Iterator[Any]:
        epoch, done = divmod(self.step, self.task.steps_per_epoch())
        rng = np.random.default_rng([self.seed, 1, epoch])
        # An epoch has exactly steps_per_epoch batches: windows that random borders add are left to the next one.
        return itertools.islice(itertools.cycle(self.task.epoch(rng)), done, self.task.steps_per_epoch())

    def _look(self) -> float:
        value = self.task.validate(self.tower())
        self._validations.append((self.step, value))
        if self._best is None or value < self._best[0]:
            tower = self.tower()
            self._best = (value, dict(tower.params), {kind: getattr(tower.tables, kind) for kind in KINDS})
            self._worse = 0
        else:
            self._worse += 1
        return value

    def _exhausted(self) -> bool:
        return bool(self.task.config.patience) and self._worse >= self.task.config.patience

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            "tower": self._start.name,
            "model": self._start.config.to_json(),
            "train": self.task.config.to_mapping(),
            "seed": self.seed,
            "total_steps": self.total_steps,
            "data": self.task.sequences.fingerprint(),
        }

    def save(self, path: str | Path) -> None:
        """Write a checkpoint from which :meth:`run` goes on."""
        self._checkpoint().save(path)

    def _checkpoint(self) -> Checkpoint:
        leaves = jax.tree.leaves(self._state)
        arrays: dict[str, npt.NDArray[Any]] = {f"dense:{k}": np.asarray(v) for k, v in self._params.items()}
        arrays |= {f"optimizer:{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        for kind in KINDS:
            arrays[f"table:{kind}"] = self._tables[kind]
            arrays[f"squares:{kind}"] = self._squares[kind]
        progress: dict[str, Any] = {"worse": self._worse, "validations": self._validations, "best": None}
        if self._best is not None:
            progress["best"] = self._best[0]
            arrays |= {f"best dense:{k}": v for k, v in self._best[1].items()}
            arrays |= {f"best table:{k}": v for k, v in self._best[2].items()}
        return Checkpoint(self.step, self._identity(), progress, arrays)

    def _restore(self, saved: Checkpoint, path: str | Path) -> None:
        saved.require(self._identity(), path)

        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {k.removeprefix(prefix): v for k, v in saved.arrays.items() if k.startswith(prefix)}

        self.step = saved.step
        self._params = {key: jnp.asarray(value) for key, value in part("dense:").items()}
        structure = jax.tree.structure(self._state)
        leaves = part("optimizer:")
        self._state = jax.tree.unflatten(structure, [jnp.asarray(leaves[str(i)]) for i in range(len(leaves))])
        for kind in KINDS:
            self._tables[kind] = saved.arrays[f"table:{kind}"]
            self._squares[kind] = saved.arrays[f"squares:{kind}"]
        self._worse = saved.progress["worse"]
        self._validations = [(step, value) for step, value in saved.progress["validations"]]
        if saved.progress["best"] is not None:
            best_tables: dict[Kind, F32] = {kind: saved.arrays[f"best table:{kind}"] for kind in KINDS}
            self._best = (saved.progress["best"], part("best dense:"), best_tables)

"""Training the ranker: every action of every shown post, by masked multi-label cross-entropy; continuous heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.actions import NEGATIVE
from xfast.errors import ConfigurationError
from xfast.events import EventBatch
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.hashing import Kind
from xfast.phoenix.training.config import TrainConfig, default_model_config
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.inputs import (
    Gatherer,
    HashedRows,
    candidate_arrays,
    candidate_inputs,
    context_arrays,
    context_inputs,
)
from xfast.phoenix.training.loop import Batch, Progress, Trainer, TrainResult
from xfast.phoenix.training.losses import continuous_loss, multi_label_loss, normalised
from xfast.phoenix.training.sequences import Sequences
from xfast.phoenix.training.towers import Rates, ranker_at_anchors
from xfast.phoenix.training.windows import WindowBatch, Windows

__all__ = ["RankerTask", "column_weights", "train_ranker"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
# Continuous heads and the columns of the sequences that hold their truth.
_CONTINUOUS = {"dwell_time": "dwell_s", "click_dwell_time": "click_dwell_s"}


def column_weights(config: PhoenixConfig, weights: Mapping[str, float]) -> F32:
    """Loss weight of every action column, [A]: 1 for the named ones unless ``weights`` says, 0 for those without name.

    Raises
    ------
    ConfigurationError
        A weight for an action that has no column.
    """
    columns = config.vocabulary.heads(config.num_actions)
    result = np.zeros(config.num_actions, np.float32)
    result[list(columns.values())] = 1
    for name, weight in weights.items():
        if name not in columns:
            raise ConfigurationError(f"action_weights has {name!r}, which has no column in the model")
        result[columns[name]] = weight
    return result


@dataclass(frozen=True)
class RankerLoss:
    """Multi-label cross-entropy and continuous losses of windows (:class:`~xfast.phoenix.training.loop.Loss`).

    ``weights`` are those of the action columns.
    """

    model: PhoenixConfig
    rates: Rates
    weights: tuple[float, ...]

    def column_weights(self, labels: Array) -> Array:
        """Weights [..., A] of labels [..., A]: negatives say nothing about explicit negative feedback."""
        weights = jnp.broadcast_to(jnp.asarray(self.weights, jnp.float32), labels.shape)
        if not self.model.mask_neg_feedback_on_negatives:
            return weights
        columns = self.model.vocabulary.heads(self.model.num_actions)
        feedback = np.zeros(self.model.num_actions, bool)
        feedback[[columns[name] for name in NEGATIVE if name in columns]] = True
        negative = ~jnp.any(labels != 0, axis=-1, keepdims=True)
        return jnp.where(negative & jnp.asarray(feedback), 0.0, weights)

    def __call__(
        self, params: Mapping[str, Array], rows: Mapping[Kind, Array], arrays: Mapping[str, Array], key: Array
    ) -> Array:
        """See :class:`~xfast.phoenix.training.loop.Loss`."""
        candidates = candidate_inputs(rows, arrays)
        output = ranker_at_anchors(
            params, self.model, context_inputs(rows, arrays), candidates, arrays["anchors"], self.rates, key
        )
        labels = arrays["labels"]
        weights = jnp.where(candidates.valid[..., None], self.column_weights(labels), 0.0)
        columns = labels.shape[-1]
        total = multi_label_loss(
            output.logits.reshape(-1, columns), labels.reshape(-1, columns), weights.reshape(-1, columns)
        )
        for name, column in continuous_heads(self.model).items():
            settings = self.model.continuous_config(column)
            if settings.loss_weight > 0:
                seconds = arrays[name]
                known = (seconds > 0).astype(jnp.float32)
                total += continuous_loss(output.continuous[..., column], normalised(seconds, settings), known, settings)
        return total


def continuous_heads(config: PhoenixConfig) -> dict[str, int]:
    """Continuous heads whose truth the sequences hold: {name: column}."""
    columns = config.vocabulary.continuous[: config.num_continuous_actions]
    return {name: columns.index(name) for name in _CONTINUOUS if name in columns}


class RankerTask:
    """Ranking on sequences (:class:`~xfast.phoenix.training.loop.Task`).

    Every row is an example: what was done with a post that was shown. With ``random_negatives`` every window gets posts
    nobody showed, labelled "nothing happened". Candidates without any action are *negatives*; with the model's
    ``mask_neg_feedback_on_negatives`` their labels for explicit negative feedback count for nothing, since a post that
    was passed over, or never seen, was not cleared of it either.

    Parameters
    ----------
    sequences
        All rows; the last ``config.validation_rows`` of each user are kept from training.
    model_config, config
        The model, with right-anchored RoPE, and the run.
    examples
        [R] which rows to learn from; all if left out. A row sees only what precedes it, so with the rows up to some
        moment nothing later is touched.

    Raises
    ------
    ConfigurationError
        The model has slot-dependent candidate positions, or bidirectional context.
    """

    def __init__(
        self,
        sequences: Sequences,
        model_config: PhoenixConfig,
        config: TrainConfig,
        *,
        examples: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        if not model_config.right_anchored_rope:
            raise ConfigurationError("right_anchored_rope is False, must be true to train a ranker: otherwise scores "
                                     "depend on the slot of a candidate")  # fmt: skip
        self.config = config
        self.sequences = sequences
        self._model = model_config
        self.loss = RankerLoss(
            model_config,
            Rates(config.embedding_dropout, config.residual_dropout, config.user_dropout),
            tuple(column_weights(model_config, config.action_weights).tolist()),
        )
        self._hashed = HashedRows.of(sequences, model_config)
        train = sequences.without_last(config.validation_rows) if config.validation_rows else sequences
        self._train = train
        slots = model_config.history_seq_len
        causal = model_config.context_attention == "causal"
        self._per_window = config.examples_per_window or (slots + 1 if causal else model_config.candidate_seq_len)
        chosen = np.ones(len(train), bool) if examples is None else examples
        self._windows = self.windows(chosen)
        counts = np.bincount(train.post[chosen], minlength=len(train.posts)).astype(np.float64) ** config.negative_power
        self._draw_from = np.cumsum(counts / counts.sum())
        self._steps = sum(1 for _ in self.epoch(np.random.default_rng(0)))

    def windows(self, examples: npt.NDArray[np.bool_]) -> Windows:
        """Windows of this model's shape over some of the training rows, [R]."""
        config, slots = self.config, self._model.history_seq_len
        return Windows(
            self._train,
            examples,
            history_len=slots,
            examples=self._per_window,
            stride=min(config.window_stride or slots, slots),
            every_prefix=self._model.context_attention == "causal",
            shuffle_ties=config.shuffle_ties,
        )

    def steps_per_epoch(self) -> int:
        """See :class:`~xfast.phoenix.training.loop.Task`."""
        return self._steps

    def epoch(self, rng: np.random.Generator) -> Iterator[WindowBatch]:
        """See :class:`~xfast.phoenix.training.loop.Task`."""
        return self._windows.epoch(rng, self.config.batch_size)

    def batch(self, windows: WindowBatch, rng: np.random.Generator) -> Batch:
        """Draw negatives and label; see :class:`~xfast.phoenix.training.loop.Task`."""
        data, config = self._train, self.config
        gatherer = Gatherer(self._hashed)
        arrays = context_arrays(data, self._hashed, self._model, windows, gatherer)
        present = windows.examples >= 0
        at_rows = np.maximum(windows.examples, 0)
        posts = np.where(present, data.post[at_rows], -1).astype(np.int32)
        labels = data.action_matrix(at_rows, self._model.num_actions) * present[..., None]
        if config.random_negatives:
            drawn, moments, anchors = self._draw(windows, rng)
            posts, at_rows = np.concatenate([posts, drawn], 1), np.concatenate([at_rows, moments], 1)
            arrays["anchors"] = np.concatenate([arrays["anchors"], anchors], 1)
            nothing = np.zeros((*drawn.shape, self._model.num_actions), np.float32)
            labels = np.concatenate([labels, nothing], 1)
        arrays |= candidate_arrays(data, self._hashed, self._model, posts, at_rows, gatherer, post_age=config.post_age)
        arrays["labels"] = labels
        shown = np.zeros(posts.shape, bool)
        shown[:, : present.shape[1]] = present
        for name in continuous_heads(self._model):
            values = np.where(shown, getattr(data, _CONTINUOUS[name])[at_rows], 0)
            arrays[name] = values.astype(np.float32)
        rows, places = gatherer.finish()
        return Batch(rows, arrays | places, int(present.sum()))

    def _draw(self, windows: WindowBatch, rng: np.random.Generator) -> tuple[I32, I64, I32]:
        """[B, N] random posts, the rows whose moment they share, and the anchors; -1 for posts the user acted on."""
        data = self._train
        size = (len(windows), self.config.random_negatives)
        last = len(data.posts) - 1
        posts = np.minimum(np.searchsorted(self._draw_from, rng.random(size)), last).astype(np.int32)
        filled = np.maximum((windows.examples >= 0).sum(1), 1)
        which = (rng.random(size) * filled[:, None]).astype(np.int64)
        moments = np.take_along_axis(windows.examples, which, 1)
        anchors = np.take_along_axis(windows.anchors, which, 1)
        for window, user in enumerate(windows.user):
            own = data.post[data.offsets[user] : data.offsets[user + 1]] if user >= 0 else data.post
            posts[window, np.isin(posts[window], own)] = -1
        return posts, np.maximum(moments, 0), anchors

    def validate(self, tower: Tower) -> float:
        """Weighted cross-entropy of the held-out rows; see the task protocol."""
        if not self.config.validation_rows:
            return float("nan")
        from xfast.phoenix.training.scoring import RankerScorer

        data = self.sequences
        rows = np.flatnonzero(np.arange(len(data)) >= data.offsets[1:][data.user] - self.config.validation_rows)
        users = np.unique(data.user[rows])
        if len(users) > self.config.validation_users:
            chosen = np.random.default_rng(0).choice(users, self.config.validation_users, replace=False)
            rows = rows[np.isin(data.user[rows], chosen)]
        logits, _ = RankerScorer(data, tower, post_age=self.config.post_age).logits_of_rows(rows)
        labels: npt.NDArray[Any] = data.action_matrix(rows, self._model.num_actions)
        weights = self.loss.column_weights(jnp.asarray(labels))
        return float(multi_label_loss(jnp.asarray(logits), jnp.asarray(labels), weights))


def train_ranker(
    events: EventBatch | Sequences,
    config: TrainConfig,
    model_config: PhoenixConfig | None = None,
    *,
    seed: int = 0,
    start: Tower | None = None,
    checkpoint: str | Path | None = None,
    on_step: Callable[[Progress], None] | None = None,
    stop_after: int | None = None,
) -> TrainResult:
    """Train a ranker on network events; parameters as in :func:`~xfast.phoenix.training.retrieval.train_retrieval`.

    Raises
    ------
    DataError
        There is nothing to learn from.
    ConfigurationError
        The model cannot be trained so (:class:`RankerTask`).
    """
    sequences = events if isinstance(events, Sequences) else Sequences.from_events(events)
    if start is not None:
        model_config = start.config
    elif model_config is None:
        model_config = default_model_config("ranker")
    task = RankerTask(sequences, model_config, config)
    tower = fresh_tower("ranker", model_config, config, seed) if start is None else start
    return Trainer(task, tower, seed=seed).run(checkpoint=checkpoint, on_step=on_step, stop_after=stop_after)

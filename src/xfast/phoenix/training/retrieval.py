"""Training the retrieval tower: the next post among all others, by sampled softmax with logQ correction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.actions import NEGATIVE
from xfast.errors import ConfigurationError, DataError
from xfast.events import EventBatch
from xfast.phoenix import model
from xfast.phoenix.artifacts import Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.hashing import Kind
from xfast.phoenix.layout import LOG_TEMPERATURE
from xfast.phoenix.training.config import TrainConfig, default_model_config
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.inputs import Gatherer, HashedRows, context_arrays, context_inputs
from xfast.phoenix.training.loop import Batch, Progress, Trainer, TrainResult
from xfast.phoenix.training.losses import dropout, sampled_softmax
from xfast.phoenix.training.sequences import Sequences
from xfast.phoenix.training.towers import Rates, user_vectors_at_anchors
from xfast.phoenix.training.windows import WindowBatch, Windows

__all__ = ["RetrievalTask", "positive_mask", "train_retrieval"]

I32 = npt.NDArray[np.int32]
_NEVER = 1e9  # log correction of a post that was not drawn: its weight is exp(-1e9) = 0


def positive_mask(config: PhoenixConfig, names: tuple[str, ...]) -> np.uint64:
    """Bit mask of the actions that make a row a target.

    Without names: all that the model's vocabulary knows, except explicit negative feedback and ``not_dwelled``.
    """
    columns = config.vocabulary.heads(config.num_actions)
    for name in names:
        if name not in columns:
            raise ConfigurationError(f"positive_actions has {name!r}, which has no column in the model")
    chosen = names or tuple(name for name in columns if name not in (*NEGATIVE, "not_dwelled"))
    return np.uint64(sum(1 << columns[name] for name in chosen))


@dataclass(frozen=True)
class RetrievalLoss:
    """Sampled softmax of windows (:class:`~xfast.phoenix.training.loop.Loss`)."""

    model: PhoenixConfig
    rates: Rates

    def __call__(
        self, params: Mapping[str, Array], rows: Mapping[Kind, Array], arrays: Mapping[str, Array], key: Array
    ) -> Array:
        """See :class:`~xfast.phoenix.training.loop.Loss`."""
        keys = jax.random.split(key, 3)
        users = user_vectors_at_anchors(
            params, self.model, context_inputs(rows, arrays), arrays["anchors"], self.rates, keys[0]
        )
        pool = self._vectors(params, rows, arrays["pool_item"], arrays["pool_author"], keys[1])
        batch, examples, size = users.shape
        target = arrays["target"].reshape(-1)
        known = arrays["known_from"][:, None, :] <= arrays["anchors"][..., None]
        allowed = ~known.reshape(batch * examples, -1) & (jnp.arange(len(pool)) != target[:, None])
        hard = hard_allowed = None
        if "hard_item" in arrays:
            vectors = self._vectors(params, rows, arrays["hard_item"], arrays["hard_author"], keys[2])
            hard = jnp.einsum("bkd,bhd->bkh", users, vectors, precision="highest").reshape(batch * examples, -1)
            there = arrays["hard_item"][..., 0] != 0
            hard_allowed = jnp.broadcast_to(there[:, None], (batch, examples, there.shape[1])).reshape(hard.shape)
        return sampled_softmax(
            users.reshape(-1, size),
            pool[target],
            pool,
            arrays["log_correction"],
            allowed,
            jnp.exp(params[LOG_TEMPERATURE]),
            arrays["weight"].reshape(-1),
            hard,
            hard_allowed,
        )

    def _vectors(
        self, params: Mapping[str, Array], rows: Mapping[Kind, Array], items: Array, authors: Array, key: Array
    ) -> Array:
        """Candidate vectors of places among the gathered rows."""
        first, second = jax.random.split(key)
        rate = self.rates.embedding
        return model.candidate_tower(
            params,
            self.model,
            dropout(first, rows["item"][items], rate),
            dropout(second, rows["author"][authors], rate),
        )


class RetrievalTask:
    """Retrieval on sequences (:class:`~xfast.phoenix.training.loop.Task`).

    Parameters
    ----------
    sequences
        All rows; the last ``config.validation_rows`` of each user are kept from training.
    model_config, config
        The model and the run.
    """

    def __init__(self, sequences: Sequences, model_config: PhoenixConfig, config: TrainConfig) -> None:
        self.config = config
        self.sequences = sequences
        self._model = model_config
        self.loss = RetrievalLoss(
            model_config, Rates(config.embedding_dropout, config.residual_dropout, config.user_dropout)
        )
        self._hashed = HashedRows.of(sequences, model_config)
        train = sequences.without_last(config.validation_rows) if config.validation_rows else sequences
        self._train = train
        wanted = (train.actions & positive_mask(model_config, config.positive_actions)) != 0
        if not wanted.any():
            raise DataError("no row has one of the positive actions: nothing to retrieve")
        self._frequency = np.bincount(train.post[wanted], minlength=len(train.posts)) / wanted.sum()
        causal = model_config.context_attention == "causal"
        slots = model_config.history_seq_len
        self._windows = Windows(
            train,
            wanted,
            history_len=slots,
            examples=config.examples_per_window or (slots + 1 if causal else 1),
            stride=min(config.window_stride or slots, slots),
            every_prefix=causal,
            shuffle_ties=config.shuffle_ties,
        )
        self._shown = _shown_only(train)
        self._steps = sum(1 for _ in self.epoch(np.random.default_rng(0)))
        self._validation = Validation(sequences, model_config, config) if config.validation_rows else None

    def steps_per_epoch(self) -> int:
        """See :class:`~xfast.phoenix.training.loop.Task`."""
        return self._steps

    def epoch(self, rng: np.random.Generator) -> Iterator[WindowBatch]:
        """See :class:`~xfast.phoenix.training.loop.Task`."""
        return self._windows.epoch(rng, self.config.batch_size)

    def batch(self, windows: WindowBatch, rng: np.random.Generator) -> Batch:
        """Choose the negatives; see :class:`~xfast.phoenix.training.loop.Task`."""
        config, data = self.config, self._train
        gatherer = Gatherer(self._hashed)
        arrays = context_arrays(data, self._hashed, self._model, windows, gatherer)
        present = windows.examples >= 0
        targets = np.where(present, data.post[windows.examples], -1)
        if config.negatives == "catalogue":
            pool = np.arange(len(data.posts), dtype=np.int32)
            correction = np.zeros(len(pool), np.float32)
        else:
            pool, correction = self._draw(targets[present], rng)
        gatherer.add("item", "pool_item", self._hashed.item[pool])
        gatherer.add("author", "pool_author", self._hashed.author[pool])
        order = np.argsort(pool, kind="stable")
        arrays["target"] = order[
            np.minimum(np.searchsorted(pool, np.maximum(targets, pool.min()), sorter=order), len(pool) - 1)
        ].astype(np.int32)
        arrays["weight"] = present.astype(np.float32)
        arrays["log_correction"] = correction
        arrays["known_from"] = self._known_from(windows, pool, order)
        if config.hard_negatives:
            hard = self._draw_hard(windows.user, rng)
            gatherer.add("item", "hard_item", self._hashed.item[hard])
            gatherer.add("author", "hard_author", self._hashed.author[hard])
        rows, places = gatherer.finish()
        return Batch(rows, arrays | places, int(present.sum()))

    def _draw(self, targets: I32, rng: np.random.Generator) -> tuple[I32, npt.NDArray[np.float32]]:
        """The pool of an in-batch step: all targets, and how much each counts as a negative of the others.

        Of the targets, ``shared_negatives`` are drawn with replacement if there are more. A post that comes up c times
        in n draws, each with probability q, weighs ``c / (n q)``; without correction, c.
        """
        config = self.config
        drawn = rng.choice(targets, config.shared_negatives) if len(targets) > config.shared_negatives else targets
        posts, counts = np.unique(drawn, return_counts=True)
        pool = np.unique(targets)
        correction = np.full(len(pool), _NEVER, np.float32)
        weight = -np.log(counts)
        if config.log_q_correction:
            weight = weight + np.log(len(drawn) * self._frequency[posts])
        correction[np.searchsorted(pool, posts)] = weight
        padding = -len(pool) % 256
        return (
            np.concatenate([pool, np.full(padding, -1, np.int32)]),
            np.concatenate([correction, np.full(padding, _NEVER, np.float32)]),
        )

    def _known_from(self, windows: WindowBatch, pool: I32, order: npt.NDArray[np.int64]) -> I32:
        """[B, pool]: the anchor from which on the user knows a post, 0 .. S + 1 (S + 1: not within this window).

        Known posts are no negatives: a feed does not show what was seen, so the model need not push it down. Known are
        the tokens of the window so far, and before the window whatever the user was shown.
        """
        data, slots = self._train, windows.history.shape[1]
        known = np.full((len(windows), len(pool)), slots + 1, np.int32)
        ordered = pool[order]

        def mark(window: int, posts: I32, value: npt.NDArray[np.int64] | int) -> None:
            at = np.minimum(np.searchsorted(ordered, posts), len(pool) - 1)
            there = ordered[at] == posts
            known[window, order[at[there]]] = value if isinstance(value, int) else value[there]

        for window, user in enumerate(windows.user):
            tokens = windows.history[window]
            tokens = tokens[tokens >= 0]
            if user < 0 or not len(tokens):
                continue
            # Later duplicates first, so that the earliest place stays.
            mark(window, data.post[tokens[::-1]], np.arange(len(tokens), 0, -1))
            mark(window, data.post[data.offsets[user] : tokens[0]], 0)
        return known

    def _draw_hard(self, users: I32, rng: np.random.Generator) -> I32:
        """[B, H] posts that the users were shown without acting; -1 where there are too few."""
        offsets, posts = self._shown
        hard = np.full((len(users), self.config.hard_negatives), -1, np.int32)
        for window, user in enumerate(users):
            own = posts[offsets[user] : offsets[user + 1]] if user >= 0 else posts[:0]
            if len(own):
                taken = rng.choice(own, min(len(own), hard.shape[1]), replace=False)
                hard[window, : len(taken)] = taken
        return hard

    def validate(self, tower: Tower) -> float:
        """Mean loss of the held-out rows against the whole catalogue; see the task protocol."""
        return self._validation.loss(tower) if self._validation is not None else float("nan")


class Validation:
    """Softmax loss of held-out rows over every post the user does not know."""

    def __init__(self, sequences: Sequences, model_config: PhoenixConfig, config: TrainConfig) -> None:
        positives = (sequences.actions & positive_mask(model_config, config.positive_actions)) != 0
        places = np.arange(len(sequences)) - sequences.offsets[1:][sequences.user]
        held = np.flatnonzero(positives & (places >= -config.validation_rows))
        users = np.unique(sequences.user[held])
        if len(users) > config.validation_users:
            chosen = np.random.default_rng(0).choice(users, config.validation_users, replace=False)
            held = held[np.isin(sequences.user[held], chosen)]
        self._rows = held
        self._sequences = sequences

    def loss(self, tower: Tower) -> float:
        """In nats."""
        from xfast.phoenix.training.scoring import RetrievalScorer

        scorer = RetrievalScorer(self._sequences, tower)
        temperature = float(np.exp(tower.params[LOG_TEMPERATURE]))
        total = 0.0
        for start in range(0, len(self._rows), 512):
            rows = self._rows[start : start + 512]
            logits = scorer.scores_of_rows(rows) / temperature
            for row, own in zip(rows, logits):
                low = self._sequences.offsets[self._sequences.user[row]]
                target = self._sequences.post[row]
                own[np.setdiff1d(self._sequences.post[low:row], target)] = -np.inf
                total += float(np.logaddexp.reduce(own) - own[target])
        return total / max(len(self._rows), 1)


def _shown_only(sequences: Sequences) -> tuple[npt.NDArray[np.int64], I32]:
    shown = sequences.actions == 0
    counts = np.bincount(sequences.user[shown], minlength=len(sequences.users))
    return np.r_[0, np.cumsum(counts)].astype(np.int64), sequences.post[shown]


def train_retrieval(
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
    """Train a retrieval tower on network events.

    Parameters
    ----------
    events
        What happened, or the sequences made of it.
    config
        The run.
    model_config
        The model, :func:`~xfast.phoenix.training.config.default_model_config` if left out; ignored with ``start``.
    seed
        Decides everything random.
    start
        A tower to go on from, with a new schedule; a fresh one if left out.
    checkpoint, on_step, stop_after
        See :meth:`~xfast.phoenix.training.loop.Trainer.run`.

    Raises
    ------
    DataError
        There is nothing to learn from.
    """
    sequences = events if isinstance(events, Sequences) else Sequences.from_events(events)
    if start is not None:
        model_config = start.config
    elif model_config is None:
        model_config = default_model_config("retrieval")
    task = RetrievalTask(sequences, model_config, config)
    tower = fresh_tower("retrieval", model_config, config, seed) if start is None else start
    return Trainer(task, tower, seed=seed).run(checkpoint=checkpoint, on_step=on_step, stop_after=stop_after)

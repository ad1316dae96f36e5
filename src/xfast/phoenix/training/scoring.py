"""Scoring rows and catalogues with towers in training: batched, jitted once per shape, no serving machinery.

The results are those of :class:`xfast.phoenix.Retriever` and :class:`xfast.phoenix.Ranker`; a test compares them.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.phoenix import model
from xfast.phoenix.artifacts import Corpus, Tower
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.layout import LOG_TEMPERATURE
from xfast.phoenix.training.inputs import (
    Gatherer,
    HashedRows,
    candidate_arrays,
    candidate_inputs,
    context_arrays,
    context_inputs,
)
from xfast.phoenix.training.sequences import Sequences
from xfast.phoenix.training.towers import ranker_at_anchors, user_vectors_at_anchors
from xfast.phoenix.training.windows import WindowBatch, Windows

__all__ = ["RankerScorer", "RetrievalScorer", "corpus_of"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@functools.partial(jax.jit, static_argnums=0)
def _user_vectors(config: PhoenixConfig, params: Any, rows: Any, arrays: Any) -> Array:
    return user_vectors_at_anchors(params, config, context_inputs(rows, arrays), arrays["anchors"])


@functools.partial(jax.jit, static_argnums=0)
def _candidate_vectors(config: PhoenixConfig, params: Any, items: Array, authors: Array) -> Array:
    return model.candidate_tower(params, config, items, authors)


@functools.partial(jax.jit, static_argnums=0)
def _rank(config: PhoenixConfig, params: Any, rows: Any, arrays: Any) -> model.RankerOutput:
    return ranker_at_anchors(
        params, config, context_inputs(rows, arrays), candidate_inputs(rows, arrays), arrays["anchors"]
    )


class _Scorer:
    """What both have in common: windows with everything a user did so far, and the rows they touch."""

    def __init__(self, sequences: Sequences, tower: Tower, batch_size: int, candidates: int) -> None:
        self._sequences = sequences
        self._tower = tower
        self._batch_size = batch_size
        self._hashed = HashedRows.of(sequences, tower.config)
        self._params = {k: jnp.asarray(v) for k, v in tower.params.items() if k != LOG_TEMPERATURE}
        self._windows = Windows(
            sequences,
            np.ones(len(sequences), bool),
            history_len=tower.config.history_seq_len,
            examples=candidates,
            stride=1,
        )

    def _gathered(self, gatherer: Gatherer, arrays: dict[str, npt.NDArray[Any]]) -> tuple[Any, Any]:
        rows, places = gatherer.finish()
        tables = self._tower.tables
        return {kind: tables.gather(kind, index) for kind, index in rows.items()}, arrays | places


def _of_histories(sequences: Sequences, users: I32, histories: list[I64], slots: int, size: int) -> WindowBatch:
    """Windows of the newest ``slots`` rows of given histories."""
    batch = WindowBatch(
        np.full(size, -1, np.int32),
        np.full((size, slots), -1, np.int64),
        np.full((size, 1), -1, np.int64),
        np.zeros((size, 1), np.int32),
    )
    for i, (user, rows) in enumerate(zip(users, histories)):
        acted = rows[sequences.actions[rows] != 0][-slots:]
        batch.user[i] = user
        batch.history[i, : len(acted)] = acted
        batch.anchors[i] = len(acted)
    return batch


class RetrievalScorer(_Scorer):
    """Cosines of users with every post of the catalogue.

    Parameters
    ----------
    sequences
        Where users, posts and histories come from.
    tower
        The retrieval model.
    batch_size
        Users per call of the model.
    """

    def __init__(self, sequences: Sequences, tower: Tower, *, batch_size: int = 128) -> None:
        super().__init__(sequences, tower, batch_size, 1)
        tables = tower.tables
        self.catalogue: F32 = np.asarray(
            _candidate_vectors(
                tower.config,
                self._params,
                tables.gather("item", self._hashed.item[:-1]),
                tables.gather("author", self._hashed.author[:-1]),
            )
        )
        """[posts, D] vectors of the candidate tower"""

    def _vectors(self, batch: WindowBatch) -> F32:
        gatherer = Gatherer(self._hashed)
        arrays = context_arrays(self._sequences, self._hashed, self._tower.config, batch, gatherer)
        rows, arrays = self._gathered(gatherer, arrays)
        return np.asarray(_user_vectors(self._tower.config, self._params, rows, arrays))[:, 0]

    def scores_of_rows(self, rows: I64) -> F32:
        """Scores [len(rows), posts] for the user of each row just before it."""
        parts = [self._vectors(batch)[: len(part)] for part, batch in self._windows.at(rows, self._batch_size)]
        return np.concatenate(parts) @ self.catalogue.T

    def user_vectors(self, users: I32, histories: list[I64]) -> F32:
        """Unit vectors [len(users), D]."""
        parts = []
        for start in range(0, len(users), self._batch_size):
            part = slice(start, start + self._batch_size)
            slots = self._tower.config.history_seq_len
            batch = _of_histories(self._sequences, users[part], histories[part], slots, self._batch_size)
            parts.append(self._vectors(batch)[: len(users[part])])
        return np.concatenate(parts)

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """See :class:`~xfast.phoenix.training.baselines.Scorer`; ``sequences`` must be the scorer's own."""
        assert sequences is self._sequences
        return self.user_vectors(users, histories) @ self.catalogue.T


class RankerScorer(_Scorer):
    """Outputs of the ranker for rows, or for users and the whole catalogue.

    Parameters
    ----------
    sequences, tower, batch_size
        As in :class:`RetrievalScorer`.
    post_age
        Whether candidates have an age; as in training.
    """

    def __init__(self, sequences: Sequences, tower: Tower, *, batch_size: int = 128, post_age: bool = True) -> None:
        super().__init__(sequences, tower, batch_size, 1)
        self._post_age = post_age

    def _outputs(self, batch: WindowBatch, posts: I32, at_rows: I64, *, post_age: bool) -> model.RankerOutput:
        gatherer = Gatherer(self._hashed)
        config = self._tower.config
        arrays = context_arrays(self._sequences, self._hashed, config, batch, gatherer)
        arrays |= candidate_arrays(self._sequences, self._hashed, config, posts, at_rows, gatherer, post_age=post_age)
        arrays["anchors"] = np.broadcast_to(batch.anchors[:, :1], posts.shape).copy()
        rows, arrays = self._gathered(gatherer, arrays)
        output: model.RankerOutput = _rank(config, self._params, rows, arrays)
        return output

    def logits_of_rows(self, rows: I64) -> tuple[F32, F32]:
        """Logits [len(rows), A] and continuous outputs [len(rows), n] of each row's post, just before the row."""
        logits, continuous = [], []
        for part, batch in self._windows.at(rows, self._batch_size):
            present = batch.examples >= 0
            posts = np.where(present, self._sequences.post[batch.examples], -1).astype(np.int32)
            output = self._outputs(batch, posts, np.maximum(batch.examples, 0), post_age=self._post_age)
            logits.append(np.asarray(output.logits)[: len(part), 0])
            continuous.append(np.asarray(output.continuous)[: len(part), 0])
        return np.concatenate(logits), np.concatenate(continuous)

    def catalogue_logits(self, users: I32, histories: list[I64], column: int, *, block: int = 8) -> F32:
        """Logits of one action [len(users), posts] for every post, without ages (they would tell the future)."""
        count = len(self._sequences.posts)
        posts = np.broadcast_to(np.arange(count, dtype=np.int32), (block, count))
        parts = []
        for start in range(0, len(users), block):
            part = slice(start, start + block)
            slots = self._tower.config.history_seq_len
            batch = _of_histories(self._sequences, users[part], histories[part], slots, block)
            output = self._outputs(batch, posts, np.zeros(posts.shape, np.int64), post_age=False)
            parts.append(np.asarray(output.logits[: len(users[part]), :, column]))
        return np.concatenate(parts)


def corpus_of(sequences: Sequences, retrieval: Tower) -> Corpus:
    """Corpus of every post of the sequences, with the vectors of the candidate tower."""
    vectors = RetrievalScorer(sequences, retrieval).catalogue
    return Corpus(sequences.posts, sequences.authors[sequences.post_author], vectors)

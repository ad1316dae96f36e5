"""From windows to model inputs: table rows and columns on the host, gathered embeddings inside the jitted step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from xfast.phoenix import hashing, model
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.features import post_age_bucket
from xfast.phoenix.hashing import Kind
from xfast.phoenix.training.sequences import Sequences
from xfast.phoenix.training.windows import WindowBatch

__all__ = ["Gatherer", "HashedRows", "candidate_arrays", "candidate_inputs", "context_arrays", "context_inputs"]

I32 = npt.NDArray[np.int32]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class HashedRows:
    """Table rows of every user, post and author of some sequences under a model's hash functions.

    The last row of each array is 0: position -1 stands for "nobody".
    """

    user: I32
    """[users + 1, n_user]"""
    item: I32
    """[posts + 1, n_item]"""
    author: I32
    """[posts + 1, n_author]: of the author of the post"""
    distinct: Mapping[Kind, int]
    """How many different rows each has, row 0 included."""

    @classmethod
    def of(cls, sequences: Sequences, config: PhoenixConfig) -> HashedRows:
        """Hash all ids once."""

        def rows(ids: npt.NDArray[np.uint64], kind: Kind) -> I32:
            hashed = hashing.rows_of(ids, kind, config)
            return np.concatenate([hashed, np.zeros((1, hashed.shape[1]), np.int32)])

        writers = sequences.authors[sequences.post_author]
        hashed: dict[Kind, I32] = {
            "user": rows(sequences.users, "user"), "item": rows(sequences.posts, "item"),
            "author": rows(writers, "author"),
        }  # fmt: skip
        return cls(
            hashed["user"],
            hashed["item"],
            hashed["author"],
            distinct={kind: len(np.unique(table)) for kind, table in hashed.items()},
        )


class Gatherer:
    """Collects the table rows of a batch: arrays of row numbers go in, places among the distinct rows come out.

    Every table's list is padded to the most rows that a batch of this shape can touch, so that one shape is compiled.
    """

    def __init__(self, hashed: HashedRows) -> None:
        self._uses: dict[Kind, dict[str, I32]] = {"user": {}, "item": {}, "author": {}}
        self._most = hashed.distinct

    def add(self, kind: Kind, name: str, rows: I32) -> None:
        """Register an array of row numbers."""
        self._uses[kind][name] = rows

    def finish(self) -> tuple[dict[Kind, I32], Arrays]:
        """Return distinct rows per table (0 first, padded with 0), and the places by name."""
        tables: dict[Kind, I32] = {}
        places: Arrays = {}
        for kind, uses in self._uses.items():
            zero = np.zeros(1, np.int32)
            distinct = np.unique(np.concatenate([zero, *(rows.ravel() for rows in uses.values())]))
            for name, rows in uses.items():
                places[name] = np.searchsorted(distinct, rows).astype(np.int32)
            most = min(1 + sum(rows.size for rows in uses.values()), self._most[kind])
            tables[kind] = np.concatenate([distinct, np.zeros(most - len(distinct), np.int32)])
        return tables, places


def context_arrays(
    sequences: Sequences, hashed: HashedRows, config: PhoenixConfig, batch: WindowBatch, gatherer: Gatherer
) -> Arrays:
    """Columns of the histories of a batch; their table rows go to the gatherer."""
    present = batch.history >= 0
    posts = np.where(present, sequences.post[batch.history], -1)
    gatherer.add("user", "user", hashed.user[batch.user])
    gatherer.add("item", "history_item", hashed.item[posts])
    gatherer.add("author", "history_author", hashed.author[posts])
    return {
        "actions": sequences.action_matrix(batch.history, config.num_actions) * present[..., None],
        "surface": np.where(present, sequences.surface[batch.history], 0).astype(np.int32),
        "dwell": np.where(present, sequences.dwell_s[batch.history], 0).astype(np.float32),
        "anchors": batch.anchors,
    }


def candidate_arrays(
    sequences: Sequences,
    hashed: HashedRows,
    config: PhoenixConfig,
    posts: I32,
    at_rows: npt.NDArray[np.int64],
    gatherer: Gatherer,
    *,
    post_age: bool,
) -> Arrays:
    """Columns of ranker candidates ``posts`` [B, C] (-1: none), as shown at the time of ``at_rows`` [B, C]."""
    gatherer.add("item", "candidate_item", hashed.item[posts])
    gatherer.add("author", "candidate_author", hashed.author[posts])
    age = np.zeros(posts.shape, np.int32)
    if post_age:
        age = post_age_bucket(sequences.time_s[at_rows], sequences.created_s[posts], config.post_age_granularity_mins)
    present = posts >= 0
    return {
        "candidate_surface": np.where(present, sequences.surface[at_rows], 0).astype(np.int32),
        "candidate_age": np.where(present, age, 0).astype(np.int32),
    }


def context_inputs(rows: Mapping[Kind, Array], arrays: Mapping[str, Array]) -> model.ContextInputs:
    """Inputs of the context tokens; place 0 is row 0, "no entity", a zero vector (PHOENIX §1)."""
    return model.ContextInputs(
        user_embeddings=rows["user"][arrays["user"]],
        user_valid=arrays["user"][..., 0] != 0,
        post_embeddings=rows["item"][arrays["history_item"]],
        author_embeddings=rows["author"][arrays["history_author"]],
        valid=arrays["history_item"][..., 0] != 0,
        actions=arrays["actions"],
        product_surface=arrays["surface"],
        dwell=arrays["dwell"],
    )


def candidate_inputs(rows: Mapping[Kind, Array], arrays: Mapping[str, Array]) -> model.CandidateInputs:
    """Inputs of the ranker's candidates."""
    return model.CandidateInputs(
        post_embeddings=rows["item"][arrays["candidate_item"]],
        author_embeddings=rows["author"][arrays["candidate_author"]],
        valid=jnp.asarray(arrays["candidate_item"][..., 0] != 0),
        product_surface=arrays["candidate_surface"],
        age_bucket=arrays["candidate_age"],
    )

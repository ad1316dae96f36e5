"""What the models are measured against: popularity, item-kNN, recent item-kNN, EASE, and an online bias model.

The item models score the whole catalogue for a history and are dense in the catalogue: up to some 20,000 posts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.phoenix.training.sequences import Sequences

__all__ = ["Ease", "ItemKnn", "OnlineBias", "Popularity", "RecentItemKnn", "Scorer", "baselines"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
MAX_CATALOGUE = 20_000


class Scorer(Protocol):
    """Something that scores every post of the catalogue for users and their histories."""

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """Scores [len(users), posts]; ``histories`` are rows of ``sequences``, oldest first."""


def _interactions(sequences: Sequences) -> F32:
    """Binary matrix [users, posts] of what was acted on."""
    if len(sequences.posts) > MAX_CATALOGUE:
        raise ParameterError(f"the catalogue has {len(sequences.posts)} posts, item models take up to {MAX_CATALOGUE}")
    matrix = np.zeros((len(sequences.users), len(sequences.posts)), np.float32)
    acted = sequences.actions != 0
    matrix[sequences.user[acted], sequences.post[acted]] = 1
    return matrix


@dataclass(frozen=True, eq=False)
class Popularity:
    """The number of users that acted on a post, the same for everyone."""

    counts: F32

    @classmethod
    def fit(cls, train: Sequences) -> Popularity:
        """Count."""
        return cls(_interactions(train).sum(0))

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """See :class:`Scorer`."""
        return np.broadcast_to(self.counts, (len(users), len(self.counts)))


@dataclass(frozen=True, eq=False)
class ItemKnn:
    """Sum of cosine similarities to the posts of the history; each of these votes for its ``k`` nearest posts."""

    similarity: F32

    @classmethod
    def fit(cls, train: Sequences, *, k: int = 200) -> ItemKnn:
        """Binary cosine over users; all but the ``k`` largest entries of a row become 0 (ties: lower row first)."""
        matrix = _interactions(train)
        norms = np.sqrt(np.maximum(matrix.sum(0), 1))
        similarity = (matrix.T @ matrix) / norms[:, None] / norms[None, :]
        np.fill_diagonal(similarity, 0)
        drop = np.argsort(-similarity, axis=1, kind="stable")[:, k:]
        np.put_along_axis(similarity, drop, 0, axis=1)
        return cls(similarity)

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """See :class:`Scorer`."""
        return np.stack([self.similarity[sequences.post[rows]].sum(0) for rows in histories])


@dataclass(frozen=True, eq=False)
class RecentItemKnn:
    """The same over the ``last`` posts of the history, the n-th newest weighted ``decay**n``."""

    knn: ItemKnn
    last: int = 3
    decay: float = 0.9

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """See :class:`Scorer`."""
        result = []
        for rows in histories:
            recent = rows[: -self.last - 1 : -1]
            weights = self.decay ** np.arange(len(recent), dtype=np.float32)
            result.append(weights @ self.knn.similarity[sequences.post[recent]])
        return np.stack(result)


@dataclass(frozen=True, eq=False)
class Ease:
    """EASE (Steck 2019): the linear item-item model with zero diagonal, in closed form."""

    weights: F32

    @classmethod
    def fit(cls, train: Sequences, *, l2: float = 100.0) -> Ease:
        """Invert the regularised Gram matrix."""
        matrix = _interactions(train).astype(np.float64)
        gram = matrix.T @ matrix
        gram[np.diag_indices_from(gram)] += l2
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0)
        return cls(weights.astype(np.float32))

    def scores(self, sequences: Sequences, users: I32, histories: list[I64]) -> F32:
        """See :class:`Scorer`."""
        return np.stack([self.weights[sequences.post[rows]].sum(0) for rows in histories])


def baselines(train: Sequences) -> dict[str, Scorer]:
    """Fit the four item baselines."""
    knn = ItemKnn.fit(train)
    return {
        "popularity": Popularity.fit(train),
        "item-kNN, full history": knn,
        "item-kNN, last 3": RecentItemKnn(knn),
        "EASE": Ease.fit(train),
    }


class OnlineBias:
    """mean + user bias + item bias, shrunk, updated after every row: the model to beat for "will they like it".

    Parameters
    ----------
    num_users, num_posts
        Sizes.
    user_shrink, item_shrink
        Rows of prior weight at bias 0.
    """

    def __init__(self, num_users: int, num_posts: int, *, user_shrink: float = 5.0, item_shrink: float = 5.0) -> None:
        self.mean = 0.0
        self._users = np.zeros((num_users, 2))
        self._posts = np.zeros((num_posts, 2))
        self._shrink = (user_shrink, item_shrink)

    def fit(
        self, users: npt.NDArray[np.integer], posts: npt.NDArray[np.integer], values: npt.NDArray[np.floating]
    ) -> OnlineBias:
        """Fit by ten rounds of alternating least squares."""
        self.mean = float(values.mean())
        user_bias = np.zeros(len(self._users))
        self._users[:, 0] = np.bincount(users, minlength=len(self._users))
        self._posts[:, 0] = np.bincount(posts, minlength=len(self._posts))
        for _ in range(10):
            rest = values - self.mean - user_bias[users]
            self._posts[:, 1] = np.bincount(posts, rest, minlength=len(self._posts))
            item_bias = self._posts[:, 1] / (self._posts[:, 0] + self._shrink[1])
            self._users[:, 1] = np.bincount(users, values - self.mean - item_bias[posts], minlength=len(self._users))
            user_bias = self._users[:, 1] / (self._users[:, 0] + self._shrink[0])
        return self

    def predict(self, user: int, post: int) -> float:
        """Expected value of one row."""
        return self.mean + self._bias(self._users[user], 0) + self._bias(self._posts[post], 1)

    def update(self, user: int, post: int, value: float) -> None:
        """Learn from a row that has been predicted."""
        of_user, of_post = self._bias(self._users[user], 0), self._bias(self._posts[post], 1)
        self._users[user] += (1, value - self.mean - of_post)
        self._posts[post] += (1, value - self.mean - of_user)

    def run(
        self, users: npt.NDArray[np.integer], posts: npt.NDArray[np.integer], values: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.float64]:
        """Predict each row, then learn from it."""
        result = np.empty(len(users))
        for index, (user, post, value) in enumerate(zip(users.tolist(), posts.tolist(), values.tolist())):
            result[index] = self.predict(user, post)
            self.update(user, post, value)
        return result

    def _bias(self, entry: npt.NDArray[np.float64], kind: int) -> float:
        return float(entry[1] / (entry[0] + self._shrink[kind]))

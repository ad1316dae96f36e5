"""The models that the mixer asks: ranking, retrieval, value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError
from xfast.mixer._columns import gather, last_rows
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients.common import I64, U64, Mask, Maybe

if TYPE_CHECKING:
    from xfast.mixer.query import ScoredPostsQuery

__all__ = [
    "PhoenixClient",
    "PredictRequest",
    "Prediction",
    "Retrieval",
    "RetrievalClient",
    "RetrievalRequest",
    "ValueModelClient",
    "ValueModelRequest",
    "ValueModelResponse",
]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What the ranking model is asked: a viewer's history and the candidates, with the contexts in ``query``."""

    cluster: str
    query: ScoredPostsQuery
    sequence: Any
    product_surface: int
    candidates: CandidateBatch


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer, one row per post.

    Attributes
    ----------
    post_ids
        Original ids ``[M]``; of a repeated id the last row counts.
    log_probs
        ``[M, A]``: natural logarithms, column = action number; NaN where the model has no such action.
    continuous
        ``[M, K]``: continuous outputs as they are.
    probs
        ``[M, A]``: the probabilities themselves, instead of ``log_probs``, from a model of this process.

    Raises
    ------
    DataError
        Neither or both of ``log_probs`` and ``probs``.
    """

    post_ids: U64
    log_probs: npt.NDArray[np.floating[Any]] | None
    continuous: npt.NDArray[np.floating[Any]]
    probs: npt.NDArray[np.floating[Any]] | None = None

    def __post_init__(self) -> None:
        if (self.log_probs is None) == (self.probs is None):
            raise DataError("a prediction has either log_probs or probs")

    @property
    def width(self) -> int:
        """Number of discrete actions that the model may have."""
        matrix = self.probs if self.log_probs is None else self.log_probs
        return 0 if matrix is None else matrix.shape[1]

    def rows_of(self, post_ids: U64) -> I64:
        """The answer's row per wanted post, -1 for posts without one."""
        return last_rows(self.post_ids, post_ids)

    def fill(self, out: npt.NDArray[np.float64], rows: I64, actions: npt.ArrayLike, places: npt.ArrayLike) -> None:
        """Write probabilities of ``actions`` into columns ``places`` of ``out`` ``[N, W]``, which holds NaN.

        Rows of -1 stay as they are.
        """
        columns, targets = np.asarray(actions, np.int64), np.asarray(places, np.int64)
        if self.log_probs is not None:
            gather(np.ascontiguousarray(self.log_probs), rows, columns, out, targets)
            np.exp(out, out=out)
        elif self.probs is not None:
            gather(np.ascontiguousarray(self.probs), rows, columns, out, targets)

    def probabilities(self, post_ids: U64) -> tuple[npt.NDArray[np.float64], Mask]:
        """Probabilities per wanted post ``[N, A]``, NaN rows for absent ones, and the mask of found ones."""
        rows = self.rows_of(post_ids)
        values = np.full((len(post_ids), self.width), np.nan)
        self.fill(values, rows, range(self.width), range(self.width))
        return values, rows >= 0


class PhoenixClient(Protocol):
    """The ranking model."""

    def predict(self, request: PredictRequest) -> Maybe[Prediction]:
        """Score the candidates of a request."""
        ...


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """What the retrieval model is asked."""

    cluster: str
    query: ScoredPostsQuery
    sequence: Any
    max_results: int
    topic_ids: tuple[int, ...] = ()
    mode: int | None = None
    with_contexts: bool = True


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Hits, best first; groups already flattened in their order. 0 in the parent and retweet columns means none."""

    post_ids: U64
    author_ids: U64
    in_reply_to_ids: U64 | None = None
    retweeted_ids: U64 | None = None
    scores: npt.NDArray[np.floating[Any]] | None = None


class RetrievalClient(Protocol):
    """The retrieval model over its corpus."""

    def retrieve(self, request: RetrievalRequest) -> Maybe[Retrieval]:
        """Find posts for a viewer's history."""
        ...


@dataclass(frozen=True, slots=True)
class ValueModelRequest:
    """What the value model is asked (HOME_MIXER §8.3); the candidates carry ids, network, heads and current scores."""

    cluster: str
    value_model_id: str
    user_id: int
    request_time_ms: int
    following_count: int
    new_user_age_threshold_secs: int
    dpp_theta: float | None
    dpp_max_selected_rank: int | None
    top_k: int
    candidates: CandidateBatch
    vqv_ineligible: Mask


@dataclass(frozen=True, slots=True)
class ValueModelResponse:
    """New scores by own post id."""

    tweet_ids: U64
    scores: npt.NDArray[np.float64]

    def lookup(self, tweet_ids: U64) -> tuple[npt.NDArray[np.float64], Mask]:
        """Score per wanted id (the last entry of an id wins) and the mask of answered ones."""
        rows = last_rows(self.tweet_ids, tweet_ids)
        found = rows >= 0
        scores = np.zeros(len(tweet_ids))
        scores[found] = self.scores[rows[found]]
        return scores, found


class ValueModelClient(Protocol):
    """The value model."""

    def rank(self, request: ValueModelRequest) -> Maybe[ValueModelResponse]:
        """Rewrite scores."""
        ...

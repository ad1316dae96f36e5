"""WeightedScorer: 22 predictions and their weights become one number (HOME_MIXER §8.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import weighted_sum
from xfast.mixer.heads import HEAD_INDEX, HEADS
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS, Params
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Mask, Scorer

__all__ = ["WeightedScorer", "combined_scores", "offset_scores", "quoted_vqv_eligible", "vqv_eligible"]

F64 = npt.NDArray[np.float64]
Normalizer = Callable[[CandidateBatch, F64], F64]

_WEIGHTS = (*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS, *CONTINUOUS_WEIGHTS)


def offset_scores(combined: npt.ArrayLike, *, negative_sum: float, total_sum: float, offset: float) -> F64:
    """Move combined scores so that zero means "nothing expected" and order is kept.

    Parameters
    ----------
    combined
        Weighted sums ``[N]``.
    negative_sum, total_sum
        :meth:`xfast.mixer.params.Params.weight_sums`.
    offset
        ``NEGATIVE_SCORES_OFFSET``: sums of 0 and more start there, negative ones are squeezed below it.
    """
    values = np.asarray(combined, np.float64)
    if total_sum == 0:
        # Of NaN and 0 the release takes 0.
        return np.fmax(values, 0.0)
    return np.where(values < 0, (values + negative_sum) / total_sum * offset, values + offset)


def vqv_eligible(
    durations: Column, *, min_duration_ms: int, follower_count: int | None, max_viewer_followers: int = 10_000
) -> Mask:
    """Rows whose video views count: longer than the minimum, and the viewer is no big account themselves.

    ``max_viewer_followers`` 0 turns the viewer's rule off (the text of the release has none).
    """
    if max_viewer_followers and follower_count is not None and follower_count >= max_viewer_followers:
        return np.zeros(len(durations), np.bool_)
    mask: Mask = durations.mask() & (durations.values > min_duration_ms)
    return mask


def quoted_vqv_eligible(durations: Column, *, min_duration_ms: int, check: bool) -> Mask:
    """Rows whose quoted video views count; all of them where the duration is not checked."""
    if not check:
        return np.ones(len(durations), np.bool_)
    mask: Mask = durations.mask() & (durations.values > min_duration_ms)
    return mask


def head_weights(params: Params) -> F64:
    """Weights in the order of ``phoenix_scores``."""
    return np.array([getattr(params, name) for name in _WEIGHTS], np.float64)


def combined_scores(query: ScoredPostsQuery, batch: CandidateBatch) -> tuple[F64, Mask]:
    """Sum of weight times prediction over all heads, video weights gated, and the rows with any prediction."""
    return weighted_sum(
        np.ascontiguousarray(batch.values("phoenix_scores")),
        head_weights(query.params),
        HEAD_INDEX["vqv"],
        _vqv_gate(query, batch).view(np.uint8),
        HEAD_INDEX["quoted_vqv"],
        _quoted_gate(query, batch).view(np.uint8),
    )


def _vqv_gate(query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
    return vqv_eligible(
        batch.column("min_video_duration_ms"),
        min_duration_ms=query.params.min_video_duration_ms,
        follower_count=query.follower_count,
        max_viewer_followers=query.params.vqv_max_viewer_followers,
    )


def _quoted_gate(query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
    return quoted_vqv_eligible(
        batch.column("quoted_video_duration_ms"),
        min_duration_ms=query.params.min_video_duration_ms,
        check=query.params.enable_quoted_vqv_duration_check,
    )


def keep_scores(batch: CandidateBatch, scores: F64) -> F64:
    """The identity: the release's normaliser is unpublished and gone in August."""
    return scores


class WeightedScorer(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Write ``weighted_score`` from the model's predictions.

    Parameters
    ----------
    normalize
        Hook on the offset scores, the identity unless given.
    """

    def __init__(self, normalize: Normalizer = keep_scores) -> None:
        self._normalize = normalize

    def weigh(self, query: ScoredPostsQuery, batch: CandidateBatch) -> tuple[F64, Mask]:
        """The weighted score per row, and the rows for which the model predicted anything."""
        negative_sum, total_sum = query.params.weight_sums()
        combined, predicted = combined_scores(query, batch)
        shifted = offset_scores(
            combined, negative_sum=negative_sum, total_sum=total_sum, offset=query.params.negative_scores_offset
        )
        return self._normalize(batch, shifted), predicted

    def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        return Hydration({"weighted_score": self.weigh(query, batch)[0]})

    def terms(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mapping[str, npt.NDArray[Any]]:
        heads = np.nan_to_num(batch.values("phoenix_scores"), nan=0.0)
        products = heads * head_weights(query.params)
        products[:, HEAD_INDEX["vqv"]] *= _vqv_gate(query, batch)
        products[:, HEAD_INDEX["quoted_vqv"]] *= _quoted_gate(query, batch)
        terms = {f"{name} x weight": products[:, index] for index, name in enumerate(HEADS)}
        terms["weighted_score"] = batch.values("weighted_score")
        return terms

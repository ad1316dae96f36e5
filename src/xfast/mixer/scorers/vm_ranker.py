"""VMRanker: a value model may rewrite the final scores (HOME_MIXER §8.3)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import ValueModelClient, ValueModelRequest, ValueModelResponse, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.scorers.dpp import greedy_dpp
from xfast.mixer.scorers.weighted_scorer import vqv_eligible
from xfast.pipeline import Column, Hydration, Scorer, eager

__all__ = ["DppValueModel", "VMRanker", "merge_scores"]

Embeddings = Callable[[npt.NDArray[np.uint64]], tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]


def merge_scores(batch: CandidateBatch, response: ValueModelResponse) -> Column:
    """The response's score by own id (its last entry wins), else the score that the post had."""
    before = batch.column("score")
    answered, found = response.lookup(batch.tweet_id)
    return Column(np.where(found, answered, before.values), found | before.mask())


class VMRanker(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Ask the value model and write ``score``; nothing else changes, and an error leaves everything as it was."""

    def __init__(self, client: ValueModelClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_vm_ranker

    @eager
    async def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        params = query.params
        ineligible = ~vqv_eligible(
            batch.column("min_video_duration_ms"),
            min_duration_ms=params.min_video_duration_ms,
            follower_count=query.follower_count,
            max_viewer_followers=params.vqv_max_viewer_followers,
        )
        with_dpp = params.vm_ranker_dpp_theta > 0 or params.vm_ranker_dpp_max_selected_rank > 0
        request = ValueModelRequest(
            cluster=params.vm_ranker_cluster_id,
            value_model_id=params.vm_ranker_value_model_id,
            user_id=query.user_id,
            request_time_ms=query.request_time_ms,
            following_count=len(query.user_features.followed_user_ids),
            new_user_age_threshold_secs=params.new_user_age_threshold_secs,
            dpp_theta=params.vm_ranker_dpp_theta if with_dpp else None,
            dpp_max_selected_rank=params.vm_ranker_dpp_max_selected_rank if with_dpp else None,
            top_k=params.top_k_candidates_to_select,
            candidates=batch,
            vqv_ineligible=ineligible if params.vqv_weight else np.ones(len(batch), np.bool_),
        )
        return Hydration({"score": merge_scores(batch, await answer(self._client.rank(request)))})


class DppValueModel:
    """The value model ``dpp`` in this process.

    Parameters
    ----------
    embeddings
        Original ids ``[N]`` -> (vectors ``[N, D]``, mask of known ones): the corpus's vectors, else content embeddings.
    quirks
        ``"reference"``: a post without a vector gets a random one and every post that was not chosen the score 0, which
        loses their order. ``"fixed"``: a post without a vector takes no part and keeps its score, and posts that were
        not chosen keep their order below the chosen ones, also those beyond the pool.
    rng
        Source of the random vectors in reference mode.
    """

    def __init__(
        self, embeddings: Embeddings, quirks: Quirks = "fixed", *, rng: np.random.Generator | None = None
    ) -> None:
        self._embeddings = embeddings
        self.quirks = quirks
        self._rng = rng or np.random.default_rng(0)

    def rank(self, request: ValueModelRequest) -> ValueModelResponse:
        """Rewrite scores; without DPP settings they are echoed (unset becomes 0)."""
        batch = request.candidates
        column = batch.column("score")
        scores = column.filled(0.0)
        if request.dpp_theta is None or request.dpp_max_selected_rank is None:
            return ValueModelResponse(batch.tweet_id, scores)
        eligible = column.mask().copy()
        if self.quirks == "fixed":
            eligible &= ~batch.is_true("unscored")
        ranked = np.flatnonzero(eligible)
        ranked = ranked[np.argsort(-scores[ranked], kind="stable")]
        pool, outside = np.split(ranked, [request.dpp_max_selected_rank])
        vectors, known = self._embeddings(batch.original_id[pool])
        vectors = vectors.astype(np.float64)
        if self.quirks == "fixed":
            pool, vectors = pool[known], vectors[known]
        elif not known.all():
            vectors[~known] = self._rng.standard_normal((int((~known).sum()), vectors.shape[1]))
        chosen = pool[greedy_dpp(scores[pool], vectors, theta=request.dpp_theta, top_k=request.top_k)]
        if self.quirks == "reference":
            result = np.zeros(len(batch))
            result[chosen] = scores[chosen]
            return ValueModelResponse(batch.tweet_id, result)
        others = np.concatenate([np.setdiff1d(pool, chosen), outside])
        return ValueModelResponse(batch.tweet_id, _demote(scores, others, chosen))


def _demote(
    scores: npt.NDArray[np.float64], others: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Squeeze rows that were not chosen below the lowest chosen score, in their order.

    Those beyond the pool move, too: a post that was too far down to be looked at must not pass one that was.
    """
    result = scores.copy()
    if not len(chosen) or not len(others):
        return result
    ceiling, highest = scores[chosen].min(), scores[others].max()
    if highest >= ceiling:
        # A positive scale keeps their order; a score that is not positive can only be shifted.
        shrunk = (
            scores[others] / highest * np.nextafter(ceiling, -np.inf)
            if highest > 0 and ceiling > 0
            else (scores[others] - highest + np.nextafter(ceiling, -np.inf))
        )
        result[others] = shrunk
    return result

"""Suites of scorers and of the selector by score (HOME_MIXER §8, §9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.conformance.home_mixer.cases import Inputs, build_query, decider, suite
from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import Prediction, ValueModelResponse
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS, Params
from xfast.mixer.scorers import OONScorer, RankingScorer, WeightedScorer, combined_scores, merge_scores
from xfast.mixer.scorers.author_diversity_scorer import diversity_multipliers
from xfast.mixer.scorers.oon_scorer import oon_factor
from xfast.mixer.scorers.phoenix_scorer import resolve_ranker_cluster
from xfast.mixer.scorers.weighted_scorer import offset_scores, quoted_vqv_eligible, vqv_eligible
from xfast.mixer.selectors import TopKScoreSelector
from xfast.pipeline import Column


def weight_overrides(weights: Mapping[str, float | None] | None) -> dict[str, float]:
    """A head that a case does not weigh weighs nothing."""
    heads = (*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS, *CONTINUOUS_WEIGHTS)
    return {
        **dict.fromkeys(heads, 0.0),
        **{f"{head}_weight": weight for head, weight in (weights or {}).items() if weight is not None},
    }


@suite("offset_score")
def offset_score(case: Inputs) -> dict[str, Any]:
    score = offset_scores(
        [case["combined"]], negative_sum=case["negative_sum"], total_sum=case["total_sum"], offset=case["offset"]
    )
    return {"score": float(score[0])}


def durations(value: int | None) -> Column:
    return Column(np.array([value or 0], np.int32), np.array([value is not None]))


@suite("vqv_weight")
def vqv_weight(case: Inputs) -> dict[str, Any]:
    eligible = vqv_eligible(
        durations(case["duration_ms"]), min_duration_ms=case["min_ms"], follower_count=case["follower_count"]
    )
    return {"weight": case["weight"] * bool(eligible[0])}


@suite("quoted_vqv_weight")
def quoted_vqv_weight(case: Inputs) -> dict[str, Any]:
    eligible = quoted_vqv_eligible(durations(case["duration_ms"]), min_duration_ms=case["min_ms"], check=case["check"])
    return {"weight": case["weight"] * bool(eligible[0])}


@suite("weighted_score")
def weighted_score(case: Inputs) -> dict[str, Any]:
    minimum = case["min_video_duration_ms"]
    query = case.query(
        **weight_overrides(case["weights"]),
        min_video_duration_ms=minimum,
        enable_quoted_vqv_duration_check=case["enable_quoted_vqv_duration_check"],
        negative_scores_offset=case["offset"],
    )
    batch = CandidateBatch.from_records(
        [{"tweet_id": 1, **case.get("candidate", {}), "phoenix_scores": case.get("scores", {})}]
    )
    negative_sum, total_sum = query.params.weight_sums()
    return {
        "negative_sum": negative_sum,
        "total_sum": total_sum,
        "combined": float(combined_scores(query, batch)[0][0]),
        "score": float(WeightedScorer().weigh(query, batch)[0][0]),
    }


@suite("author_diversity")
def author_diversity(case: Inputs) -> dict[str, Any]:
    scores = np.array(case["scores"], np.float64)
    multipliers = diversity_multipliers(scores, as_uint64(case["author_ids"]), decay=case["decay"], floor=case["floor"])
    return {"adjusted": (scores * multipliers).tolist(), "multipliers": multipliers.tolist()}


def factor_overrides(factors: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters behind the factors of a case; those that it leaves unset keep their defaults."""
    names = {
        "oon": "oon_weight_factor",
        "topic_oon": "topic_oon_weight_factor",
        "new_user_oon": "new_user_oon_weight_factor",
        "new_user_min_following": "new_user_min_following",
    }
    found = {name: factors[key] for key, name in names.items() if factors.get(key) is not None}
    threshold_ms = factors.get("new_user_age_threshold_ms")
    if threshold_ms is None:
        return found
    seconds, rest = divmod(threshold_ms, 1_000)
    if rest:
        raise ValueError("NewUserAgeThresholdSecs is in whole seconds")
    return found | {"new_user_age_threshold_secs": seconds}


@suite("oon")
def oon(case: Inputs) -> dict[str, Any]:
    query = case.query(**factor_overrides(case.get("factors", {})))
    if case["followed_count"] is not None:
        query.user_features.followed_user_ids = np.arange(case["followed_count"], dtype=np.uint64)
    batch = CandidateBatch.from_records(
        {"tweet_id": row, "in_network": known, "score": score}
        for row, (known, score) in enumerate(zip(case["in_network"], case["scores"], strict=True))
    )
    result = OONScorer().score(query, batch)
    return {"factor": oon_factor(query), "scores": result.columns["score"].tolist()}


@suite("ranking_scorer")
def ranking_scorer(case: Inputs) -> dict[str, Any]:
    params, viewer = case.get("params", {}), dict(case.get("query", {}))
    followed, now_ms = viewer.pop("followed_count", None), viewer.pop("now_ms", None)
    query = build_query(viewer)
    query.request_time_ms = query.request_time_ms or (case.now_ms if now_ms is None else now_ms)
    if followed is not None:
        query.user_features.followed_user_ids = np.arange(followed, dtype=np.uint64)
    names = {
        "min_video_ms": "min_video_duration_ms",
        "quoted_check": "enable_quoted_vqv_duration_check",
        "offset": "negative_scores_offset",
        "decay": "author_diversity_decay",
        "floor": "author_diversity_floor",
    }
    own = {name: params[key] for key, name in names.items() if params.get(key) is not None}
    query.params = Params().override({**weight_overrides(case["weights"]), **factor_overrides(params), **own})
    result = RankingScorer("reference").score(query, case.batch())
    return {
        "weighted": result.columns["weighted_score"].tolist(),
        "final": result.columns["score"].tolist(),
        "oon_factor": oon_factor(query),
    }


@suite("phoenix_scores")
def phoenix_scores(case: Inputs) -> dict[str, Any]:
    answer = case.get("log_probs", {})
    # A mapping, or pairs where an id comes twice.
    table = [(key, row or ()) for key, row in (answer.items() if isinstance(answer, dict) else answer)]
    width = max((len(row) for _, row in table), default=0)
    log_probs = np.full((len(table), width), np.nan)
    for index, (_, row) in enumerate(table):
        log_probs[index, : len(row)] = [np.nan if cell is None else cell for cell in row]
    prediction = Prediction(as_uint64([int(key) for key, _ in table]), log_probs, np.empty((len(table), 0)))
    batch = CandidateBatch.from_records([case.get("candidate", {})])
    values, found = prediction.probabilities(batch.original_id)
    return {"probs": values[0][~np.isnan(values[0])].tolist() if found[0] else None}


@suite("phoenix_cluster")
def phoenix_cluster(case: Inputs) -> dict[str, Any]:
    query = case.query(
        phoenix_inference_cluster_id=case["configured"],
        phoenix_ranker_new_user_history_threshold=case["threshold"],
        phoenix_ranker_new_user_inference_cluster_id=case["new_user_cluster"],
    )
    query.decider = decider(dict.fromkeys(case.get("deciders_on", ()), 1.0))
    return {"cluster": resolve_ranker_cluster(query, case.get("history_length", 0))}


@suite("vm_ranker_merge")
def vm_ranker_merge(case: Inputs) -> dict[str, Any]:
    answer = case.get("response", {})
    # A mapping, or where an id comes twice pairs or records.
    pairs = (
        list(answer.items())
        if isinstance(answer, dict)
        else [(pair["tweet_id"], pair["score"]) if isinstance(pair, dict) else tuple(pair) for pair in answer]
    )
    response = ValueModelResponse(
        as_uint64([int(key) for key, _ in pairs]), np.array([score for _, score in pairs], np.float64)
    )
    merged = merge_scores(case.batch(), response)
    return {"scores": [merged.item(row) for row in range(len(merged))]}


@suite("top_k_selector")
def top_k_selector(case: Inputs) -> dict[str, Any]:
    batch = case.batch()
    chosen = TopKScoreSelector().select(case.query(top_k_candidates_to_select=case["k"]), batch)
    ids = batch.tweet_id
    return {"selected": ids[chosen.selected].tolist(), "non_selected": ids[chosen.rest].tolist()}

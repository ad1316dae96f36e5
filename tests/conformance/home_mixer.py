"""Adapter of ``home_mixer.json``: builds inputs from JSON, calls the shipped component, compares.

Components run in reference mode. A key of a case that is neither the suite's own nor a field of HOME_MIXER §1 fails the
case, and so does an expected key that the suite does not produce.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from tests.conformance.report import Report
from tests.conformance.toy_pipeline import run_toy_pipeline
from xfast.ids import as_uint64
from xfast.mixer import filters as mixer_filters
from xfast.mixer.ads import (
    PartitionOrganic,
    SafeGap,
    ad_drop_reason,
    ads_spacing,
    assign_ads_to_gaps,
    best_gap,
    botmaker_category,
    candidate_brand_safety,
    compute_verdict,
    safe_gaps,
)
from xfast.mixer.ads.blender import AdsBlender, is_avoided
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo, PostLabel, Prediction, ValueModelResponse, WhoToFollowUser
from xfast.mixer.deciders import Decider
from xfast.mixer.enums import BrandSafetyVerdict, ServedType, pascal_case
from xfast.mixer.hydrators.following_replied_users import replied_users
from xfast.mixer.hydrators.mutual_follow_jaccard import signature_jaccard
from xfast.mixer.hydrators.tweet_type_metrics import tweet_type_bits, tweet_type_bytes
from xfast.mixer.hydrators.vf import apply_visibility, plan_visibility
from xfast.mixer.items import FeedItem, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS, Params
from xfast.mixer.query import (
    BloomFilterEntry,
    Cursor,
    ScoredPostsQuery,
    ServedEntry,
    ServedItem,
    ServedResponse,
    UserFeatures,
)
from xfast.mixer.query_hydrators.served_history import recently_served_ids, who_to_follow_eligible
from xfast.mixer.scorers import OONScorer, RankingScorer, WeightedScorer, combined_scores, merge_scores
from xfast.mixer.scorers.author_diversity_scorer import diversity_multipliers
from xfast.mixer.scorers.oon_scorer import oon_factor
from xfast.mixer.scorers.phoenix_scorer import resolve_ranker_cluster
from xfast.mixer.scorers.weighted_scorer import offset_scores, quoted_vqv_eligible, vqv_eligible
from xfast.mixer.selectors import BlenderSelector, TopKScoreSelector
from xfast.mixer.side_effects.redis_post_candidate_cache import cache_selection
from xfast.mixer.side_effects.truncate_served_history import times_to_delete
from xfast.mixer.side_effects.update_past_request_timestamps import push_timestamp
from xfast.mixer.side_effects.update_served_history import post_entries
from xfast.mixer.sources.thunder import thunder_ancestors
from xfast.mixer.times import age_ms, created_ms
from xfast.mixer.topics import all_production_topics, expand, expand_supertopic, resolve_experiment, supertopic
from xfast.pipeline import Column, Filter, Metrics
from xfast.sketch import BloomFilter

Case = dict[str, Any]
Suite = Callable[["Inputs"], dict[str, Any]]

SUITES: dict[str, Suite] = {}

# ``is_shadow_traffic`` is a property here: sampled from the request id unless ``shadow_traffic`` says otherwise.
QUERY_FIELDS = {field.name for field in fields(ScoredPostsQuery)} | {"is_shadow_traffic"}
FEATURE_FIELDS = {field.name for field in fields(UserFeatures)} - QUERY_FIELDS
ID_LISTS = {"seen_ids", "served_ids", "impressed_post_ids"}
GRAPH_LISTS = {"blocked_user_ids", "muted_user_ids", "followed_user_ids", "subscribed_user_ids"}


class Inputs(dict[str, Any]):
    """The input of a case; remembers which keys the suite used."""

    def __init__(self, values: Mapping[str, Any], params: Mapping[str, Any], now_ms: int) -> None:
        super().__init__(values)
        self.params = params
        self.now_ms = int(values.get("now_ms") or params.get("now_ms") or now_ms)
        self.used: set[str] = {"now_ms"}

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.used.add(key)
        return super().get(key, default)

    def batch(self, key: str = "candidates") -> CandidateBatch:
        return CandidateBatch.from_records(self[key])

    def query(self, **overrides: Any) -> ScoredPostsQuery:
        """The query of the case's own fields; ``overrides`` are parameters."""
        query = build_query({key: value for key, value in self.items() if key in QUERY_FIELDS | FEATURE_FIELDS})
        self.used |= set(self) & (QUERY_FIELDS | FEATURE_FIELDS)
        query.request_time_ms = query.request_time_ms or self.now_ms
        query.params = query.params.override(overrides)
        return query

    def unknown(self) -> list[str]:
        known = QUERY_FIELDS | FEATURE_FIELDS | set(CandidateBatch.schema)
        return sorted(key for key in self if key not in self.used and key not in known)


def build_query(values: Mapping[str, Any]) -> ScoredPostsQuery:
    """A query of JSON fields."""
    query = ScoredPostsQuery()
    for name, value in values.items():
        if name in FEATURE_FIELDS:
            setattr(query.user_features, name, as_uint64(value or []) if name in GRAPH_LISTS else value)
        elif name in ID_LISTS:
            setattr(query, name, as_uint64(value or []))
        elif name == "user_features":
            for feature, cells in (value or {}).items():
                setattr(query.user_features, feature, as_uint64(cells) if feature in GRAPH_LISTS else cells)
        elif name == "cached_posts":
            query.cached_posts = None if value is None else CandidateBatch.from_records(value)
        elif name == "served_history":
            query.served_history = served_history(value or [])
        elif name == "params":
            query.params = query.params.override(value or {})
        elif name == "decider":
            shares = dict.fromkeys(value, 1.0) if isinstance(value, list) else value
            query.decider = None if value is None else Decider({key: float(share) for key, share in shares.items()})
        elif name == "is_shadow_traffic":
            query.shadow_traffic = value
        elif name == "bloom_filter_entries":
            query.bloom_filter_entries = [
                BloomFilterEntry(as_uint64(e["bloom_filter"]), e["size_cap"], e["false_positive_rate"])
                for e in value or ()
            ]
        elif name in ("viewer_minhash", "followed_grok_topics", "inferred_grok_topics", "followed_starter_packs"):
            kind = np.uint64 if name == "viewer_minhash" else np.bool_
            setattr(query, name, None if value is None else np.array(value, kind))
        elif name == "in_network_replies":
            authors = as_uint64([reply["author_id"] for reply in value or ()])
            query.in_network_replies.set(authors, as_uint64([reply["in_reply_to_tweet_id"] for reply in value or ()]))
        elif name == "cursor":
            query.cursor = None if value is None else Cursor(str(value))
        elif value is not None or name == "follower_count":
            setattr(query, name, value)
    return query


def served_history(history: list[dict[str, Any]]) -> list[ServedResponse]:
    return [
        ServedResponse(
            response.get("served_time_ms"),
            tuple(
                ServedEntry(
                    entry["entity_type"],
                    tuple(
                        ServedItem(item["tweet_id"], item.get("source_tweet_id")) for item in entry["item_ids"] or ()
                    ),
                )
                for entry in response["entries"]
            ),
        )
        for response in history
    ]


def suite(name: str) -> Callable[[Suite], Suite]:
    def register(function: Suite) -> Suite:
        SUITES[name] = function
        return function

    return register


# -- filters ----------------------------------------------------------------------------------------------------------


def split(component: Filter[Any, Any], query: ScoredPostsQuery, batch: CandidateBatch) -> dict[str, Any]:
    """kept, removed and enabled of one filter."""
    ids = batch.tweet_id
    enabled = component.enable(query)
    result = component.filter(query, batch) if enabled else None
    if result is None:
        return {"enabled": enabled, "kept": ids.tolist(), "removed": []}
    return {"enabled": enabled, "kept": ids[result.kept].tolist(), "removed": ids[result.removed].tolist()}


def plain_filter(name: str, make: Callable[[], Filter[Any, Any]], **overrides: Any) -> None:
    SUITES[name] = lambda case: split(make(), case.query(**overrides), case.batch())


plain_filter("drop_duplicates_filter", mixer_filters.DropDuplicatesFilter)
plain_filter("core_data_hydration_filter", lambda: mixer_filters.CoreDataHydrationFilter("reference"))
plain_filter("self_tweet_filter", mixer_filters.SelfTweetFilter)
plain_filter("retweet_dedup_filter", mixer_filters.RetweetDeduplicationFilter)
plain_filter("ineligible_subscription_filter", mixer_filters.IneligibleSubscriptionFilter)
plain_filter("author_socialgraph_filter", mixer_filters.AuthorSocialgraphFilter)
plain_filter("previously_seen_backup_filter", mixer_filters.PreviouslySeenPostsBackupFilter)
plain_filter("video_filter", mixer_filters.VideoFilter)
plain_filter("vf_filter", mixer_filters.VFFilter)
plain_filter("ancillary_vf_filter", mixer_filters.AncillaryVFFilter)
plain_filter("dedup_conversation_filter", lambda: mixer_filters.DedupConversationFilter("reference"))
plain_filter("muted_keyword_filter", mixer_filters.MutedKeywordFilter)
plain_filter("topic_ids_filter", lambda: mixer_filters.TopicIdsFilter("reference"))
plain_filter("new_user_topic_ids_filter", mixer_filters.NewUserTopicIdsFilter, enable_new_user_topic_filtering=True)


@suite("age_filter")
def age_filter(case: Inputs) -> dict[str, Any]:
    return split(mixer_filters.AgeFilter(case["max_age_ms"]), case.query(), case.batch())


@suite("previously_seen_filter")
def previously_seen(case: Inputs) -> dict[str, Any]:
    query = case.query()
    for ids in case["bloom_sets"]:
        # The sets are exact; at a rate of 1e-12 a false positive among a dozen ids is out of the question.
        bloom = BloomFilter.sized(max(len(ids), 1), 1e-12)
        if ids:
            bloom.add(as_uint64(ids))
        query.bloom_filter_entries.append(BloomFilterEntry(bloom.words, bloom.size_cap, bloom.false_positive_rate))
    return split(mixer_filters.PreviouslySeenPostsFilter(), query, case.batch())


@suite("previously_served_filter")
def previously_served(case: Inputs) -> dict[str, Any]:
    query = case.query(EnableServedFilterAllRequests=case["enable_served_filter_all_requests"])
    return split(mixer_filters.PreviouslyServedPostsFilter(), query, case.batch())


# -- ids, topics ------------------------------------------------------------------------------------------------------


@suite("snowflake")
def snowflake(case: Inputs) -> dict[str, Any]:
    ages, known = age_ms([case["id"]], case.now_ms)
    return {"created_ms": int(created_ms([case["id"]])[0]), "age_ms": int(ages[0]) if known[0] else None}


@suite("topic_expand")
def topic_expand(case: Inputs) -> dict[str, Any]:
    topic = case["topic_id"]
    if topic is None:
        return {"all_production_count": len(all_production_topics())}
    return {
        "expand": sorted(expand([topic])),
        "supertopic": supertopic(topic),
        "expand_supertopic": sorted(expand_supertopic(topic)),
        "all_production_count": len(all_production_topics()),
    }


@suite("topic_filter_overrides")
def topic_filter_overrides(case: Inputs) -> dict[str, Any]:
    experiment = resolve_experiment(case["raw"], case["topic_ids"], case["default"])
    return {"experiment": experiment.name, "proto_mode": int(experiment)}


# -- scorers ----------------------------------------------------------------------------------------------------------


def weight_overrides(weights: Mapping[str, float]) -> dict[str, float]:
    """A head that a case does not weigh weighs nothing."""
    heads = (*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS, *CONTINUOUS_WEIGHTS)
    return {**dict.fromkeys(heads, 0.0), **{f"{head}_weight": weight for head, weight in weights.items()}}


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
    batch = CandidateBatch.from_records([{"tweet_id": 1, **case["candidate"], "phoenix_scores": case["scores"]}])
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
    seconds, rest = divmod(factors["new_user_age_threshold_ms"], 1_000)
    if rest:
        raise ValueError("NewUserAgeThresholdSecs is in whole seconds")
    return {
        "oon_weight_factor": factors["oon"],
        "topic_oon_weight_factor": factors["topic_oon"],
        "new_user_oon_weight_factor": factors["new_user_oon"],
        "new_user_min_following": factors["new_user_min_following"],
        "new_user_age_threshold_secs": seconds,
    }


@suite("oon")
def oon(case: Inputs) -> dict[str, Any]:
    query = case.query(**factor_overrides(case["factors"]))
    query.user_features.followed_user_ids = np.arange(case["followed_count"], dtype=np.uint64)
    batch = CandidateBatch.from_records(
        {"tweet_id": row, "in_network": known, "score": score}
        for row, (known, score) in enumerate(zip(case["in_network"], case["scores"], strict=True))
    )
    result = OONScorer().score(query, batch)
    return {"factor": oon_factor(query), "scores": result.columns["score"].tolist()}


@suite("ranking_scorer")
def ranking_scorer(case: Inputs) -> dict[str, Any]:
    params, viewer = case["params"], dict(case["query"])
    followed, now_ms = viewer.pop("followed_count", 0), viewer.pop("now_ms", case.now_ms)
    query = build_query(viewer)
    query.request_time_ms = now_ms
    query.user_features.followed_user_ids = np.arange(followed, dtype=np.uint64)
    query.params = Params().override(
        {
            **weight_overrides(case["weights"]),
            **factor_overrides(params),
            "min_video_duration_ms": params["min_video_ms"],
            "enable_quoted_vqv_duration_check": params["quoted_check"],
            "negative_scores_offset": params["offset"],
            "author_diversity_decay": params["decay"],
            "author_diversity_floor": params["floor"],
        }
    )
    result = RankingScorer("reference").score(query, case.batch())
    return {
        "weighted": result.columns["weighted_score"].tolist(),
        "final": result.columns["score"].tolist(),
        "oon_factor": oon_factor(query),
    }


@suite("phoenix_scores")
def phoenix_scores(case: Inputs) -> dict[str, Any]:
    table = case["log_probs"]
    width = max((len(row) for row in table.values()), default=0)
    log_probs = np.full((len(table), width), np.nan)
    for index, row in enumerate(table.values()):
        log_probs[index, : len(row)] = row
    prediction = Prediction(as_uint64([int(key) for key in table]), log_probs, np.empty((len(table), 0)))
    batch = CandidateBatch.from_records([case["candidate"]])
    values, found = prediction.probabilities(batch.original_id)
    return {"probs": values[0][~np.isnan(values[0])].tolist() if found[0] else None}


@suite("phoenix_cluster")
def phoenix_cluster(case: Inputs) -> dict[str, Any]:
    query = case.query(
        phoenix_inference_cluster_id=case["configured"],
        phoenix_ranker_new_user_history_threshold=case["threshold"],
        phoenix_ranker_new_user_inference_cluster_id=case["new_user_cluster"],
    )
    query.decider = Decider(dict.fromkeys(case["deciders_on"], 1.0))
    return {"cluster": resolve_ranker_cluster(query, case["history_length"] or 0)}


@suite("vm_ranker_merge")
def vm_ranker_merge(case: Inputs) -> dict[str, Any]:
    answer = case["response"]
    pairs = list(answer.items()) if isinstance(answer, dict) else [tuple(pair) for pair in answer]
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


# -- ads --------------------------------------------------------------------------------------------------------------


def make_post(record: Mapping[str, Any]) -> ScoredPost:
    names = {"id": "tweet_id", "text": "tweet_text", "verdict": "brand_safety_verdict"}
    known = {field.name for field in fields(ScoredPost)}
    values: dict[str, Any] = {}
    for key, value in record.items():
        name = names.get(key, key)
        if key == "kind" or value is None:
            continue
        if name == "brand_safety_verdict":
            value = BrandSafetyVerdict.parse(value) if isinstance(value, str) else BrandSafetyVerdict(value)
        elif name == "served_type":
            value = ServedType.decode(value)
        elif name == "ancestors":
            value = tuple(value)
        if name in known:
            values[name] = value
        elif name not in CandidateBatch.schema:
            raise ValueError(f"unknown post field {key!r}")
    return ScoredPost(**values)


def make_ad(record: Mapping[str, Any]) -> AdInfo:
    values = {("post_id" if key == "id" else key): value for key, value in record.items() if key != "kind"}
    control = values.pop("ad_adjacency_control", None) or {}
    values = {**values, **control}
    if "brand_safety_risk" in values:
        values["risk"] = values.pop("brand_safety_risk")
    for key in ("handles", "keywords"):
        values[key] = tuple(values.get(key) or ())
    return AdInfo(**{key: value for key, value in values.items() if value is not None})


def show_items(items: list[FeedItem]) -> list[list[Any]]:
    shown = []
    for item in items:
        payload = item.item
        if isinstance(payload, ScoredPost):
            shown.append(["post", payload.tweet_id, item.position])
        elif isinstance(payload, AdInfo):
            shown.append(["ad", payload.post_id, item.position])
        elif isinstance(payload, WhoToFollowModule):
            shown.append(["wtf", payload.users[0].reason, item.position])
        elif isinstance(payload, Prompt):
            shown.append(["prompt", payload.payload.decode(), item.position])
        elif isinstance(payload, PushToHomePost):
            shown.append(["pth", payload.tweet_id, item.position])
    return shown


@suite("ads_spacing")
def spacing(case: Inputs) -> dict[str, Any]:
    return {"spacing": list(ads_spacing(case["insert_positions"]))}


@suite("safe_gaps")
def gaps(case: Inputs) -> dict[str, Any]:
    posts = [make_post({"id": row, "verdict": verdict}) for row, verdict in enumerate(case["verdicts"])]
    return {"gaps": safe_gaps([is_avoided(post) for post in posts])}


@suite("best_gap")
def gap(case: Inputs) -> dict[str, Any]:
    found = best_gap(case["gaps"], ideal=case["ideal"], smallest=case["min"])
    return {"result": None if found is None else list(found)}


@suite("assign_ads_to_gaps")
def assign(case: Inputs) -> dict[str, Any]:
    requested, minimal = case["spacing"]
    placed = assign_ads_to_gaps(
        case["gaps"], ads=case["num_ads"], spacing=(requested, minimal), first_ideal=case["first_ideal"]
    )
    return {"placements": placed}


@suite("ad_drop_rules")
def ad_drop_rules(case: Inputs) -> dict[str, Any]:
    neighbours = [make_post(post) for post in (case["above"], case["below"]) if post is not None]
    return {"drop": ad_drop_reason(make_ad(case["ad"]), neighbours)}


def blend(kind: type[AdsBlender], case: Inputs) -> dict[str, Any]:
    metrics = Metrics()
    blender = kind(case["result_size"], case["min_posts"], "reference", metrics)
    items = blender.blend([make_post(post) for post in case["posts"]], [make_ad(ad) for ad in case["ads"]])
    counters = {
        action: int(metrics.counter("PartitionOrganic.enforcement", action=action))
        for action in ("drop", "ok", "handle_drop", "keyword_drop")
    }
    return {"items": show_items(items), "counters": counters}


SUITES["safe_gap_blend"] = lambda case: blend(SafeGap, case)
SUITES["partition_organic_blend"] = lambda case: blend(PartitionOrganic, case)


@suite("brand_safety_verdict")
def brand_safety_verdict(case: Inputs) -> dict[str, Any]:
    return {"verdict": compute_verdict(case["labels"], case["tweet_id"]).pascal}


@suite("candidate_brand_safety")
def candidate_safety(case: Inputs) -> dict[str, Any]:
    batch = CandidateBatch.from_records([case["candidate"]])
    labels: dict[int, Any] = {int(key): [PostLabel(name) for name in names] for key, names in case["labels"].items()}
    labels.update({failed: RuntimeError("lookup failed") for failed in case["failed_ids"]})
    try:
        verdict, _ = candidate_brand_safety(int(batch.original_id[0]), batch.column("quoted_tweet_id").item(0), labels)
    except RuntimeError:
        return {"verdict": "ERR"}
    return {"verdict": verdict.pascal}


@suite("botmaker_category")
def category(case: Inputs) -> dict[str, Any]:
    return {"category": botmaker_category(case["rule_id"]).value}


@suite("blender_selector")
def blender_selector(case: Inputs) -> dict[str, Any]:
    makers: dict[str, Callable[[Any], Any]] = {
        "post": make_post,
        "ad": make_ad,
        "wtf": lambda item: WhoToFollowModule((WhoToFollowUser(0, reason=item["id"]),)),
        "prompt": lambda item: Prompt(str(item["id"]).encode()),
        "pth": lambda item: PushToHomePost(item["id"]),
        "none": lambda item: None,
    }
    params = Params().override(
        {
            "ads_blender_type": case["ads_blender"],
            "who_to_follow_position": case["who_to_follow_position"],
            "prompts_position": case["prompts_position"],
            "result_size": case.get("result_size", case.params.get("result_size", Params().result_size)),
        }
    )
    made = BlenderSelector("reference").blend(params, [FeedItem(makers[item["kind"]](item)) for item in case["items"]])
    return {"items": show_items(made.items), "dropped": {"post": made.lost_posts, "ad": made.lost_ads}}


# -- query hydrators, hydrators, side effects -------------------------------------------------------------------------


@suite("recently_served_ids")
def served_ids(case: Inputs) -> dict[str, Any]:
    ids = recently_served_ids(
        served_history(case["history"]),
        now_ms=case.now_ms,
        duration_minutes=case["duration_minutes"],
        max_items=case["max_items"],
    )
    return {"served_ids": ids}


@suite("who_to_follow_eligibility")
def eligibility(case: Inputs) -> dict[str, Any]:
    history = served_history(case["history"])
    return {"eligible": who_to_follow_eligible(history, now_ms=case.now_ms, fatigue_hours=case["fatigue_hours"])}


@suite("mutual_follow_jaccard")
def jaccard(case: Inputs) -> dict[str, Any]:
    return {"jaccard": signature_jaccard(as_uint64(case["a"]), as_uint64(case["b"]))}


@suite("following_replied_users")
def facepile(case: Inputs) -> dict[str, Any]:
    replies = case["replies"]
    users = replied_users(
        case.batch(),
        as_uint64([reply["author_id"] for reply in replies]),
        as_uint64([reply["in_reply_to_tweet_id"] for reply in replies]),
        min_users=case["min_users"],
        max_posts=case["max_posts"],
    )
    return {"user_ids": users}


@suite("tweet_type_bits")
def type_bits(case: Inputs) -> dict[str, Any]:
    query = case.query()
    query.served_ids = np.arange(case["served_ids_len"], dtype=np.uint64)
    batch = CandidateBatch.from_records([case["candidate"]])
    bits = tweet_type_bits(query, batch)
    return {
        "bits": sorted(bit for bit, mask in bits.items() if mask[0]),
        "bytes_hex": tweet_type_bytes(bits, 1)[0].hex(),
    }


@suite("cache_selection")
def cached(case: Inputs) -> dict[str, Any]:
    posts = cache_selection(case.batch("selected"), case.batch("non_selected"), case["max"])
    return {"cached": posts.tweet_id.tolist()}


@suite("thunder_ancestors")
def ancestors(case: Inputs) -> dict[str, Any]:
    parent, root = (np.array([case[key] or 0], np.int64) for key in ("in_reply_to", "conversation_id"))
    return {"ancestors": thunder_ancestors(parent, root).item(0)}


@suite("vf_request_plan")
def vf_plan(case: Inputs) -> dict[str, Any]:
    plan = plan_visibility(case.batch())
    return {"in_network_ids": plan.home, "oon_ids": plan.recommendations}


@suite("vf_apply")
def vf_apply(case: Inputs) -> dict[str, Any]:
    def results(answers: Mapping[str, Any]) -> dict[int, Any]:
        found: dict[int, Any] = {}
        for key, reason in answers.items():
            if reason == "ERR":
                found[int(key)] = RuntimeError("no answer")
            else:
                row = CandidateBatch.from_records([{"tweet_id": 1, "visibility_reason": reason}])
                found[int(key)] = row.column("visibility_reason").item(0)
        return found

    batch = case.batch()
    applied = apply_visibility(batch, results(case["in_network"]), results(case["oon"]))
    hydrated: list[Any] = []
    for row in range(len(batch)):
        if applied.ok is not None and not applied.ok[row]:
            hydrated.append("ERR")
            continue
        reason = applied.columns["visibility_reason"].item(row)
        shown = None
        if reason is not None:
            shown = {"kind": reason.kind} | ({} if reason.action is None else {"action": reason.action})
        hydrated.append(
            {"visibility_reason": shown, "drop_ancillary_posts": applied.columns["drop_ancillary_posts"].item(row)}
        )
    return {"hydrated": hydrated}


@suite("served_history_post_entries")
def history_entries(case: Inputs) -> dict[str, Any]:
    entries = post_entries(make_post(case["post"]), 0)
    return {"tweet_ids": [item.tweet_id for entry in entries for item in entry.items]}


@suite("small_helpers")
def helpers(case: Inputs) -> dict[str, Any]:
    if "name" in case:
        return {"pascal": pascal_case(case["name"])}
    if "served_times" in case:
        return {"delete": times_to_delete(case["served_times"], cap=case["cap"])}
    return {"timestamps": push_timestamp(case["now"], case["prior"], cap=case["cap"])}


@suite("pipeline_framework")
def framework(case: Inputs) -> dict[str, Any]:
    case.used |= set(case)
    return asyncio.run(run_toy_pipeline(dict(case)))


# -- running ----------------------------------------------------------------------------------------------------------

#: Expected keys whose order means nothing: requests that the release sends without sorting.
UNORDERED = {("vf_request_plan", "in_network_ids")}


def same(expected: Any, got: Any, tolerance: float) -> bool:
    """Whether two JSON values agree: exactly, floats within a relative tolerance."""
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None or got is None:
        return expected is got
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and set(expected) == set(got)
            and all(same(value, got[key], tolerance) for key, value in expected.items())
        )
    if isinstance(expected, list):
        return (
            isinstance(got, list)
            and len(got) == len(expected)
            and all(same(one, other, tolerance) for one, other in zip(expected, got, strict=True))
        )
    if isinstance(expected, float) or isinstance(got, float):
        return (
            isinstance(got, int | float)
            and isinstance(expected, int | float)
            and math.isclose(expected, got, rel_tol=tolerance, abs_tol=1e-300)
        )
    return bool(expected == got)


def check(name: str, run_case: Suite, case: Case, params: Mapping[str, Any], now_ms: int) -> tuple[bool, Any]:
    """Run one case; returns (passed, what was got)."""
    inputs = Inputs(case["input"], params, now_ms)
    try:
        got = run_case(inputs)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    expected = case["expected"]
    missing = sorted(set(expected) - set(got))
    if inputs.unknown() or missing:
        return False, f"unknown input keys {inputs.unknown()}, unknown expected keys {missing}"
    tolerance = float(params.get("relative_tolerance", 1e-9))
    got = {key: got[key] for key in expected}
    for key in expected:
        left, right = expected[key], got[key]
        if (name, key) in UNORDERED:
            left, right = sorted(left), sorted(right)
        if not same(left, right, tolerance):
            return False, got
    return True, got


def run(document: Mapping[str, Any], report: Report) -> None:
    """Replay every suite of a file."""
    for name, content in document["suites"].items():
        cases, passed = content["cases"], 0
        run_case = SUITES.get(name)
        for case in cases:
            if run_case is None:
                report.failure(case["id"], expected=case["expected"], got=f"unknown suite {name!r}")
                continue
            good, got = check(name, run_case, case, content.get("params", {}), document["now_ms"])
            passed += good
            if not good:
                report.failure(case["id"], expected=case["expected"], got=got)
        report.suite(name, passed, len(cases))

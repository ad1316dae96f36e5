"""Suites of brand safety, ads blenders and the blender (HOME_MIXER §10, §11)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from tests.conformance.home_mixer.cases import SUITES, Inputs, suite
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
from xfast.mixer.clients import AdInfo, PostLabel, WhoToFollowUser
from xfast.mixer.enums import BrandSafetyVerdict, ServedType
from xfast.mixer.items import FeedItem, Prompt, PushToHomePost, ScoredPost, WhoToFollowModule
from xfast.mixer.params import Params
from xfast.mixer.selectors import BlenderSelector
from xfast.pipeline import Metrics


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
        elif name == "score":
            value = float(np.float32(value))  # a ScoredPost has single precision (HOME_MIXER §1)
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
    known = {field.name for field in fields(AdInfo)}
    unknown = sorted(set(values) - known - set(CandidateBatch.schema))
    if unknown:
        raise ValueError(f"unknown ad fields {unknown}")
    return AdInfo(**{key: value for key, value in values.items() if value is not None and key in known})


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
            shown.append(["prompt", json.loads(payload.payload), item.position])
        elif isinstance(payload, PushToHomePost):
            shown.append(["pth", payload.tweet_id, item.position])
    return shown


@suite("ads_spacing")
def spacing(case: Inputs) -> dict[str, Any]:
    return {"spacing": list(ads_spacing(case.get("insert_positions", ())))}


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
    return {"placements": [gap for _, gap in placed]}


@suite("ad_drop_rules")
def ad_drop_rules(case: Inputs) -> dict[str, Any]:
    neighbours = [make_post(post) for post in (case["above"], case["below"]) if post is not None]
    return {"drop": ad_drop_reason(make_ad(case["ad"]), neighbours)}


def blend(kind: type[AdsBlender], case: Inputs) -> dict[str, Any]:
    metrics = Metrics()
    size, least = case.get("result_size", Params().result_size), case.get("min_posts", Params().min_posts_for_ads)
    blender = kind(size, least, "reference", metrics)
    items = blender.blend(
        [make_post(post) for post in case.get("posts", ())], [make_ad(ad) for ad in case.get("ads", ())]
    )
    counters = {
        action: int(metrics.counter("PartitionOrganic.enforcement", action=action))
        for action in ("drop", "ok", "handle_drop", "keyword_drop")
    }
    return {"items": show_items(items), "counters": counters}


SUITES["safe_gap_blend"] = lambda case: blend(SafeGap, case)
SUITES["partition_organic_blend"] = lambda case: blend(PartitionOrganic, case)


@suite("brand_safety_verdict")
def brand_safety_verdict(case: Inputs) -> dict[str, Any]:
    return {"verdict": compute_verdict(case.get("labels", ()), case["tweet_id"]).pascal}


@suite("candidate_brand_safety")
def candidate_safety(case: Inputs) -> dict[str, Any]:
    batch = CandidateBatch.from_records([case.get("candidate", {})])
    labels: dict[int, Any] = {
        int(key): [PostLabel(name) for name in names or ()] for key, names in case.get("labels", {}).items()
    }
    labels.update({failed: RuntimeError("lookup failed") for failed in case.get("failed_ids", ())})
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
        "prompt": lambda item: Prompt(json.dumps(item["id"]).encode()),
        "pth": lambda item: PushToHomePost(item["id"]),
    }
    own = {
        "ads_blender_type": case["ads_blender"],
        "who_to_follow_position": case["who_to_follow_position"],
        "prompts_position": case["prompts_position"],
        "result_size": case["result_size"],
        "min_posts_for_ads": case["min_posts"],
    }
    params = Params().override({name: value for name, value in own.items() if value is not None})
    # Items of a kind that the release does not know are dropped.
    items = [FeedItem(makers[kind](item) if (kind := item["kind"]) in makers else None) for item in case["items"]]
    made = BlenderSelector("reference").blend(params, items)
    return {"items": show_items(made.items), "dropped": {"post": made.lost_posts, "ad": made.lost_ads}}

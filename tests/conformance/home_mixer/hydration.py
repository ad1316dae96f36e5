"""Suites of hydrators, side effects and the framework (HOME_MIXER §2, §4 to §6, §12)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.conformance.home_mixer.ads import make_post
from tests.conformance.home_mixer.cases import Inputs, served_history, suite
from tests.conformance.toy_pipeline import run_toy_pipeline
from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.enums import pascal_case
from xfast.mixer.hydrators.following_replied_users import replied_users
from xfast.mixer.hydrators.mutual_follow_jaccard import signature_jaccard
from xfast.mixer.hydrators.tweet_type_metrics import tweet_type_bytes, tweet_type_flags
from xfast.mixer.hydrators.vf import apply_visibility, plan_visibility
from xfast.mixer.query_hydrators.served_history import recently_served_ids, who_to_follow_eligible
from xfast.mixer.side_effects.redis_post_candidate_cache import cache_selection
from xfast.mixer.side_effects.truncate_served_history import times_to_delete
from xfast.mixer.side_effects.update_past_request_timestamps import push_timestamp
from xfast.mixer.side_effects.update_served_history import post_entries
from xfast.mixer.sources.thunder import thunder_ancestors


@suite("recently_served_ids")
def served_ids(case: Inputs) -> dict[str, Any]:
    ids = recently_served_ids(
        served_history(case.get("history", [])),
        now_ms=case.now_ms,
        duration_minutes=case["duration_minutes"],
        max_items=case["max_items"],
    )
    return {"served_ids": ids}


@suite("who_to_follow_eligibility")
def eligibility(case: Inputs) -> dict[str, Any]:
    history = served_history(case.get("history", []))
    return {"eligible": who_to_follow_eligible(history, now_ms=case.now_ms, fatigue_hours=case["fatigue_hours"])}


@suite("mutual_follow_jaccard")
def jaccard(case: Inputs) -> dict[str, Any]:
    return {"jaccard": signature_jaccard(case.ids("a"), case.ids("b"))}


@suite("following_replied_users")
def facepile(case: Inputs) -> dict[str, Any]:
    replies = case.get("replies", ())
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
    batch = CandidateBatch.from_records([case.get("candidate", {})])
    flags = tweet_type_flags(query, batch)
    return {"bits": np.flatnonzero(flags[0]).tolist(), "bytes_hex": tweet_type_bytes(flags)[0].hex()}


@suite("cache_selection")
def cached(case: Inputs) -> dict[str, Any]:
    posts = cache_selection(case.batch("selected"), case.batch("non_selected"), case["max"])
    return {"cached": posts.tweet_id.tolist()}


@suite("thunder_ancestors")
def ancestors(case: Inputs) -> dict[str, Any]:
    parent, root = (np.array([case.get(key, -1)], np.int64) for key in ("in_reply_to", "conversation_id"))
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
    applied = apply_visibility(batch, results(case.get("in_network", {})), results(case.get("oon", {})))
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
    return {"timestamps": push_timestamp(case["now"], case.get("prior", []), cap=case["cap"])}


@suite("pipeline_framework")
def framework(case: Inputs) -> dict[str, Any]:
    case.used |= set(case)
    return asyncio.run(run_toy_pipeline(dict(case)))

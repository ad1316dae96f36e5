"""Suites of filters, ids and topics (HOME_MIXER §1, §7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.home_mixer.cases import SUITES, Inputs, suite
from xfast.ids import as_uint64
from xfast.mixer import filters as mixer_filters
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import (
    BloomFilterEntry,
    ScoredPostsQuery,
)
from xfast.mixer.times import age_ms, created_ms
from xfast.mixer.topics import all_production_topics, expand, expand_supertopic, resolve_experiment, supertopic
from xfast.pipeline import Filter
from xfast.sketch import BloomFilter


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
    for ids in case.get("bloom_sets", ()):
        # The sets are exact; at a rate of 1e-12 a false positive among a dozen ids is out of the question.
        ids = ids or ()
        bloom = BloomFilter.sized(max(len(ids), 1), 1e-12)
        if ids:
            bloom.add(as_uint64(ids))
        query.bloom_filter_entries.append(BloomFilterEntry(bloom.words, bloom.size_cap, bloom.false_positive_rate))
    return split(mixer_filters.PreviouslySeenPostsFilter(), query, case.batch())


@suite("previously_served_filter")
def previously_served(case: Inputs) -> dict[str, Any]:
    query = case.query(EnableServedFilterAllRequests=case["enable_served_filter_all_requests"])
    return split(mixer_filters.PreviouslyServedPostsFilter(), query, case.batch())


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
    experiment = resolve_experiment(case.get("raw", ""), case.get("topic_ids", ()), case.get("default", ""))
    return {"experiment": experiment.name, "proto_mode": int(experiment)}

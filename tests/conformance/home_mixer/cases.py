"""What the suites share: the registry, the input of a case, queries from JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.deciders import DECIDERS, Decider
from xfast.mixer.query import (
    BloomFilterEntry,
    Cursor,
    ScoredPostsQuery,
    ServedEntry,
    ServedItem,
    ServedResponse,
    UserFeatures,
)

Case = dict[str, Any]
Suite = Callable[["Inputs"], dict[str, Any]]

SUITES: dict[str, Suite] = {}

# ``is_shadow_traffic`` is a property here: sampled from the request id unless ``shadow_traffic`` says otherwise.
QUERY_FIELDS = {field.name for field in fields(ScoredPostsQuery)} | {"is_shadow_traffic"}
FEATURE_FIELDS = {field.name for field in fields(UserFeatures)} - QUERY_FIELDS
ID_LISTS = {"seen_ids", "served_ids", "impressed_post_ids"}
GRAPH_LISTS = {"blocked_user_ids", "muted_user_ids", "followed_user_ids", "subscribed_user_ids"}


class Inputs(dict[str, Any]):
    """The input of a case; remembers which keys the suite used.

    A key that the case leaves out is the suite's parameter of that name, else None, which is how files say "unset".
    """

    def __init__(self, values: Mapping[str, Any], params: Mapping[str, Any], now_ms: int) -> None:
        super().__init__(values)
        self.params = params
        clocks = (values.get("now_ms"), params.get("now_ms"), now_ms)
        self.now_ms = int(next(clock for clock in clocks if clock is not None))
        self.used: set[str] = {"now_ms"}

    def __getitem__(self, key: str) -> Any:
        self.used.add(key)
        return super().get(key, self.params.get(key))

    def get(self, key: str, default: Any = None) -> Any:
        value = self[key]
        return default if value is None else value

    def batch(self, key: str = "candidates") -> CandidateBatch:
        return CandidateBatch.from_records(self.get(key, ()))

    def ids(self, key: str) -> Any:
        return as_uint64(self.get(key, []))

    def query(self, **overrides: Any) -> ScoredPostsQuery:
        """The query of the case's own fields; ``overrides`` are parameters."""
        given = {key: value for key, value in self.items() if key in QUERY_FIELDS | FEATURE_FIELDS}
        self.used |= set(given)
        own = given.pop("params", None) or {}
        query = build_query(given)
        query.request_time_ms = query.request_time_ms or self.now_ms
        # A parameter that the case names itself wins; one that it leaves unset has its default.
        query.params = query.params.override({k: v for k, v in overrides.items() if v is not None}).override(own)
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
                setattr(query.user_features, feature, as_uint64(cells or []) if feature in GRAPH_LISTS else cells)
        elif name == "cached_posts":
            query.cached_posts = None if value is None else CandidateBatch.from_records(value)
        elif name == "served_history":
            query.served_history = served_history(value or [])
        elif name == "params":
            query.params = query.params.override(value or {})
        elif name == "decider":
            shares = dict.fromkeys(value, 1.0) if isinstance(value, list) else value
            query.decider = None if value is None else decider({key: float(share) for key, share in shares.items()})
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
                    entry.get("entity_type") or "",
                    tuple(
                        ServedItem(item.get("tweet_id"), item.get("source_tweet_id"))
                        for item in entry.get("item_ids") or ()
                    ),
                )
                for entry in response.get("entries") or ()
            ),
        )
        for response in history
    ]


def decider(shares: Mapping[str, float]) -> Decider:
    """A decider of the shares that the pipelines ask for; others decide nothing."""
    return Decider({name: share for name, share in shares.items() if name in DECIDERS})


def suite(name: str) -> Callable[[Suite], Suite]:
    def register(function: Suite) -> Suite:
        SUITES[name] = function
        return function

    return register

"""Parameters and feature switches as one validated configuration (HOME_MIXER §14).

Every public name exists once: as an attribute in snake case, and in files and overrides also in its public spelling
(``FavoriteWeight``, ``RESULT_SIZE``). The defaults are the named preset ``2026-08``; they are three months younger than
the May code, which published no values at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from xfast.errors import ConfigurationError

__all__ = ["CONTINUOUS_WEIGHTS", "NEGATIVE_WEIGHTS", "POSITIVE_WEIGHTS", "PRESETS", "Params"]


def switch(
    default: Any,
    public: str,
    *,
    low: float | None = None,
    high: float | None = None,
    soft: bool = False,
    ours: bool = False,
) -> Any:
    """A field with its public name, its range and whether its default is our own choice.

    A ``soft`` range is that of a sensible feed: the formulas go on outside of it, so only :meth:`Params.check` minds.
    """
    return field(default=default, metadata={"public": public, "low": low, "high": high, "soft": soft, "ours": ours})


@dataclass(frozen=True, slots=True)
class Params:
    """All parameters of the mixer; a request may carry its own (:meth:`override`).

    Raises
    ------
    ConfigurationError
        A value of the wrong type or out of range, naming the parameter. Factors and combinations that cannot make a
        sensible feed are refused by :meth:`check`, which :meth:`load` and, in fixed mode, the home mixer call.
    """

    # Compile-time constants of the release.
    top_k_candidates_to_select: int = switch(50, "TOP_K_CANDIDATES_TO_SELECT", low=0)
    result_size: int = switch(35, "RESULT_SIZE", low=0)
    for_you_max_result_size: int = switch(47, "FOR_YOU_MAX_RESULT_SIZE", low=0)
    max_post_age: int = switch(172800, "MAX_POST_AGE", low=0)
    who_to_follow_position: int = switch(6, "WHO_TO_FOLLOW_POSITION", low=0, soft=True)
    prompts_position: int = switch(0, "PROMPTS_POSITION", low=0, soft=True)
    negative_scores_offset: float = switch(0.001, "NEGATIVE_SCORES_OFFSET", low=0.0, soft=True)
    new_user_min_following: int = switch(5, "NEW_USER_MIN_FOLLOWING", low=0)
    new_user_oon_weight_factor: float = switch(1e-05, "NEW_USER_OON_WEIGHT_FACTOR", low=0.0, soft=True)
    uas_window_time_ms: int = switch(300000, "UAS_WINDOW_TIME_MS", low=0)
    max_grpc_message_size: int = switch(134217728, "MAX_GRPC_MESSAGE_SIZE", low=1)
    test_user_ids: tuple[int, ...] = switch((123, 234), "TEST_USER_IDS")
    trace_user_ids: tuple[int, ...] = switch((), "TRACE_USER_IDS")
    # Weights of the ranking scorer (HOME_MIXER §8.2).
    favorite_weight: float = switch(0.5, "FavoriteWeight")
    reply_weight: float = switch(5.0, "ReplyWeight")
    retweet_weight: float = switch(1.0, "RetweetWeight")
    photo_expand_weight: float = switch(0.05, "PhotoExpandWeight")
    click_weight: float = switch(0.4, "ClickWeight")
    profile_click_weight: float = switch(0.0, "ProfileClickWeight")
    vqv_weight: float = switch(0.05, "VqvWeight")
    share_weight: float = switch(2.0, "ShareWeight")
    share_via_dm_weight: float = switch(5.0, "ShareViaDmWeight")
    share_via_copy_link_weight: float = switch(20.0, "ShareViaCopyLinkWeight")
    dwell_weight: float = switch(0.0, "DwellWeight")
    quote_weight: float = switch(5.0, "QuoteWeight")
    quoted_click_weight: float = switch(0.05, "QuotedClickWeight")
    quoted_vqv_weight: float = switch(0.0, "QuotedVqvWeight")
    follow_author_weight: float = switch(4.0, "FollowAuthorWeight")
    cont_dwell_time_weight: float = switch(0.004, "ContDwellTimeWeight")
    cont_click_dwell_time_weight: float = switch(0.0, "ContClickDwellTimeWeight")
    not_interested_weight: float = switch(-43.2, "NotInterestedWeight")
    block_author_weight: float = switch(-31.2, "BlockAuthorWeight")
    mute_author_weight: float = switch(-58.8, "MuteAuthorWeight")
    report_weight: float = switch(-234.0, "ReportWeight")
    not_dwelled_weight: float = switch(-0.02, "NotDwelledWeight")
    # Diversity and out-of-network factors.
    author_diversity_decay: float = switch(0.5, "AuthorDiversityDecay", low=0.0, high=1.0, soft=True)
    author_diversity_floor: float = switch(0.25, "AuthorDiversityFloor", low=0.0, high=1.0, soft=True)
    oon_weight_factor: float = switch(0.75, "OonWeightFactor", low=0.0, soft=True)
    topic_oon_weight_factor: float = switch(0.5, "TopicOonWeightFactor", low=0.0, soft=True)
    vm_ranker_dpp_theta: float = switch(0.65, "VMRankerDppTheta", low=0.0, high=1.0, soft=True)
    # Limits, ages and sizes.
    min_video_duration_ms: int = switch(10000, "MinVideoDurationMs", low=0, soft=True)
    new_user_age_threshold_secs: int = switch(0, "NewUserAgeThresholdSecs", low=0)
    thunder_max_results: int = switch(1200, "ThunderMaxResults", low=0)
    tweet_mixer_max_results: int = switch(800, "TweetMixerMaxResults", low=0)
    phoenix_max_results: int = switch(1000, "PhoenixMaxResults", low=0)
    phoenix_moe_max_results: int = switch(200, "PhoenixMOEMaxResults", low=0)
    max_seq_length_scoring: int = switch(1024, "MaxSeqLengthScoring", low=0)
    max_seq_length_retrieval: int = switch(1024, "MaxSeqLengthRetrieval", low=0)
    max_posts_to_cache: int = switch(750, "MaxPostsToCache", low=0)
    phoenix_ranker_new_user_history_threshold: int = switch(0, "PhoenixRankerNewUserHistoryThreshold", low=0)
    phoenix_retrieval_new_user_history_threshold: int = switch(0, "PhoenixRetrievalNewUserHistoryThreshold", low=0)
    vm_ranker_dpp_max_selected_rank: int = switch(150, "VMRankerDppMaxSelectedRank", low=0)
    exclude_served_tweet_ids_duration: int = switch(10, "ExcludeServedTweetIdsDuration", low=0)
    exclude_served_tweet_ids_number: int = switch(100, "ExcludeServedTweetIdsNumber", low=0)
    who_to_follow_fatigue_hours: int = switch(30, "WhoToFollowFatigueHours", low=0)
    phoenix_request_cache_side_effect_ttl_seconds: int = switch(10800, "PhoenixRequestCacheSideEffectTtlSeconds", low=0)
    following_replied_users_facepile_min_users: int = switch(0, "FollowingRepliedUsersFacepileMinUsers")
    following_replied_users_facepile_max_posts: int = switch(0, "FollowingRepliedUsersFacepileMaxPosts")
    # Switches.
    enable_vm_ranker: bool = switch(True, "EnableVMRanker")
    enable_cached_posts: bool = switch(True, "EnableCachedPosts")
    enable_context_features: bool = switch(True, "EnableContextFeatures")
    enable_ip_feature: bool = switch(True, "EnableIpFeature")
    enable_inferred_gender_hydration: bool = switch(True, "EnableInferredGenderHydration")
    enable_ads_source: bool = switch(True, "EnableAdsSource")
    enable_ads_injection_logging: bool = switch(True, "EnableAdsInjectionLogging")
    enable_prompts: bool = switch(True, "EnablePrompts")
    enable_publish_seen_ids_to_kafka: bool = switch(True, "EnablePublishSeenIdsToKafka")
    enable_urt_migration_components: bool = switch(True, "EnableUrtMigrationComponents")
    enable_who_to_follow_module: bool = switch(True, "EnableWhoToFollowModule")
    enable_served_filter_all_requests: bool = switch(True, "EnableServedFilterAllRequests")
    enable_phoenix_request_cache_side_effect: bool = switch(True, "EnablePhoenixRequestCacheSideEffect")
    use_xds_for_uas: bool = switch(True, "UseXdsForUas")
    enable_phoenix_moe_source: bool = switch(False, "EnablePhoenixMOESource")
    enable_mutual_follow_jaccard_hydration: bool = switch(False, "EnableMutualFollowJaccardHydration")
    enable_quoted_vqv_duration_check: bool = switch(False, "EnableQuotedVqvDurationCheck")
    enable_following_replied_users_facepile: bool = switch(False, "EnableFollowingRepliedUsersFacepile")
    enable_phoenix_retrieval_stats_experiment_bucket: bool = switch(
        False, "EnablePhoenixRetrievalStatsExperimentBucket"
    )
    # Names.
    ads_blender_type: str = switch("partition_organic_low_risk", "AdsBlenderType")
    phoenix_inference_cluster_id: str = switch("Experiment1Fou", "PhoenixInferenceClusterId")
    phoenix_retrieval_inference_cluster_id: str = switch("Experiment1Fou", "PhoenixRetrievalInferenceClusterId")
    phoenix_retrieval_moe_inference_cluster_id: str = switch("Experiment1Fou", "PhoenixRetrievalMOEInferenceClusterId")
    phoenix_ranker_new_user_inference_cluster_id: str = switch(
        "Experiment1Fou", "PhoenixRankerNewUserInferenceClusterId"
    )
    phoenix_retrieval_new_user_inference_cluster_id: str = switch(
        "Experiment1Lap7", "PhoenixRetrievalNewUserInferenceClusterId"
    )
    phoenix_retrieval_topic_inference_cluster_id: str = switch(
        "Experiment2Fou", "PhoenixRetrievalTopicInferenceClusterId"
    )
    phoenix_aggregation_type: str = switch("DENSE_WITH_SHORT_DWELL", "PhoenixAggregationType")
    phoenix_retrieval_aggregation_type: str = switch("DENSE_WITH_SHORT_DWELL", "PhoenixRetrievalAggregationType")
    uas_source_data_type: str = switch("NEW_UUA_ARROW", "UasSourceDataType")
    user_actions_cluster_id: str = switch("Fou", "UserActionsClusterId")
    thunder_cluster_id: str = switch("amp", "ThunderClusterId")
    thunder_algorithm: str = switch("default", "ThunderAlgorithm")
    topic_filtering_id: str = switch("PostBased50Pct", "TopicFilteringId")
    topic_filtering_overrides: str = switch("", "TopicFilteringOverrides")
    vm_ranker_cluster_id: str = switch("Experiment3", "VMRankerClusterId")
    vm_ranker_value_model_id: str = switch("dpp", "VMRankerValueModelId")
    # Published nowhere; defaults ours.
    enable_ads_brand_safety_hydrator: bool = switch(True, "EnableAdsBrandSafetyHydrator", ours=True)
    enable_grok_topics_hydration: bool = switch(True, "EnableGrokTopicsHydration", ours=True)
    enable_has_media_hydration: bool = switch(True, "EnableHasMediaHydration", ours=True)
    enable_new_user_topic_filtering: bool = switch(False, "EnableNewUserTopicFiltering", ours=True)
    enable_new_user_topic_retrieval: bool = switch(True, "EnableNewUserTopicRetrieval", ours=True)
    new_user_topic_age_threshold_secs: int = switch(1209600, "NewUserTopicAgeThresholdSecs", ours=True, low=0)
    include_realtime_actions: bool = switch(True, "IncludeRealtimeActions", ours=True)
    max_inferred_grok_topic_categories: int = switch(8, "MaxInferredGrokTopicCategories", ours=True, low=0)
    use_egress_sidecar: bool = switch(False, "UseEgressSidecar", ours=True)
    # Ours, for what the texts leave open or fixed mode adds.
    vqv_max_viewer_followers: int = switch(10000, "VqvMaxViewerFollowers", low=0, ours=True)
    min_posts_for_ads: int = switch(5, "MinPostsForAds", low=0, ours=True)
    author_diversity_session_half_life_secs: int = switch(1800, "AuthorDiversitySessionHalfLifeSecs", low=0, ours=True)
    fallback_max_results: int = switch(200, "FallbackMaxResults", low=0, ours=True)
    max_scored_candidates: int = switch(2800, "MaxScoredCandidates", low=1, ours=True)

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            _check_type(spec.metadata, type(spec.default), value)
            if not spec.metadata["soft"]:
                _check_range(spec.metadata, value)

    def override(self, values: Mapping[str, Any]) -> Self:
        """A copy with other values, by attribute or public name.

        Raises
        ------
        ConfigurationError
            An unknown name (with the closest known ones), a wrong type, a value out of range.
        """
        if not values:
            return self
        names = _names()
        changes = {}
        for key, value in values.items():
            if key not in names:
                raise ConfigurationError(f"unknown parameter {key!r}{_did_you_mean(key, names)}")
            changes[names[key]] = _coerce(value, type(getattr(self, names[key])))
        return replace(self, **changes)

    @classmethod
    def preset(cls, name: str) -> Self:
        """A named set of values; see :data:`PRESETS`."""
        if name not in PRESETS:
            raise ConfigurationError(f"preset {name!r} is unknown, known are {', '.join(PRESETS)}")
        return cls().override(PRESETS[name])

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a TOML file: ``preset = "2026-08"`` and a table ``[params]`` of what differs.

        Raises
        ------
        ConfigurationError
            Malformed TOML, an unknown key, a bad value or a combination that cannot work; names the file.
        """
        try:
            document = tomllib.loads(Path(path).read_text())
            return cls.from_mapping(document).check()
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        except ConfigurationError as error:
            error.add_note(f"in {path}")
            raise

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any]) -> Self:
        """Build from parsed TOML; only the keys ``preset`` and ``params`` are known."""
        unknown = set(document) - {"preset", "params"}
        if unknown:
            raise ConfigurationError(f"unknown key {sorted(unknown)}, a parameter file has 'preset' and 'params'")
        return cls.preset(document.get("preset", "2026-08")).override(document.get("params", {}))

    def public(self) -> dict[str, Any]:
        """Values by public name."""
        return {spec.metadata["public"]: getattr(self, spec.name) for spec in fields(self)}

    def weight_sums(self) -> tuple[float, float]:
        """(sum of the negated negative weights, that plus the sum of the positive weights)."""
        negative = -_in_order(getattr(self, name) for name in NEGATIVE_WEIGHTS)
        return negative, _in_order(getattr(self, name) for name in POSITIVE_WEIGHTS) + negative

    def check(self) -> Self:
        """Refuse combinations that would silently produce a bad feed.

        Raises
        ------
        ConfigurationError
            A non-positive sum of weights (scores would lose their order, HOME_MIXER §15.15), a weight of the wrong
            sign, a factor outside its range, a result larger than the selection.
        """
        for spec in fields(self):
            _check_range(spec.metadata, getattr(self, spec.name))
        for name in POSITIVE_WEIGHTS + CONTINUOUS_WEIGHTS:
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{_public(name)} is {getattr(self, name)}, must be 0 or more")
        for name in NEGATIVE_WEIGHTS:
            if getattr(self, name) > 0:
                raise ConfigurationError(f"{_public(name)} is {getattr(self, name)}, must be 0 or less")
        negative, total = self.weight_sums()
        if total <= 0:
            raise ConfigurationError(
                f"the weights sum to {total}, must be positive: a score below zero would otherwise outrank one above"
            )
        if total - negative <= 0:
            raise ConfigurationError("every positive weight is 0: no action can raise a post")
        if self.result_size > self.top_k_candidates_to_select:
            raise ConfigurationError(
                f"RESULT_SIZE {self.result_size} exceeds TOP_K_CANDIDATES_TO_SELECT {self.top_k_candidates_to_select}:"
                " a page could never be filled"
            )
        if self.for_you_max_result_size < self.result_size:
            raise ConfigurationError(
                f"FOR_YOU_MAX_RESULT_SIZE {self.for_you_max_result_size} is below RESULT_SIZE {self.result_size}"
            )
        return self

    def warnings(self) -> list[str]:
        """What a valid configuration will not do although it looks as if it would."""
        found = []
        if self.enable_ads_source and not self.enable_ads_brand_safety_hydrator:
            found.append(
                "ads are on but EnableAdsBrandSafetyHydrator is off: no post has a verdict, so only ads that accept"
                " unlabelled neighbours can appear (none in reference mode)"
            )
        if self.enable_ads_source and self.result_size < self.min_posts_for_ads:
            found.append(
                f"ads are on but RESULT_SIZE {self.result_size} is below the {self.min_posts_for_ads} posts they need"
            )
        return found


#: Heads in the order of ``phoenix_scores``; names of their weights.
POSITIVE_WEIGHTS = (
    "favorite_weight",
    "reply_weight",
    "retweet_weight",
    "photo_expand_weight",
    "click_weight",
    "profile_click_weight",
    "vqv_weight",
    "share_weight",
    "share_via_dm_weight",
    "share_via_copy_link_weight",
    "dwell_weight",
    "quote_weight",
    "quoted_click_weight",
    "quoted_vqv_weight",
    "follow_author_weight",
)
NEGATIVE_WEIGHTS = (
    "not_interested_weight",
    "block_author_weight",
    "mute_author_weight",
    "report_weight",
    "not_dwelled_weight",
)
CONTINUOUS_WEIGHTS = ("cont_dwell_time_weight", "cont_click_dwell_time_weight")

#: Named sets of values, as differences from the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "2026-08": {},
    # The 19-column model knows no quoted clicks, quoted views or "not dwelled".
    "seed-19": {"quoted_click_weight": 0.0, "quoted_vqv_weight": 0.0, "not_dwelled_weight": 0.0},
}


def _in_order(values: Iterable[float]) -> float:
    """Their sum, one after the other: ``sum`` itself compensates its rounding from Python 3.12 on."""
    total = 0.0
    for value in values:
        total += value
    return total


def _public(name: str) -> str:
    public: str = Params.__dataclass_fields__[name].metadata["public"]
    return public


@cache
def _names() -> dict[str, str]:
    table = {spec.name: spec.name for spec in fields(Params)}
    table.update({spec.metadata["public"]: spec.name for spec in fields(Params)})
    return table


def _did_you_mean(key: str, names: Mapping[str, str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, names, n=2, cutoff=0.7)
    return f", did you mean {' or '.join(close)}?" if close else ""


def _coerce(value: Any, kind: type) -> Any:
    """TOML writes 5 for 5.0 and lists for tuples; nothing else is bent."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    return value


def _check_type(metadata: Mapping[str, Any], kind: type, value: Any) -> None:
    if type(value) is not kind:
        raise ConfigurationError(f"{metadata['public']} is {value!r}, must be of type {kind.__name__}")
    if kind is float and value != value:
        raise ConfigurationError(f"{metadata['public']} is nan")


def _check_range(metadata: Mapping[str, Any], value: Any) -> None:
    low, high = metadata["low"], metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ConfigurationError(f"{metadata['public']} is {value!r}, must be {bounds}")

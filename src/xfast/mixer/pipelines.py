"""The two pipelines of the For You feed, assembled (HOME_MIXER §3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xfast.mixer import clients, scorers
from xfast.mixer import filters as f
from xfast.mixer import hydrators as h
from xfast.mixer import query_hydrators as q
from xfast.mixer import side_effects as e
from xfast.mixer import sources as s
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.items import FeedItems
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.mixer.selectors import BlenderSelector, TopKScoreSelector
from xfast.mixer.sources.fallback import FallbackClient
from xfast.pipeline import CacheStore, Filter, Hydrator, MemoryCache, Metrics, Pipeline, Policy, QueryHydrator, Source

__all__ = ["Collaborators", "MixerSettings", "for_you_pipeline", "scored_posts_pipeline"]

#: Components that run a model.
_MODELS = ("PhoenixSource", "PhoenixTopicsSource", "PhoenixMOESource", "PhoenixScorer", "VMRanker")


@dataclass(frozen=True, kw_only=True)
class Collaborators:
    """Everything that the mixer asks; :mod:`xfast.mixer.embedded` has a default for each.

    Attributes
    ----------
    thunder
        Cluster name -> channels.
    moe_retrieval
        The second retrieval model; ``retrieval`` unless given.
    request_cache_sites
        Where PhoenixRequestCache writes; two in the release.
    shadow_clusters
        Clusters that PhoenixExperiments scores shadow traffic with.
    make_cache
        Hydrator name -> its cache; ``NoCache`` where the client answers from memory.
    """

    graph: clients.SocialGraphClient
    actions: clients.UserActionsClient
    features: clients.UserFeaturesClient
    gender: clients.GenderClient
    ip: clients.IpLocationClient
    served_history: clients.ServedHistoryClient
    post_cache: clients.PostCacheClient
    posts: clients.PostsClient
    users: clients.UsersClient
    minhash: clients.MinHashClient
    visibility: clients.VisibilityClient
    labels: clients.LabelsClient
    thunder: Mapping[str, Sequence[clients.ThunderClient]]
    tweet_mixer: clients.TweetMixerClient
    retrieval: clients.RetrievalClient
    fallback: FallbackClient
    ranker: clients.PhoenixClient
    value_model: clients.ValueModelClient
    ads: clients.AdsClient
    who_to_follow: clients.WhoToFollowClient
    prompts: clients.PromptsClient
    replies: clients.ReplyMixerClient
    sink: clients.EventSink
    moe_retrieval: clients.RetrievalClient | None = None
    egress: clients.PhoenixClient | None = None
    request_cache_sites: Sequence[clients.PostCacheClient] = ()
    shadow_clusters: Sequence[str] = ()
    make_cache: Callable[[str], CacheStore] = field(default=lambda name: MemoryCache())


@dataclass(frozen=True, kw_only=True)
class MixerSettings:
    """How the pipelines run.

    Attributes
    ----------
    params
        Gives the result sizes; a request's own parameters rule everything else.
    deciders
        Name -> share of requests, 0 to 1, for which it is on; :class:`~xfast.mixer.deciders.Decider` knows the names.
    production
        Whether side effects marked "prod" in HOME_MIXER §12 run.
    policies, feed_policies
        Component name -> policy, of pipeline A and of pipeline B.
    model_deadline_ms
        Deadline of the ranking, retrieval and value models; ``None`` where they run in this process.
    remote_deadline_ms
        Deadline of every other call in fixed mode (HOME_MIXER §15.14), unless its policy names one.
    side_effect_deadline_ms
        The same for side effects, which run after the answer.
    deadline_ms
        Per request.
    min_cached_posts
        How many cached posts replace the sources.
    """

    quirks: Quirks = "fixed"
    params: Params = field(default_factory=Params)
    deciders: Mapping[str, float] = field(default_factory=dict)
    production: bool = True
    policies: Mapping[str, Policy] = field(default_factory=dict)
    feed_policies: Mapping[str, Policy] = field(default_factory=dict)
    model_deadline_ms: float | None = None
    remote_deadline_ms: float = 500.0
    side_effect_deadline_ms: float = 10_000.0
    deadline_ms: float | None = None
    min_cached_posts: int = 500
    metrics: Metrics = field(default_factory=Metrics)
    clock: clients.Clock = clients.system_clock


def scored_posts_pipeline(
    collaborators: Collaborators, settings: MixerSettings
) -> Pipeline[ScoredPostsQuery, CandidateBatch]:
    """Pipeline A: candidates from six sources (and, in fixed mode, the fallback), filtered, scored, checked.

    Fixed mode wires what the release left out (impressed posts, engagement counts, muted keywords), looks up media of
    retweets only after core data found them, and fills what post-selection filters took.
    """
    c, fixed = collaborators, settings.quirks == "fixed"
    first, second = _hydrators(c, settings.quirks)
    post_filters: list[Filter[ScoredPostsQuery, CandidateBatch]] = [
        f.VFFilter(),
        f.AncillaryVFFilter(),
        f.DedupConversationFilter(settings.quirks),
    ]
    return Pipeline(
        CandidateBatch,
        name="ScoredPostsPipeline",
        query_hydrators=_query_hydrators(c, settings),
        sources=_sources(c, settings.quirks),
        hydrators=first,
        dependent_hydrators=second,
        filters=_filters(settings.quirks),
        scorers=[
            scorers.PhoenixScorer(c.ranker, egress=c.egress, clock=settings.clock),
            scorers.RankingScorer(settings.quirks),
            scorers.VMRanker(c.value_model),
        ],
        selector=TopKScoreSelector(),
        post_selection_hydrators=[
            h.VFHydrator(c.visibility),
            h.AdsBrandSafetyHydrator(c.labels, c.make_cache("AdsBrandSafetyHydrator")),
            h.AdsBrandSafetyVfHydrator(c.labels),
            h.TweetTypeMetricsHydrator(),
            h.FollowingRepliedUsersHydrator(),
            h.MutualFollowJaccardHydrator(c.minhash),
        ],
        post_selection_filters=post_filters,
        side_effects=[
            e.PhoenixExperimentsSideEffect(c.ranker, c.sink, c.shadow_clusters),
            e.RerankingKafkaSideEffect(c.sink, production=settings.production),
            e.RedisPostCandidateCacheSideEffect(c.post_cache, production=settings.production, quirks=settings.quirks),
            e.ScoredStatsSideEffect(),
            e.MutualFollowStatsSideEffect(),
            e.PhoenixRequestCacheSideEffect(c.request_cache_sites, production=settings.production),
            *([e.CacheRequestInfoSideEffect(c.post_cache)] if fixed else []),
        ],
        result_size=settings.params.result_size,
        backfill=fixed,
        policies={**dict.fromkeys(_MODELS, Policy(deadline_ms=settings.model_deadline_ms)), **settings.policies},
        deadline_ms=settings.deadline_ms,
        default_deadline_ms=settings.remote_deadline_ms if fixed else None,
        side_effect_deadline_ms=settings.side_effect_deadline_ms if fixed else None,
        unlimited=_MODELS,
        metrics=settings.metrics,
    )


def for_you_pipeline(
    collaborators: Collaborators,
    settings: MixerSettings,
    scored: Pipeline[ScoredPostsQuery, CandidateBatch] | None = None,
) -> Pipeline[ScoredPostsQuery, FeedItems]:
    """Pipeline B: the ranked posts of pipeline A, blended with ads, suggestions, prompts and a pushed post."""
    c, production = collaborators, settings.production
    fixed = settings.quirks == "fixed"
    inner = scored or scored_posts_pipeline(c, settings)
    return Pipeline(
        FeedItems,
        name="ForYouPipeline",
        query_hydrators=[
            q.ServedHistoryQueryHydrator(c.served_history),
            q.PastRequestTimestampsQueryHydrator(c.served_history),
        ],
        sources=[
            s.ScoredPostsSource(inner, quirks=settings.quirks),
            s.AdsSource(c.ads),
            s.WhoToFollowSource(c.who_to_follow),
            s.PromptsSource(c.prompts),
            s.PushToHomeSource(c.posts, c.replies),
        ],
        selector=BlenderSelector(settings.quirks),
        side_effects=[
            e.AdsInjectionLoggingSideEffect(c.sink, production=production),
            e.PublishSeenIdsSideEffect(c.sink, production=production),
            e.ServedCandidatesSideEffect(c.sink, production=production),
            e.ClientEventsSideEffect(c.sink, production=production),
            e.ForYouResponseStatsSideEffect(),
            e.UpdatePastRequestTimestampsSideEffect(c.served_history, production=production),
            e.UpdateServedHistorySideEffect(c.served_history, production=production),
            e.TruncateServedHistorySideEffect(c.served_history, production=production),
        ],
        result_size=settings.params.for_you_max_result_size,
        policies=settings.feed_policies,
        default_deadline_ms=settings.remote_deadline_ms if fixed else None,
        side_effect_deadline_ms=settings.side_effect_deadline_ms if fixed else None,
        # Pipeline A has deadlines of its own; cutting it off as a whole would throw away what it already has.
        unlimited=("ScoredPostsSource",),
        metrics=settings.metrics,
    )


def _query_hydrators(c: Collaborators, settings: MixerSettings) -> list[QueryHydrator[ScoredPostsQuery]]:
    fixed = settings.quirks == "fixed"
    return [
        q.ScoringSequenceQueryHydrator(c.actions, shared=fixed),
        q.RetrievalSequenceQueryHydrator(c.actions, shared=fixed),
        *([q.UserActionSeqQueryHydrator(c.actions)] if fixed else []),
        q.BlockedUserIdsQueryHydrator(c.graph),
        q.MutedUserIdsQueryHydrator(c.graph),
        q.FollowedUserIdsQueryHydrator(c.graph),
        q.SubscribedUserIdsQueryHydrator(c.graph),
        q.CachedPostsQueryHydrator(c.post_cache, min_posts=settings.min_cached_posts),
        q.MutualFollowQueryHydrator(c.features),
        q.UserDemographicsQueryHydrator(c.features),
        q.FollowedGrokTopicsQueryHydrator(c.features),
        q.FollowedStarterPacksQueryHydrator(c.features),
        q.InferredGrokTopicsQueryHydrator(c.features),
        q.ImpressionBloomFilterQueryHydrator(c.features),
        q.IpQueryHydrator(c.ip),
        q.UserInferredGenderQueryHydrator(c.gender),
        *([q.ImpressedPostsQueryHydrator(c.features), q.UserFeaturesQueryHydrator(c.features)] if fixed else []),
    ]


def _sources(c: Collaborators, quirks: Quirks) -> list[Source[ScoredPostsQuery, CandidateBatch]]:
    return [
        s.ThunderSource(c.thunder),
        s.TweetMixerSource(c.tweet_mixer),
        s.PhoenixSource(c.retrieval, quirks=quirks),
        s.PhoenixTopicsSource(c.retrieval, quirks=quirks),
        s.PhoenixMOESource(c.moe_retrieval or c.retrieval, quirks=quirks),
        s.CachedPostsSource(),
        *([s.FallbackSource(c.fallback)] if quirks == "fixed" else []),
    ]


_Hydrators = list[Hydrator[ScoredPostsQuery, CandidateBatch]]


def _hydrators(c: Collaborators, quirks: Quirks) -> tuple[_Hydrators, _Hydrators]:
    """The first wave, and in fixed mode those that need what core data finds as a second one."""
    in_network = h.InNetworkHydrator()
    core_data = h.CoreDataHydrator(c.posts, c.make_cache("CoreDataHydrator"), quirks=quirks)
    quote = h.QuoteHydrator(c.posts, c.graph, c.make_cache("QuoteHydrator"), quirks=quirks)
    video = h.VideoDurationHydrator(c.posts, c.make_cache("VideoDurationHydrator"))
    media = h.HasMediaHydrator(c.posts, c.make_cache("HasMediaHydrator"))
    subscription = h.SubscriptionHydrator(c.posts, c.make_cache("SubscriptionHydrator"))
    gizmoduck = h.GizmoduckHydrator(c.users, c.make_cache("GizmoduckHydrator"), quirks=quirks)
    blocked_by = h.BlockedByHydrator(c.graph, quirks=quirks)
    topics = h.FilteredTopicsHydrator(c.posts)
    language = h.LanguageCodeHydrator(c.posts, c.make_cache("LanguageCodeHydrator"))
    if quirks == "reference":
        return [
            in_network, core_data, quote, video, media, subscription, gizmoduck, blocked_by, topics, language,
        ], []  # fmt: skip
    counts = h.EngagementCountsHydrator(c.posts, c.make_cache("EngagementCountsHydrator"))
    return [in_network, core_data, quote, subscription, blocked_by], [
        video, media, gizmoduck, topics, language, counts,
    ]  # fmt: skip


def _filters(quirks: Quirks) -> list[Filter[ScoredPostsQuery, CandidateBatch]]:
    return [
        f.DropDuplicatesFilter(),
        f.CoreDataHydrationFilter(quirks),
        f.AgeFilter(),
        f.SelfTweetFilter(),
        f.RetweetDeduplicationFilter(),
        f.IneligibleSubscriptionFilter(),
        f.PreviouslySeenPostsFilter(),
        f.PreviouslySeenPostsBackupFilter(),
        f.PreviouslyServedPostsFilter(),
        f.MutedKeywordFilter(),
        f.AuthorSocialgraphFilter(),
        f.VideoFilter(),
        f.TopicIdsFilter(quirks),
        f.NewUserTopicIdsFilter(),
    ]

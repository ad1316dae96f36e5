"""All collaborators over one store, one Thunder, and models by cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.clients import AdsClient, Clock, EventSink, PromptsClient, system_clock
from xfast.mixer.embedded.campaigns import CampaignAds
from xfast.mixer.embedded.discovery import Discovery
from xfast.mixer.embedded.interests import InterestRetrieval
from xfast.mixer.embedded.models import LocalRanker, LocalRetrieval, LocalThunder
from xfast.mixer.embedded.simple import DeclaredGender, MemorySink, NoLocation, StaticPrompts
from xfast.mixer.embedded.store_posts import StorePosts
from xfast.mixer.embedded.store_safety import LabelVisibility, StoreLabels
from xfast.mixer.embedded.store_viewers import StoreViewers
from xfast.mixer.embedded.suggestions import FollowGraphSuggestions
from xfast.mixer.params import Params
from xfast.mixer.pipelines import Collaborators
from xfast.mixer.quirks import Quirks
from xfast.mixer.scorers import DppValueModel
from xfast.mixer.scorers.vm_ranker import Embeddings
from xfast.pipeline import NoCache
from xfast.stores import Store

if TYPE_CHECKING:
    from xfast.phoenix import Ranker, Retriever
    from xfast.thunder import PostStore

__all__ = ["embedded_collaborators"]


def _no_vectors(post_ids: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    return np.zeros((len(post_ids), 1), np.float32), np.zeros(len(post_ids), np.bool_)


def embedded_collaborators(
    store: Store,
    thunder: PostStore,
    *,
    rankers: Mapping[str, Ranker],
    retrievers: Mapping[str, Retriever],
    discovery: Discovery,
    params: Params | None = None,
    quirks: Quirks = "fixed",
    embeddings: Embeddings = _no_vectors,
    ads: AdsClient | None = None,
    prompts: PromptsClient | None = None,
    sink: EventSink | None = None,
    shadow_clusters: Sequence[str] = (),
    clock: Clock = system_clock,
    **changes: Any,
) -> Collaborators:
    """Collaborators of this process.

    Parameters
    ----------
    rankers, retrievers
        Cluster id -> model; ``"*"`` serves every cluster without its own.
    discovery
        Fed with the same events as ``store`` and ``thunder``.
    embeddings
        Vectors of posts for the value model's DPP; none: DPP leaves every score as it is.
    changes
        Other fields of :class:`Collaborators` to replace.
    """
    params = params or Params()
    viewers, posts = StoreViewers(store, clock=clock), StorePosts(store)
    parts: dict[str, Any] = {
        "graph": viewers,
        "actions": viewers,
        "features": viewers,
        "gender": DeclaredGender(),
        "ip": NoLocation(),
        "served_history": viewers,
        "post_cache": viewers,
        "posts": posts,
        "users": posts,
        "minhash": viewers,
        "visibility": LabelVisibility(store),
        "labels": StoreLabels(store),
        "thunder": {params.thunder_cluster_id: [LocalThunder(thunder)]},
        "tweet_mixer": discovery,
        "retrieval": LocalRetrieval(retrievers),
        "moe_retrieval": InterestRetrieval(retrievers),
        "fallback": discovery,
        "ranker": LocalRanker(rankers),
        "value_model": DppValueModel(embeddings, quirks),
        "ads": ads or CampaignAds(()),
        "who_to_follow": FollowGraphSuggestions(store),
        "prompts": prompts or StaticPrompts(),
        "replies": discovery,
        "sink": sink or MemorySink(),
        "shadow_clusters": shadow_clusters,
        # The store has a cache of its own, which hears of deletions at once.
        "make_cache": lambda name: NoCache(),
    }
    return Collaborators(**{**parts, **changes})

"""Assembly: from a configuration and two models to the parts of a feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ConfigurationError
from xfast.feed.clock import FeedClock, LiveClock, ReplayClock
from xfast.feed.config import FeedConfig
from xfast.feed.corpus import LiveCorpus
from xfast.feed.network import Network, position_in
from xfast.mixer.embedded import (
    Campaign,
    CampaignAds,
    Discovery,
    LocalRanker,
    MemorySink,
    StaticPrompts,
    embedded_collaborators,
)
from xfast.mixer.home import HomeMixer
from xfast.mixer.params import Params
from xfast.mixer.pipelines import Collaborators, MixerSettings
from xfast.mixer.quirks import Quirks
from xfast.phoenix import Ranker
from xfast.phoenix.artifacts import Tower, load_artifacts
from xfast.stores import open_store
from xfast.thunder import EventLog, PostStore, SnapshotDirectory

__all__ = ["Parts", "assemble"]

#: As good as none, for callers that want none.
_LONG_MS = 600_000.0


@dataclass(frozen=True)
class Parts:
    """What a feed consists of.

    Attributes
    ----------
    mixer
        Serves pages and remembers them.
    quiet
        The same over the same parts, but writes nothing and books no ads.
    swap
        Change to another ranking and another retrieval model.
    """

    network: Network
    mixer: HomeMixer
    quiet: HomeMixer
    params: Params
    quirks: Quirks
    swap: Callable[[Tower, Tower], None]


class _Forgetful:
    """A cache of candidates that keeps none."""

    def get(self, key: str) -> None:
        """Nothing is kept."""

    def set(self, key: str, payload: bytes, ttl_secs: int) -> None:
        """Keep nothing."""


class _Vectors:
    """Vectors of posts for the value model, out of the candidate tower: posts in the corpus and others alike."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, post_ids: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        posts = self._network.store.posts(post_ids)
        return self._network.corpus.vectors(post_ids, posts.author_id), posts.found


def assemble(
    config: FeedConfig,
    ranker: Tower,
    retrieval: Tower,
    *,
    campaigns: Sequence[Campaign] | None = None,
    collaborators: Mapping[str, Any] | None = None,
) -> Parts:
    """Open stores and log, start the models, replay what memory has lost, and put the mixer on top.

    Raises
    ------
    ConfigurationError
        A collaborator that the mixer does not know.
    """
    params = config.parameters()
    own = dict(collaborators or {})
    if unknown := set(own) - {item.name for item in fields(Collaborators)}:
        name = min(unknown)
        close = get_close_matches(name, [item.name for item in fields(Collaborators)], n=1, cutoff=0.5)
        raise ConfigurationError(f"unknown collaborator {name}" + (f", did you mean {close[0]}?" if close else ""))
    clock: FeedClock = LiveClock() if config.clock == "system" else ReplayClock()
    ads = _ads(config, campaigns)
    rankers, retrievers = _clusters(config)
    local = LocalRanker(
        {
            name: Ranker(tower, engine=config.engine, precision=config.precision)
            for name, tower in {"*": ranker, **rankers}.items()
        }
    )
    corpus = LiveCorpus(
        retrieval,
        clusters=retrievers,
        retention_seconds=params.max_post_age,
        clock=clock,
        index=config.index,
        engine=config.engine,
        precision=config.precision,
    )
    network = _network(config, params, clock, corpus)
    try:
        network.recover()
        parts = embedded_collaborators(
            network.store,
            network.thunder,
            rankers={},
            retrievers=corpus.retrievers,
            discovery=network.discovery,
            params=params,
            quirks=config.quirks,
            embeddings=_Vectors(network),
            clock=clock.ms,
            **{"ranker": local, "ads": ads, "prompts": StaticPrompts(config.prompts), **own},
        )
        settings = MixerSettings(
            quirks=config.quirks,
            params=params,
            deciders=config.deciders,
            remote_deadline_ms=config.call_deadline_ms or _LONG_MS,
            deadline_ms=config.deadline_ms or None,
            clock=clock.ms,
        )
        silent = replace(parts, post_cache=_Forgetful(), ads=CampaignAds(()), sink=MemorySink(1))

        def swap(ranking: Tower, finding: Tower) -> None:
            fresh = Ranker(ranking, engine=config.engine, precision=config.precision)
            corpus.builder.swap(finding)
            local.swap("*", fresh)

        return Parts(
            network,
            HomeMixer(parts, settings),
            HomeMixer(silent, replace(settings, production=False)),
            params,
            config.quirks,
            swap,
        )
    except BaseException:
        network.close()
        raise


def _clusters(config: FeedConfig) -> tuple[dict[str, Tower], dict[str, Tower]]:
    """Ranking and retrieval models that serve single clusters."""
    rankers, retrievers = dict[str, Tower](), dict[str, Tower]()
    for name, path in config.clusters.items():
        found = load_artifacts(path)
        if "ranker" not in found and "retrieval" not in found:
            raise ConfigurationError(f"clusters.{name} is {str(path)!r}, it has neither ranker/ nor retrieval/")
        if "ranker" in found:
            rankers[name] = found.ranker
        if "retrieval" in found:
            retrievers[name] = found.retrieval
    return rankers, retrievers


def _ads(config: FeedConfig, campaigns: Sequence[Campaign] | None) -> CampaignAds:
    if config.campaigns is None:
        return CampaignAds(campaigns or ())
    if not config.campaigns.is_file():
        raise ConfigurationError(f"campaigns is {str(config.campaigns)!r}, there is no such file")
    return CampaignAds.load(config.campaigns)


def _network(config: FeedConfig, params: Params, clock: FeedClock, corpus: LiveCorpus) -> Network:
    limits = {
        "retention_seconds": params.max_post_age,
        "max_original_per_author": config.thunder.max_original_per_author,
        "max_secondary_per_author": config.thunder.max_secondary_per_author,
        "max_scan_per_author": config.thunder.max_scan_per_author,
        "max_results": max(params.thunder_max_results, 1),
        "quirks": config.quirks,
        "clock": clock,
    }
    log, snapshots, position = None, None, 0
    if config.directory is not None:
        config.directory.mkdir(parents=True, exist_ok=True)
        days = config.retention.log_days
        log = EventLog(
            config.directory / "log",
            fsync=config.log.fsync,
            segment_bytes=config.log.segment_bytes,
            retention_seconds=days * 86_400 if days else None,
        )
    try:
        if log is not None and config.directory is not None:
            snapshots = SnapshotDirectory(config.directory / "snapshots")
            restored = snapshots.load(**limits)
            thunder, position = restored.store, position_in(log, restored.position)
        else:
            thunder = PostStore(**limits)  # type: ignore[arg-type]
        store = open_store(config.store_url, timeout_ms=max(config.store_timeout_ms, 1))
    except BaseException:
        if log is not None:
            log.close()
        raise
    return Network(
        store=store,
        thunder=thunder,
        discovery=Discovery(clock=clock.ms),
        corpus=corpus,
        clock=clock,
        log=log,
        snapshots=snapshots,
        position=position,
        max_age_ms=params.max_post_age * 1_000,
        retention=config.retention,
        save_seconds=config.save_seconds or float("inf"),
    )

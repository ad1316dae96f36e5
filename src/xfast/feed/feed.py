"""Feed: a whole For You feed in one object; events in, a ranked and explained page out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events import EventBatch, NetworkEvent
from xfast.feed.assembly import Parts, assemble
from xfast.feed.config import FeedConfig
from xfast.feed.explain import Explanation, explain_post
from xfast.feed.network import Erased, Network
from xfast.feed.page import FeedPage, build_page
from xfast.ids import as_uint64
from xfast.mixer.embedded import Campaign
from xfast.mixer.home import Page
from xfast.mixer.params import Params
from xfast.mixer.query import ScoredPostsQuery
from xfast.phoenix.artifacts import Tower, load_artifacts
from xfast.stores import Applied

__all__ = ["Feed"]

Which = Literal["for_you", "following"]
_LEVELS = (None, "Basic", "Premium", "PremiumPlus")


class Feed:
    """The "For You" feed of one network.

    Made by :meth:`open` (durable, from a feed.toml), :meth:`in_memory` (two models and events) or :meth:`demo`. All
    methods may be called from several threads; those that wait have an ``async`` twin with the suffix ``_async``.
    Several feeds can live in one process; ``with`` closes one.

    Attributes
    ----------
    network
        Stores, Thunder, discovery, corpus and log: what the events changed.
    params
        Weights and switches.
    """

    def __init__(self, parts: Parts) -> None:
        self.network: Network = parts.network
        self.params: Params = parts.params
        self._parts = parts

    # Making one -------------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: str | Path, *, collaborators: Mapping[str, Any] | None = None) -> Self:
        """Open the feed that a ``feed.toml`` describes (docs/feed.md lists its keys), where its last run left it.

        Parameters
        ----------
        path
            The file, or the folder that holds it.
        collaborators
            Own parts instead of the embedded ones, by field of :class:`xfast.mixer.Collaborators`: an ad index, a
            visibility service, a ranking model elsewhere, …

        Raises
        ------
        ConfigurationError
            The file is missing, malformed, or has an unknown key or a bad value.
        ArtifactError
            The models are missing or malformed.
        StoreError, SnapshotError
            The store cannot be reached; the log or the snapshots are damaged or in use by another process.
        """
        return cls.from_config(FeedConfig.load(path), collaborators=collaborators)

    @classmethod
    def from_config(cls, config: FeedConfig, *, collaborators: Mapping[str, Any] | None = None) -> Self:
        """Open a feed without a file; see :meth:`open`."""
        models = load_artifacts(config.models)
        return cls(assemble(config, models.ranker, models.retrieval, collaborators=collaborators))

    @classmethod
    async def open_async(cls, path: str | Path, *, collaborators: Mapping[str, Any] | None = None) -> Self:
        """:meth:`open`, in a worker thread."""
        return await asyncio.to_thread(cls.open, path, collaborators=collaborators)

    @classmethod
    def in_memory(
        cls,
        ranker: Tower,
        retrieval: Tower,
        events: EventBatch | Iterable[NetworkEvent] = (),
        *,
        params: Mapping[str, Any] | None = None,
        campaigns: Sequence[Campaign] = (),
        clock: Literal["system", "replay"] = "replay",
        collaborators: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """A feed that ends with the process.

        Parameters
        ----------
        ranker, retrieval
            The two models.
        events
            What happened, any order.
        params
            What differs from the preset, by public or attribute name.
        campaigns
            Ads.
        clock
            ``replay``: it is as late as the newest event.
        collaborators
            As for :meth:`open`.
        options
            Other fields of :class:`~xfast.feed.FeedConfig`.
        """
        config = FeedConfig(models=Path(), params=dict(params or {}), clock=clock, **options)
        feed = cls(assemble(config, ranker, retrieval, campaigns=campaigns, collaborators=collaborators))
        feed.ingest(events)
        return feed

    @classmethod
    def demo(cls, seed: int = 0, *, train: bool = False, on_progress: Callable[[str], None] | None = None) -> Feed:
        """The synthetic network, its ads, and the small models that the package ships for it (``xfast.feed.demo``).

        Parameters
        ----------
        seed
            Of the network. The shipped models know seed 0; for another one they are trained here, in a minute or two.
        train
            Train the models here even for seed 0.
        on_progress
            Gets a line of text now and then.
        """
        from xfast.feed.demo import demo_feed

        return demo_feed(seed, train=train, on_progress=on_progress)

    @classmethod
    async def demo_async(cls, seed: int = 0) -> Feed:
        """:meth:`demo`, in a worker thread."""
        return await asyncio.to_thread(cls.demo, seed)

    @classmethod
    def movielens(
        cls,
        folder: str | Path,
        *,
        models: str | Path | None = None,
        on_progress: Callable[[str], None] | None = None,
    ) -> Feed:
        """Train on a MovieLens folder (100K or 1M layout) and stand at its last rating (``xfast.feed.demo``).

        Parameters
        ----------
        models
            Folder of the trained models: loaded if it is there, made after training if not.
        on_progress
            Gets a line of text now and then.
        """
        from xfast.feed.demo import movielens_feed

        return movielens_feed(folder, models=models, on_progress=on_progress)

    # Feeding ----------------------------------------------------------------------------------------------------------

    def ingest(self, events: EventBatch | Iterable[NetworkEvent]) -> Applied:
        """Take in what happened; when this returns, the next request knows it.

        Events go into the durable log first, then to the stores, Thunder, discovery and the corpus. A repeated event
        changes nothing. Engagements and impressions without an author get the post's.

        Returns
        -------
        Applied
            How many events changed the store, by kind.

        Raises
        ------
        StoreError
            The store cannot be reached. The events are in the log and are applied before those of the next call.
        SnapshotError, OSError
            The log takes no more; nothing was applied.
        """
        return self.network.ingest(events)

    async def ingest_async(self, events: EventBatch | Iterable[NetworkEvent]) -> Applied:
        """:meth:`ingest`, in a worker thread."""
        return await asyncio.to_thread(self.ingest, events)

    def erase(self, user_id: int) -> Erased:
        """Remove all that is known of a user, from store, log, snapshots, Thunder, corpus and discovery, for good.

        Their later events are ignored. Readers and models that were trained before are outside of this.
        """
        return self.network.erase(_user(user_id))

    async def erase_async(self, user_id: int) -> Erased:
        """:meth:`erase`, in a worker thread."""
        return await asyncio.to_thread(self.erase, user_id)

    # Asking -----------------------------------------------------------------------------------------------------------

    @property
    def users(self) -> npt.NDArray[np.uint64]:
        """Ids of the accounts that have a profile, a follow or a state, ascending."""
        store, pages = self.network.store, []
        after: int | None = None
        while len(page := store.user_ids(after=after)):
            pages.append(page)
            after = int(page[-1])
        return np.sort(np.concatenate(pages)) if pages else np.empty(0, np.uint64)

    @property
    def now_ms(self) -> int:
        """The feed's time, Unix milliseconds."""
        return self.network.clock.ms()

    def for_you(
        self,
        user_id: int,
        limit: int = 35,
        explain: bool = False,
        *,
        remember: bool = True,
        params: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> FeedPage:
        """The For You page of a viewer; one of whom nothing is known gets what is fresh and popular.

        Parameters
        ----------
        user_id
            Not 0.
        limit
            At most so many posts, and never more than ``RESULT_SIZE``.
        explain
            Add the terms of every score, and the candidates that filters removed, with reasons.
        remember
            Note what was served, so that the next page shows other posts. False looks without a trace, and without
            booking ads.
        params
            Overrides for this request, by public or attribute name.
        fields
            Fields of :class:`xfast.mixer.ScoredPostsQuery`: ``language_code``, ``seen_ids``, ``topic_ids``,
            ``excluded_topic_ids``, ``exclude_videos``, ``cursor``, …

        Raises
        ------
        ParameterError
            User 0, ``limit`` below 1, an unknown field or parameter.
        """
        page, query = self._page(user_id, limit, explain, remember, params, fields)
        return build_page(query.user_id, page, self.network.store, query.request_id)

    async def for_you_async(
        self,
        user_id: int,
        limit: int = 35,
        explain: bool = False,
        *,
        remember: bool = True,
        params: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> FeedPage:
        """:meth:`for_you` in the caller's event loop."""
        mixer = self._parts.mixer if remember else self._parts.quiet
        query = self._query(user_id, limit, params, fields)
        page = await mixer.answer_async(query, explain=explain)
        return build_page(query.user_id, page, self.network.store, query.request_id)

    def following(self, user_id: int, limit: int = 35, explain: bool = False, **options: Any) -> FeedPage:
        """Ranked posts of followed authors only; options as of :meth:`for_you`."""
        return self.for_you(user_id, limit, explain, in_network_only=True, **options)

    async def following_async(self, user_id: int, limit: int = 35, explain: bool = False, **options: Any) -> FeedPage:
        """:meth:`following` in the caller's event loop."""
        return await self.for_you_async(user_id, limit, explain, in_network_only=True, **options)

    def explain(self, user_id: int, post_id: int, *, feed: Which = "for_you", **options: Any) -> Explanation:
        """What becomes of one post in a viewer's feed now: shown, not selected, removed and why, or never retrieved.

        The page is made without a trace: what it holds does not count as served.

        Parameters
        ----------
        feed
            ``for_you`` or ``following``.
        options
            As of :meth:`for_you`.
        """
        if feed not in ("for_you", "following"):
            raise ParameterError(f"feed is {feed!r}, must be 'for_you' or 'following'")
        post = int(as_uint64([post_id], name="post_id")[0])
        options = {"in_network_only": feed == "following", **options}
        limit, params = options.pop("limit", 35), options.pop("params", None)
        page, query = self._page(user_id, limit, True, False, params, options)
        return explain_post(self.network, query, page, build_page(query.user_id, page, self.network.store), post)

    async def explain_async(self, user_id: int, post_id: int, **options: Any) -> Explanation:
        """:meth:`explain`, in a worker thread."""
        return await asyncio.to_thread(self.explain, user_id, post_id, **options)

    def _page(
        self,
        user_id: int,
        limit: int,
        explain: bool,
        remember: bool,
        params: Mapping[str, Any] | None,
        fields: dict[str, Any],
    ) -> tuple[Page, ScoredPostsQuery]:
        mixer = self._parts.mixer if remember else self._parts.quiet
        query = self._query(user_id, limit, params, fields)
        page = mixer.answer(query, explain=explain)
        if remember:
            # The next call of this viewer must not be served the same page: what was served is written down first.
            mixer.settle()
        return page, query

    def _query(
        self, user_id: int, limit: int, params: Mapping[str, Any] | None, fields: dict[str, Any]
    ) -> ScoredPostsQuery:
        """A query with what the viewer lookup knows (HOME_MIXER §13)."""
        if limit < 1:
            raise ParameterError(f"limit is {limit}, must be at least 1")
        user = _user(user_id)
        store = self.network.store
        profile = store.users([user])
        if profile.found[0]:
            languages = profile.languages[0]
            looked_up = {
                "language_code": languages[0] if languages else "",
                "country_code": profile.country_code[0],
                "follower_count": int(profile.followers[0]),
                "subscription_level": _LEVELS[int(profile.subscription_level[0])],
                "user_age_in_years": int(profile.age_years[0]) or None,
            }
            fields = {**looked_up, **fields}
        fields.setdefault("muted_keywords", list(store.muted_keywords([user])[0]))
        overrides = dict(params or {})
        if self._parts.quirks == "fixed" and not fields.get("is_bottom_request"):
            # A refresh asks every source, so that it shows what happened a moment ago; only scrolling on from a page
            # may reuse its candidates.
            overrides = {"EnableCachedPosts": False, **overrides}
        limit = min(limit, self.params.override(overrides).result_size)
        return self._parts.mixer.query(user, limit=limit, params=overrides, **fields)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def swap(self, models: str | Path) -> None:
        """Change to other models while serving; those of single clusters stay.

        The old ones answer while the corpus is encoded anew; events go on being taken in. A feed.toml keeps naming the
        old ones: change it, too.

        Parameters
        ----------
        models
            Folder or zip with ``ranker/`` and ``retrieval/``.
        """
        made = load_artifacts(models)
        self._parts.swap(made.ranker, made.retrieval)

    async def swap_async(self, models: str | Path) -> None:
        """:meth:`swap`, in a worker thread."""
        await asyncio.to_thread(self.swap, models)

    def stats(self) -> dict[str, Mapping[str, Any]]:
        """Sizes, totals and delays of the parts: ``thunder``, ``corpus`` (with the seconds from a post's event until it
        could be found), ``discovery``, ``store`` (its cache), ``log``.
        """
        network = self.network
        log = network.log
        cache = network.store.cache_stats()
        return {
            "thunder": network.thunder.stats(),
            "corpus": network.corpus.builder.stats(),
            "discovery": {"posts": len(network.discovery)},
            "store": {"cache_hits": cache.hits, "cache_misses": cache.misses},
            "log": {} if log is None else {"end": log.end, "durable": log.durable, "bytes": log.bytes()},
        }

    def save(self) -> None:
        """Write a snapshot now; a feed that is opened later starts faster."""
        self.network.save()

    def close(self) -> None:
        """Finish side effects, save, and let go of files and threads; closing twice is fine."""
        self._parts.mixer.close()
        self._parts.quiet.close()
        self.network.close()

    async def close_async(self) -> None:
        """:meth:`close`, after the side effects that this event loop still runs."""
        for mixer in (self._parts.mixer, self._parts.quiet):
            await mixer.drain()
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close_async()

    def __repr__(self) -> str:
        return f"<Feed over {self.network.store!r}, {len(self.network.corpus):,} posts to discover>"


def _user(user_id: int) -> int:
    user = int(as_uint64([user_id], name="user_id")[0])
    if user == 0:
        raise ParameterError("user_id is 0, a request must name its viewer")
    return user

"""``HomeMixer``: both pipelines behind the calls that an application makes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xfast.errors import ParameterError
from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo
from xfast.mixer.deciders import Decider
from xfast.mixer.enums import SafetyLabelType
from xfast.mixer.items import FeedItem, FeedItems, ScoredPost
from xfast.mixer.pipelines import Collaborators, MixerSettings, for_you_pipeline, scored_posts_pipeline
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CandidateTrace, ComponentRun, PipelineResult

__all__ = ["Explained", "HomeMixer", "Page"]

_log = logging.getLogger("xfast.mixer")
_REVIEWED = {SafetyLabelType.GROK_SFA, SafetyLabelType.GROK_NSFA_LIMITED}


@dataclass(frozen=True, slots=True)
class Explained:
    """What happened to one candidate of a request: its fields and its way through the pipeline."""

    tweet_id: int
    fields: dict[str, Any]
    trace: CandidateTrace


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a feed.

    Attributes
    ----------
    items
        In order; ``item.item`` is a post, an ad, a suggestion module, a prompt or a pushed post.
    failures
        Components that failed, of both pipelines when explained, of the feed otherwise.
    candidates
        Every candidate with its story, removed ones too; empty unless asked for with ``explain=True``.
    ranked
        The posts of ``items`` as columns, predictions included, in order of rank (ads blending may show them in
        another one).
    """

    items: tuple[FeedItem, ...]
    failures: tuple[ComponentRun, ...] = ()
    candidates: tuple[Explained, ...] = ()
    ranked: CandidateBatch = field(default_factory=CandidateBatch)


class HomeMixer:
    """The feed over a set of collaborators.

    Parameters
    ----------
    collaborators
        For example :func:`xfast.mixer.embedded.embedded_collaborators`.
    settings
        Quirks, parameters, policies.
    """

    def __init__(self, collaborators: Collaborators, settings: MixerSettings | None = None) -> None:
        self.settings = settings or MixerSettings()
        if self.settings.quirks == "fixed":  # the release computes with whatever it is given (HOME_MIXER §15.15)
            self.settings.params.check()
        if self.settings.production:  # not again for one that looks without a trace
            for warning in self.settings.params.warnings():
                _log.warning("%s", warning)
        self._decider = Decider(self.settings.deciders)
        self.scored_posts = scored_posts_pipeline(collaborators, self.settings)
        self.for_you_feed = for_you_pipeline(collaborators, self.settings, self.scored_posts)
        self._requests = itertools.count(1)
        self._told = not self.settings.production

    def query(
        self, user_id: int, *, limit: int | None = None, params: Mapping[str, Any] | None = None, **fields: Any
    ) -> ScoredPostsQuery:
        """A query at the clock's time with fresh request and prediction ids.

        Parameters
        ----------
        limit
            Posts on the page, at most ``RESULT_SIZE``.
        params
            Overrides for this request, by public or attribute name.
        fields
            Fields of :class:`~xfast.mixer.query.ScoredPostsQuery`.

        Raises
        ------
        ParameterError
            User 0, a limit out of range, or an unknown field.
        ConfigurationError
            Parameters that :meth:`~xfast.mixer.Params.check` refuses, in fixed mode.
        """
        largest = self.settings.params.result_size
        if limit is not None and not 1 <= limit <= largest:
            raise ParameterError(f"limit is {limit}, must be 1 to {largest} (RESULT_SIZE)")
        unknown = sorted(set(fields) - set(ScoredPostsQuery.__slots__))
        if unknown:
            raise ParameterError(f"a query has no field {unknown}")
        for name in ("seen_ids", "served_ids"):
            if name in fields:
                fields[name] = as_uint64(fields[name], name=name)
        now = self.settings.clock()
        # Unique in this process and, by the time in the upper bits, after a restart.
        request_id = (now << 20 | next(self._requests) & 0xFFFFF) & (2**63 - 1)
        chosen = self.settings.params.override({**({"RESULT_SIZE": limit} if limit else {}), **(params or {})})
        if self.settings.quirks == "fixed" and params:
            chosen.check()
        values: dict[str, Any] = {"request_time_ms": now, "request_id": request_id, "prediction_id": request_id}
        values |= {"decider": self._decider, **fields, "ranked": []}
        return ScoredPostsQuery(user_id=int(as_uint64([user_id])[0]), params=chosen, **values).checked()

    async def answer_async(self, query: ScoredPostsQuery, *, explain: bool = False) -> Page:
        """The feed for a query of :meth:`query`."""
        query.explain = [] if explain else None
        return self._page(await self.for_you_feed.execute(query, explain=explain))

    def answer(self, query: ScoredPostsQuery, *, explain: bool = False) -> Page:
        """The feed for a query of :meth:`query`, from ordinary code."""
        query.explain = [] if explain else None
        return self._page(self.for_you_feed.run(query, explain=explain))

    async def for_you_async(self, user_id: int, *, explain: bool = False, **options: Any) -> Page:
        """The For You feed; options as of :meth:`query`."""
        return await self.answer_async(self.query(user_id, **options), explain=explain)

    def for_you(self, user_id: int, *, explain: bool = False, **options: Any) -> Page:
        """The For You feed, from ordinary code."""
        return self.answer(self.query(user_id, **options), explain=explain)

    async def following_async(self, user_id: int, *, explain: bool = False, **options: Any) -> Page:
        """Ranked posts of followed authors only."""
        return await self.for_you_async(user_id, explain=explain, in_network_only=True, **options)

    def following(self, user_id: int, *, explain: bool = False, **options: Any) -> Page:
        """Ranked posts of followed authors only, from ordinary code."""
        return self.for_you(user_id, explain=explain, in_network_only=True, **options)

    def _page(self, result: PipelineResult[ScoredPostsQuery, FeedItems]) -> Page:
        failures, candidates = list(result.failures), []
        for inner in result.query.explain or ():
            failures += inner.failures
            candidates += explained(inner)
        ranked = CandidateBatch.concat(result.query.ranked or ())
        if not self._told:
            self._explain_missing_ads(result)
        return Page(result.selected.items, tuple(failures), tuple(candidates), ranked)

    def _explain_missing_ads(self, result: PipelineResult[ScoredPostsQuery, FeedItems]) -> None:
        """Say once why ads stay away when nothing writes the labels that their neighbours need."""
        if not result.non_selected.of_type(AdInfo) or result.selected.of_type(AdInfo):
            return
        posts = result.selected.of_type(ScoredPost)
        if posts and all(_REVIEWED.isdisjoint(post.safety_label_types) for post in posts):
            self._told = True
            _log.warning(
                "no ad could be placed: none of %d posts has the label GROK_SFA or GROK_NSFA_LIMITED, which an ad's"
                " neighbours need; without a source of brand-safety labels ads cannot appear",
                len(posts),
            )

    async def drain(self) -> None:
        """Wait for the side effects of requests of this event loop."""
        await self.for_you_feed.drain()
        await self.scored_posts.drain()

    def settle(self) -> None:
        """Wait for side effects: what was served is remembered afterwards."""
        self.for_you_feed.settle()

    def close(self) -> None:
        """Finish side effects and stop background threads."""
        self.for_you_feed.settle(self.scored_posts)
        self.for_you_feed.close()
        self.scored_posts.close()


def explained(result: PipelineResult[ScoredPostsQuery, CandidateBatch]) -> list[Explained]:
    """Every retrieved candidate with its story; final fields for those on the page."""
    if result.trace is None:
        return []
    shown = {record["tweet_id"]: record for record in result.selected.to_records()}
    records = result.retrieved.to_records()
    return [
        Explained(
            record["tweet_id"],
            record if trace.final_rank is None else shown.get(record["tweet_id"], record),
            trace,
        )
        for record, trace in zip(records, result.trace.candidates(range(len(records))), strict=True)
    ]

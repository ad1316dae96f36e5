"""What a feed answers with: a page of ranked posts, the timeline that shows them, and what was removed on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from xfast.mixer import items as mixed
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import ServedType
from xfast.mixer.heads import CONTINUOUS_NUMBERS, HEADS
from xfast.mixer.home import Explained, Page
from xfast.stores import Store

__all__ = [
    "Account",
    "FeedItem",
    "FeedPage",
    "PromotedItem",
    "PromptItem",
    "PushedItem",
    "Removed",
    "SuggestionsItem",
    "TimelineItem",
    "build_page",
    "score_terms",
]

#: Scorers whose terms say how a score came about, by the public names of their terms.
_RANKING = "RankingScorer"


@dataclass(frozen=True)
class FeedItem:
    """One ranked post of a page.

    Attributes
    ----------
    rank
        From 1, among the posts of the page.
    position
        From 0, in the timeline.
    text
        A repost has its own, if any.
    source
        What brought it: ``for_you_in_network``, ``for_you_phoenix_retrieval``, …
    probabilities
        What the viewer is predicted to do: every discrete head that the model fills, by action name.
    continuous
        Predicted times in the model's normalised units.
    terms
        With ``explain``: weight times prediction of every head, then the factors for diversity and network, and that
        of the value model where it changed the score.
    """

    rank: int
    post_id: int
    author_id: int
    author: str
    text: str
    in_network: bool
    source: str
    score: float
    probabilities: dict[str, float]
    continuous: dict[str, float]
    terms: dict[str, float] = field(default_factory=dict)
    position: int = 0
    created_at_ms: int = 0
    in_reply_to_post_id: int = 0
    reposted_post_id: int = 0
    reposted_author: str = ""
    verified: bool = False
    media: tuple[Mapping[str, Any], ...] = ()

    kind = "post"

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The likeliest actions."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]

    def why(self, count: int = 3) -> list[tuple[str, float]]:
        """The largest weighted terms by magnitude; empty without ``explain``."""
        weighted = [(name.removesuffix(" x weight"), value) for name, value in self.terms.items() if "x weight" in name]
        return sorted((pair for pair in weighted if pair[1] != 0), key=lambda pair: -abs(pair[1]))[:count]


@dataclass(frozen=True)
class PromotedItem:
    """An ad between the posts."""

    position: int
    post_id: int
    author_id: int
    author: str
    text: str
    impression_id: int

    kind = "promoted"


@dataclass(frozen=True)
class Account:
    """A suggested account and why."""

    user_id: int
    name: str
    reason: str


@dataclass(frozen=True)
class SuggestionsItem:
    """Accounts to follow, shown as one item."""

    position: int
    accounts: tuple[Account, ...]

    kind = "who_to_follow"


@dataclass(frozen=True)
class PromptItem:
    """A prompt of the configuration."""

    position: int
    text: str

    kind = "prompt"


@dataclass(frozen=True)
class PushedItem:
    """The post of a tapped notification, on top, and who replied to it."""

    position: int
    post_id: int
    author_id: int
    author: str
    text: str
    repliers: tuple[str, ...] = ()

    kind = "pushed"


TimelineItem = FeedItem | PromotedItem | SuggestionsItem | PromptItem | PushedItem


@dataclass(frozen=True)
class Removed:
    """A candidate that did not reach the page, the filter that took it out, and why."""

    post_id: int
    filter: str
    reason: str = ""
    source: str = ""


@dataclass(frozen=True)
class FeedPage:
    """A page; as a sequence it is its ranked posts.

    Attributes
    ----------
    items
        The posts, by place.
    candidates
        How many there were before filters (with ``explain``; 0 otherwise).
    removed
        With ``explain``: every candidate that a filter removed.
    timeline
        What to show, in order: the posts with ads, suggestions, prompts and a pushed post between them.
    failures
        Parts of the pipeline that failed, as ``name: error``; the page was made without them.
    """

    user_id: int
    items: list[FeedItem]
    candidates: int = 0
    removed: list[Removed] = field(default_factory=list)
    timeline: list[TimelineItem] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    request_id: int = 0

    def __iter__(self) -> Iterator[FeedItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> FeedItem:
        return self.items[index]

    def to_dict(self) -> dict[str, Any]:
        """The timeline as JSON-ready values.

        Ids are strings: they have 64 bits, of which a browser would keep 53.
        """
        return {
            "user_id": str(self.user_id),
            "request_id": str(self.request_id),
            "items": [{"kind": item.kind, **_plain(asdict(item))} for item in self.timeline],
            "failures": self.failures,
        }


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner, key) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if name.endswith("_id") else value


def build_page(user_id: int, page: Page, store: Store, request_id: int = 0) -> FeedPage:
    """The mixer's page with names, predictions and, where it has stories, terms and removed candidates."""
    names = _names(page, store)
    stories = {story.tweet_id: story for story in page.candidates if story.trace.final_rank is not None}
    rows = {int(post): row for row, post in enumerate(page.ranked.tweet_id.tolist())}
    timeline: list[TimelineItem] = []
    items: list[FeedItem] = []
    for position, entry in enumerate(page.items):
        item = entry.item
        if isinstance(item, mixed.ScoredPost):
            story = stories.get(item.tweet_id)
            made = _post(item, position, len(items) + 1, page.ranked, rows[item.tweet_id], names, story)
            items.append(made)
            timeline.append(made)
        elif isinstance(item, AdInfo):
            author = names.get(item.author_id, str(item.author_id))
            timeline.append(PromotedItem(position, item.post_id, item.author_id, author, item.text, item.impression_id))
        elif isinstance(item, mixed.WhoToFollowModule):
            accounts = tuple(
                Account(user.user_id, names.get(user.user_id, str(user.user_id)), user.reason) for user in item.users
            )
            timeline.append(SuggestionsItem(position, accounts))
        elif isinstance(item, mixed.Prompt):
            timeline.append(PromptItem(position, item.payload.decode(errors="replace")))
        elif isinstance(item, mixed.PushToHomePost):
            text = str(store.posts([item.tweet_id]).text[0])
            author = names.get(item.author_id, str(item.author_id))
            repliers = tuple(names.get(user, str(user)) for user in item.facepile)
            timeline.append(PushedItem(position, item.tweet_id, item.author_id, author, text, repliers))
    return FeedPage(
        user_id,
        items,
        len(page.candidates),
        [removed(story) for story in page.candidates if story.trace.removed_by is not None],
        timeline,
        [f"{run.name}: {run.error}" for run in page.failures],
        request_id,
    )


def removed(story: Explained) -> Removed:
    """The removal in a candidate's story."""
    trace = story.trace
    return Removed(story.tweet_id, trace.removed_by or "", trace.reason or "", trace.source or "")


def score_terms(story: Explained) -> dict[str, float]:
    """The terms of the ranking score, and the factor by which the value model changed it, if it did."""
    terms: dict[str, float] = {}
    for scorer, values in story.trace.scores:
        if scorer == _RANKING:
            terms.update(values)
    ranked, final = terms.get("score", 0.0), story.fields.get("score")
    if final is not None and ranked and final != ranked:
        terms["value model"] = final / ranked
    return terms


def _post(
    item: mixed.ScoredPost,
    position: int,
    rank: int,
    ranked: CandidateBatch,
    row: int,
    names: Mapping[int, str],
    story: Explained | None,
) -> FeedItem:
    heads = ranked.values("phoenix_scores")[row]
    filled = {name: float(value) for name, value in zip(HEADS, heads, strict=True) if not np.isnan(value)}
    return FeedItem(
        rank=rank,
        post_id=item.tweet_id,
        author_id=item.author_id,
        author=names.get(item.author_id, str(item.author_id)),
        text=item.tweet_text,
        in_network=item.in_network,
        source=ServedType(item.served_type).name.lower(),
        score=float(ranked.column("score").filled(0.0)[row]),
        probabilities={name: value for name, value in filled.items() if name not in CONTINUOUS_NUMBERS},
        continuous={name: value for name, value in filled.items() if name in CONTINUOUS_NUMBERS},
        terms=score_terms(story) if story is not None else {},
        position=position,
        created_at_ms=int(ranked.column("created_at_ms").filled(0)[row]),
        in_reply_to_post_id=item.in_reply_to_tweet_id,
        reposted_post_id=item.retweeted_tweet_id,
        reposted_author=names.get(item.retweeted_user_id, "") if item.retweeted_user_id else "",
        verified=bool(item.author_verified),
        media=item.media,
    )


def _names(page: Page, store: Store) -> dict[int, str]:
    """Screen names: those that came with the posts, the others in one read."""
    names: dict[int, str] = {}
    wanted: set[int] = set()
    for entry in page.items:
        item = entry.item
        if isinstance(item, mixed.ScoredPost):
            names.update(item.screen_names)
            wanted.update(user for user in (item.author_id, item.retweeted_user_id) if user)
        elif isinstance(item, AdInfo):
            wanted.add(item.author_id)
        elif isinstance(item, mixed.PushToHomePost):
            wanted.update((item.author_id, *item.facepile))
        elif isinstance(item, mixed.WhoToFollowModule):
            wanted.update(user.user_id for user in item.users)
    missing = sorted(wanted - names.keys() - {0})
    if missing:
        found = store.users(missing)
        names.update({user: name for user, name in zip(missing, found.screen_name.tolist(), strict=True) if name})
    return names

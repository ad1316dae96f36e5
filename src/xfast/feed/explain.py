"""Explanation: what became of one post in one viewer's feed, shown, removed or never looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from xfast.events import AccountState
from xfast.feed.page import FeedItem, FeedPage, score_terms
from xfast.mixer.home import Explained, Page
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.sources.phoenix import resolve_retrieval_cluster
from xfast.phoenix.clusters import fit_sequence, model_of
from xfast.stores import Aggregation, HistoryOptions, Relation

if TYPE_CHECKING:
    from xfast.feed.network import Network

__all__ = ["Explanation", "Story", "explain_post"]

Status = Literal["shown", "not selected", "removed", "not retrieved", "unknown"]

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Story:
    """The way of one candidate; a post that several sources bring, or that is reposted, has several.

    Attributes
    ----------
    post_id
        The candidate's own id, that of the repost for a repost.
    source
        The source that brought it.
    removed_by, reason
        The filter that removed it; empty if none did.
    ranks
        (stage, place from 1) wherever the order was looked at.
    errors
        (component, message) of what failed for it.
    terms
        Of its score; empty if it was not scored.
    """

    post_id: int
    source: str
    removed_by: str = ""
    reason: str = ""
    ranks: tuple[tuple[str, int], ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    terms: dict[str, float] = field(default_factory=dict)
    probabilities: dict[str, float] = field(default_factory=dict)
    score: float | None = None


@dataclass(frozen=True)
class Explanation:
    """What became of a post.

    Attributes
    ----------
    status
        ``shown``; ``not selected`` (a candidate, but others scored higher); ``removed`` (by a filter);
        ``not retrieved`` (no source brought it); ``unknown`` (no event tells of it).
    summary
        The same in one sentence.
    author, text
        Empty for an unknown post.
    stories
        Of the post as a candidate, and of reposts of it.
    notes
        Facts that bear on it: deleted, the author's state, age, places in the corpus.
    item
        The post as the page shows it.
    candidates, page_size
        How many candidates there were, and posts on the page.
    """

    user_id: int
    post_id: int
    status: Status
    summary: str
    author: str = ""
    text: str = ""
    stories: tuple[Story, ...] = ()
    notes: tuple[str, ...] = ()
    item: FeedItem | None = None
    candidates: int = 0
    page_size: int = 0


def explain_post(network: Network, query: ScoredPostsQuery, page: Page, made: FeedPage, post_id: int) -> Explanation:
    """Explain a post on the page that was made for ``query``, with its trace."""
    known = network.store.posts([post_id])
    author_id = int(known.author_id[0])
    names = network.store.users([author_id]).screen_name if author_id else [""]
    stories = tuple(
        _story(each) for each in page.candidates if post_id in (each.tweet_id, each.fields.get("retweeted_tweet_id"))
    )
    item = next((each for each in made.items if post_id in (each.post_id, each.reposted_post_id)), None)
    status, summary = _verdict(network, query, stories, item, bool(known.found[0] or known.deleted[0]), post_id, page)
    return Explanation(
        user_id=query.user_id,
        post_id=post_id,
        status=status,
        summary=summary,
        author=str(names[0]) or (str(author_id) if author_id else ""),
        text=str(known.text[0]),
        stories=stories,
        notes=tuple(_notes(network, query, post_id, author_id, stories)),
        item=item,
        candidates=len(page.candidates),
        page_size=len(made),
    )


def _story(each: Explained) -> Story:
    trace, fields = each.trace, each.fields
    return Story(
        post_id=each.tweet_id,
        source=trace.source or "",
        removed_by=trace.removed_by or "",
        reason=trace.reason or "",
        ranks=tuple((stage, place + 1) for stage, place in trace.ranks if stage != "Source"),
        errors=trace.errors,
        terms=score_terms(each),
        probabilities={
            name.removeprefix("p(").removesuffix(")"): value
            for scorer, values in trace.scores
            if scorer == "PhoenixScorer"
            for name, value in values.items()
            if name.startswith("p(") and not np.isnan(value)
        },
        score=_final_score(trace.scores, fields),
    )


def _place_by_score(waiting: list[Story], page: Page) -> tuple[int, int]:
    """The best place of some candidates, from 1, among all that have a score, and how many have."""
    scores = [score for each in page.candidates if (score := _final_score(each.trace.scores, {})) is not None]
    best = max((story.score for story in waiting if story.score is not None), default=float("-inf"))
    return 1 + sum(score > best for score in scores), len(scores)


def _final_score(scores: tuple[tuple[str, dict[str, float]], ...], fields: dict[str, object]) -> float | None:
    found = fields.get("score")
    if isinstance(found, float):
        return found
    values = [terms["score"] for _, terms in scores if "score" in terms]
    return values[-1] if values else None


def _verdict(
    network: Network,
    query: ScoredPostsQuery,
    stories: tuple[Story, ...],
    item: FeedItem | None,
    known: bool,
    post_id: int,
    page: Page,
) -> tuple[Status, str]:
    if item is not None:
        via = "" if item.post_id == post_id else f", as a repost by @{item.author}"
        return "shown", f"shown at place {item.rank} of {len(page.ranked)}{via}"
    waiting = [story for story in stories if not story.removed_by]
    if waiting:
        place, scored = _place_by_score(waiting, page)
        why = (
            "but others scored higher"
            if place > len(page.ranked)
            else "but the value model prefers posts that are less alike"
        )
        return "not selected", (
            f"a candidate that no filter removed, {why}: by score it is number {place} of {scored}, "
            f"the page has {len(page.ranked)} posts"
        )
    if stories:
        # A duplicate is not the reason: what became of the first copy is.
        real = [story for story in stories if story.removed_by != "DropDuplicatesFilter"] or list(stories)
        return "removed", f"removed by {real[0].removed_by}: {real[0].reason}"
    if not known:
        return "unknown", "no event tells of this post"
    return "not retrieved", "no source brought it for this viewer"


def _notes(
    network: Network, query: ScoredPostsQuery, post_id: int, author_id: int, stories: tuple[Story, ...]
) -> list[str]:
    store, notes = network.store, []
    post = store.posts([post_id])
    if post.deleted[0]:
        notes.append("the post is deleted")
    if not post.found[0]:
        return notes
    state = AccountState(int(store.users([author_id]).state[0]))
    if state not in (AccountState.UNKNOWN, AccountState.ACTIVE):
        notes.append(f"the author's account is {state.name.lower()}")
    if post.nullcast[0]:
        notes.append("the post is promoted-only (nullcast)")
    follows = store.has_relation([query.user_id], Relation.FOLLOW, author_id)[0]
    if author_id == query.user_id:
        notes.append("the viewer's own post")
    else:
        notes.append("the viewer follows the author" if follows else "the viewer does not follow the author")
    age = query.request_time_ms - int(post.created_at_ms[0])
    limit = query.params.max_post_age * 1_000
    if age > limit:
        notes.append(f"it is {age / _DAY_MS:.1f} days old, posts may be {limit / _DAY_MS:g}")
    if not stories:
        notes += _retrieval_notes(network, query, post_id, bool(follows))
    return notes


def _retrieval_notes(network: Network, query: ScoredPostsQuery, post_id: int, follows: bool) -> list[str]:
    """Where a post that no source brought stands in the corpus."""
    if follows:
        return ["Thunder takes the newest posts of each followed author, up to its caps"]
    if not network.corpus.holds(post_id):
        return ["it is not in the corpus that retrieval searches (reposts, old and protected posts are not)"]
    place = _place(network, query, post_id)
    limit = query.params.phoenix_max_results
    return [f"retrieval ranks it {place:,} of {len(network.corpus):,} for this viewer and takes {limit:,}"]


def _place(network: Network, query: ScoredPostsQuery, post_id: int) -> int:
    """The post's place, from 1, when the whole corpus is searched for the viewer."""
    params = query.params
    options = HistoryOptions(
        max_length=params.max_seq_length_retrieval,
        aggregation=Aggregation.parse(params.phoenix_retrieval_aggregation_type, Aggregation.DENSE),
    )
    history = network.store.histories([query.user_id], options, now_ms=query.request_time_ms)[0].engagements()
    cluster = resolve_retrieval_cluster(query, len(history))
    retriever = model_of(network.corpus.retrievers, cluster).pinned()
    vector = retriever.encode(fit_sequence(history, retriever.config.num_actions), keep="newest")
    better = retriever.search(vector, max(retriever.size, 1)).post_ids
    return int(np.argmax(better == np.uint64(post_id))) + 1

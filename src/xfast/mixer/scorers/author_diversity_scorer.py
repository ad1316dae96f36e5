"""AuthorDiversityScorer: the more posts of an author, the less each further one counts (HOME_MIXER §8.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import group_ranks
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Hydration, Scorer, descending

__all__ = ["AuthorDiversityScorer", "diversity_multipliers", "session_seeds"]

F64 = npt.NDArray[np.float64]

#: Half-lives after which what was served no longer dampens an author: by then less than 1/16 of a post is left.
_FORGET_AFTER = 4


def diversity_multipliers(
    scores: npt.ArrayLike,
    author_ids: npt.NDArray[np.uint64],
    *,
    decay: float,
    floor: float,
    seeds: Mapping[int, float] | None = None,
) -> F64:
    """Multiplier per row: the n-th post of an author by score, from 0, gets ``(1 - floor) * decay**n + floor``.

    Parameters
    ----------
    scores
        ``[N]``; all rows are ordered by it, highest first, ties in row order; NaN equals everything.
    author_ids
        ``[N]`` uint64.
    decay, floor
        Sensible between 0 and 1.
    seeds
        Author -> how many posts to count before the first row.
    """
    ranks = _ranks(np.ascontiguousarray(scores, np.float64), author_ids)
    if not seeds:
        table = (1 - floor) * decay ** np.arange(int(ranks.max(initial=0)) + 1, dtype=np.float64) + floor
        multipliers: F64 = table[ranks]
        return multipliers
    places = ranks.astype(np.float64)
    known = np.array(sorted(seeds), np.uint64)
    at = np.minimum(np.searchsorted(known, author_ids), len(known) - 1)
    extra = np.array([seeds[int(author)] for author in known], np.float64)
    places += np.where(known[at] == author_ids, extra[at], 0.0)
    multipliers = (1 - floor) * decay**places + floor
    return multipliers


def _ranks(scores: F64, author_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """Place of each row among its author's rows, in the order of all rows by score."""
    if not np.isnan(scores).any():
        return group_ranks(author_ids, scores)
    # NaN equals everything, so that where a row ends up depends on those between, whoever wrote them.
    order = descending(scores)
    ranks = np.empty(len(order), np.int32)
    ranks[order] = group_ranks(author_ids[order], np.zeros(len(order)))
    return ranks


def session_seeds(query: ScoredPostsQuery) -> dict[int, float]:
    """Author -> decayed number of posts already served to this viewer (fixed mode, upstream issue #202).

    A post served ``t`` ago counts ``0.5 ** (t / half-life)``; only what is at most four half-lives old is looked at.
    """
    half_life_ms = query.params.author_diversity_session_half_life_secs * 1_000
    seeds: dict[int, float] = {}
    if half_life_ms == 0:
        return seeds
    for response in query.served_history:
        if response.served_time_ms is None:
            continue
        age = query.request_time_ms - response.served_time_ms
        if not 0 <= age <= _FORGET_AFTER * half_life_ms:
            continue
        weight = 0.5 ** (age / half_life_ms)
        # A post has one entry per ancestor, all at its position and with its metadata.
        shown = {
            entry.position: entry.items[0].source_author_id
            for entry in response.entries
            if entry.entity_type == "TWEET" and entry.items
        }
        for author in shown.values():
            if author:
                seeds[author] = seeds.get(author, 0.0) + weight
    return seeds


class AuthorDiversityScorer(Scorer[ScoredPostsQuery, CandidateBatch]):
    """Write ``score`` = ``weighted_score`` times the author's multiplier.

    In reference mode the author of a retweet is the retweeter and every request starts anew; in fixed mode it is the
    original author and posts served in the last session count.
    """

    def __init__(self, quirks: Quirks = "fixed") -> None:
        self.quirks = quirks

    def multipliers(self, query: ScoredPostsQuery, batch: CandidateBatch, scores: F64) -> F64:
        """The multiplier per row."""
        fixed = self.quirks == "fixed"
        return diversity_multipliers(
            scores,
            batch.original_author_id if fixed else batch.author_id,
            decay=query.params.author_diversity_decay,
            floor=query.params.author_diversity_floor,
            seeds=session_seeds(query) if fixed else None,
        )

    def score(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        scores = batch.column("weighted_score").filled(0.0)
        return Hydration({"score": scores * self.multipliers(query, batch, scores)})

    def terms(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mapping[str, npt.NDArray[Any]]:
        scores = batch.column("weighted_score").filled(0.0)
        return {"author diversity": self.multipliers(query, batch, scores)}

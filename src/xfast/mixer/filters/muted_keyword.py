"""MutedKeyword: words, phrases and tags that the viewer does not want to read."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask
from xfast.text import KeywordMatcher


class MutedKeywordFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts whose own text contains a muted keyword (HOME_MIXER §7.10).

    Quoted and ancestor texts are not read. All texts are matched in one native call.
    """

    why = "contains a muted word"

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        keywords = muted_keywords(query)
        if not keywords:
            return np.ones(len(batch), np.bool_)
        mask: Mask = ~KeywordMatcher(keywords).match(batch.values("tweet_text"))
        return mask


def muted_keywords(query: ScoredPostsQuery) -> list[str]:
    """Keywords from the request's viewer lookup and from the stored features, each once."""
    return list(dict.fromkeys([*query.muted_keywords, *query.user_features.muted_keywords]))

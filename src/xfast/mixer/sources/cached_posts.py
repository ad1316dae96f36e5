"""CachedPosts: the only source of a request whose candidates are cached."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source


class CachedPostsSource(Source[ScoredPostsQuery, CandidateBatch]):
    """Cached candidates as they were, predictions included."""

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.has_cached_posts

    def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        return query.cached_posts if query.cached_posts is not None else CandidateBatch()

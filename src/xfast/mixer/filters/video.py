"""Video: viewers who asked for a feed without videos."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class VideoFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts with an own video, of any length, when the request excludes videos (HOME_MIXER §7.12).

    A quoted post's video does not count.
    """

    why = "has a video, and videos are excluded"

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.exclude_videos

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        return ~batch.is_set("min_video_duration_ms")

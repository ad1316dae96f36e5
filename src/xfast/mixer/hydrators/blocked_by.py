"""BlockedBy: authors who block the viewer."""

from __future__ import annotations

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import SocialGraphClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Hydration, Hydrator, eager


class BlockedByHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``author_blocks_viewer``; a failed call leaves every post visible.

    Off for cached posts in reference mode, so a block can take 180 s to show; fixed mode asks again.
    """

    def __init__(self, client: SocialGraphClient, *, quirks: Quirks = "fixed") -> None:
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self.quirks == "fixed" or not query.has_cached_posts

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        blocks = await answer(self._client.blocked_by(query.user_id, batch.author_id))
        return Hydration({"author_blocks_viewer": blocks})

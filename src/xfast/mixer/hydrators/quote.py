"""Quote: the quoted post, whether its author blocks the viewer, and how long its video is."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch, optional_ids
from xfast.mixer.clients import U64, PostsClient, SocialGraphClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import CacheStore, Column, Hydration, Hydrator, Mask, MemoryCache, NoCache, eager

#: How long the video lookup may take before durations stay unset.
_VIDEO_DEADLINE_MS = 200


class QuoteHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``quoted_tweet_id``, ``quoted_user_id``, ``quoted_author_blocks_viewer``, ``quoted_video_duration_ms``.

    Has its own cache by own id, which remembers "no quote" too; a failed lookup counts, and is cached, as no quote.
    Off for cached posts in reference mode; fixed mode asks again whether the quoted authors block the viewer.
    """

    def __init__(
        self,
        posts: PostsClient,
        graph: SocialGraphClient,
        cache: CacheStore | None = None,
        *,
        quirks: Quirks = "fixed",
    ) -> None:
        self._posts = posts
        self._graph = graph
        self.quirks = quirks
        self.cache: CacheStore = MemoryCache() if cache is None else cache

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self.quirks == "fixed" or not query.has_cached_posts

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        if query.has_cached_posts:
            known = batch.column("quoted_user_id")
            before = batch.is_true("quoted_author_blocks_viewer")
            blocks = await self._blocks(query, known.filled(0), known.mask(), before)
            return Hydration({"quoted_author_blocks_viewer": Column(blocks)})
        quoted, users = await self._quotes(batch)
        has_quote = quoted != 0
        columns: dict[str, Column] = {
            "quoted_tweet_id": optional_ids(quoted),
            "quoted_user_id": optional_ids(users, has_quote),
            "quoted_author_blocks_viewer": Column(
                await self._blocks(query, users, has_quote, np.zeros(len(users), np.bool_))
            ),
        }
        if query.params.enable_quoted_vqv_duration_check:
            columns["quoted_video_duration_ms"] = await self._durations(quoted, has_quote)
        return Hydration(columns)

    async def _quotes(self, batch: CandidateBatch) -> tuple[U64, U64]:
        if isinstance(self.cache, NoCache):
            return await self._fetch(batch.tweet_id)
        keys = batch.tweet_id.tolist()
        cells = list(await answer(self.cache.get_many(keys)))
        misses = [row for row, cell in enumerate(cells) if cell is None]
        if misses:
            found, users = await self._fetch(batch.tweet_id[misses])
            fresh = list(zip(found.tolist(), users.tolist(), strict=True))
            await answer(self.cache.put_many([keys[row] for row in misses], fresh, None))
            for row, cell in zip(misses, fresh, strict=True):
                cells[row] = cell
        pairs = np.array(cells, np.uint64).reshape(len(cells), 2)
        return pairs[:, 0], pairs[:, 1]

    async def _fetch(self, post_ids: U64) -> tuple[U64, U64]:
        try:
            found = await answer(self._posts.quotes(post_ids))
            return found.quoted_ids, found.quoted_user_ids
        except Exception as error:
            if self.metrics is not None:
                self.metrics.count("QuoteHydrator.lookup", result="error", error=type(error).__name__)
            return np.zeros(len(post_ids), np.uint64), np.zeros(len(post_ids), np.uint64)

    async def _blocks(self, query: ScoredPostsQuery, users: U64, has_quote: Mask, before: Mask) -> Mask:
        """Which quoted authors block the viewer; what was known before where nobody answers."""
        blocks = before.copy()
        if has_quote.any():
            try:
                blocks[has_quote] = await answer(self._graph.blocked_by(query.user_id, users[has_quote]))
            except Exception as error:
                if self.metrics is not None:
                    self.metrics.count("QuoteHydrator.blocked_by", result="error", error=type(error).__name__)
        return blocks

    async def _durations(self, quoted: U64, has_quote: Mask) -> Column:
        values = np.zeros(len(quoted), np.int32)
        valid = np.zeros(len(quoted), np.bool_)
        if has_quote.any():
            try:
                asked = self._posts.video_durations(quoted[has_quote])
                lengths, has_video, _ = await answer(asked, deadline_ms=_VIDEO_DEADLINE_MS)
                values[has_quote], valid[has_quote] = lengths, has_video
            except Exception as error:
                if self.metrics is not None:
                    self.metrics.count("QuoteHydrator.video", result="error", error=type(error).__name__)
        return Column(values, valid)

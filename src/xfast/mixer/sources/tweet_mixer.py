"""TweetMixer: popular posts and posts engaged with together."""

from __future__ import annotations

import numpy as np

from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import TweetMixerClient, answer
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.times import age_ms
from xfast.pipeline import Source, eager

PRODUCT = "HOME_RECOMMENDED_TWEETS"


class TweetMixerSource(Source[ScoredPostsQuery, CandidateBatch]):
    """Out-of-network candidates younger than ``MAX_POST_AGE``; an unknown author is 0 and filtered later."""

    def __init__(self, client: TweetMixerClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.in_network_only and not query.has_cached_posts

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        posts, authors = await answer(
            self._client.recommend(
                query,
                product=PRODUCT,
                excluded_ids=query.seen_ids if len(query.seen_ids) else None,
                max_results=query.params.tweet_mixer_max_results,
            )
        )
        ids = as_uint64(posts)
        ages, known = age_ms(ids, query.request_time_ms)
        fresh = known & (ages <= query.params.max_post_age * 1_000)
        return CandidateBatch(
            {
                "tweet_id": ids[fresh],
                "author_id": as_uint64(authors)[fresh],
                "served_type": np.full(int(fresh.sum()), int(ServedType.FOR_YOU_TWEET_MIXER), np.uint8),
            },
            length=int(fresh.sum()),
        )

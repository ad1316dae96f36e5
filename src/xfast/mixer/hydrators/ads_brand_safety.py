"""AdsBrandSafety: the verdict that decides whether an ad may stand beside a post."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xfast.mixer.ads.brand_safety import candidate_brand_safety
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import LabelsClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, MemoryCache, eager

__all__ = ["AdsBrandSafetyHydrator", "brand_safety_columns"]

DARK_TRAFFIC = "vf_brand_safety_dark_traffic"
_CACHE_ENTRIES = 1_000_000
_YOUNG_MS = 5 * 60_000
_YOUNG_TTL_MS = 60_000
_TTL_MS = 3_600_000


async def brand_safety_columns(batch: CandidateBatch, client: LabelsClient) -> Hydration:
    """``brand_safety_verdict`` and ``safety_labels`` from the labels of original and quoted posts, in one call."""
    originals = batch.original_id
    quoted, has_quote = batch.values("quoted_tweet_id"), batch.is_set("quoted_tweet_id")
    labels = await answer(client.labels(np.unique(np.concatenate([originals, quoted[has_quote]]))))
    verdicts = np.zeros(len(batch), np.uint8)
    found = np.full(len(batch), None, np.object_)
    ok = np.ones(len(batch), np.bool_)
    errors: dict[int, str] = {}
    quoted_ids = [other if set_ else None for other, set_ in zip(quoted.tolist(), has_quote.tolist(), strict=True)]
    for row, (original, other) in enumerate(zip(originals.tolist(), quoted_ids, strict=True)):
        try:
            verdicts[row], found[row] = candidate_brand_safety(original, other, labels)
        except Exception as error:
            ok[row], errors[row] = False, str(error)
    return Hydration({"brand_safety_verdict": Column(verdicts, ok), "safety_labels": Column(found, ok)}, ok, errors)


class AdsBrandSafetyHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``brand_safety_verdict`` and ``safety_labels`` from the label store; cached by own id.

    A verdict is kept a minute while the post is younger than five, then an hour.
    """

    columns = ("brand_safety_verdict", "safety_labels")

    def __init__(self, client: LabelsClient, cache: CacheStore | None = None) -> None:
        super().__init__(MemoryCache(_CACHE_ENTRIES) if cache is None else cache)
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_ads_brand_safety_hydrator and not query.decides(DARK_TRAFFIC)

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        keys: list[int] = batch.tweet_id.tolist()
        return keys

    def ttls_ms(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Sequence[float]:
        ages, _ = missing.ages_ms(query.request_time_ms)
        return [_YOUNG_TTL_MS if age < _YOUNG_MS else _TTL_MS for age in ages.tolist()]

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        return await brand_safety_columns(missing, self._client)

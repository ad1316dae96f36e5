"""PhoenixRequestCache: what the model was asked is kept for a while, to join it with what happens next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from xfast.errors import DataError
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import PostCacheClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput

_FAILURE_SHARE = 0.1


class PhoenixRequestCacheSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Write ``phoenix_request_cache_<pid>`` (fresh requests) and one key per selected post to every site.

    Raises
    ------
    DataError
        More than a tenth of the writes failed.
    """

    def __init__(self, sites: Sequence[PostCacheClient], *, production: bool) -> None:
        self._sites = tuple(sites)
        self._production = production

    def enable(self, query: ScoredPostsQuery) -> bool:
        return self._production and query.params.enable_phoenix_request_cache_side_effect

    async def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        query, batch = data.query, data.selected
        known = batch.is_set("prediction_request_id")
        if not known.any():
            return
        prediction = int(batch.values("prediction_request_id")[known][0])
        entries: dict[str, bytes] = {}
        if not query.has_cached_posts:
            entries[f"phoenix_request_cache_{prediction}"] = json.dumps(
                {
                    "user_id": query.user_id,
                    "request_id": query.request_id,
                    "prediction_id": prediction,
                    "request_time_ms": query.request_time_ms,
                    "cluster": query.params.phoenix_inference_cluster_id,
                }
            ).encode()
        records = batch.to_records()
        for original, record in zip(batch.original_id.tolist(), records, strict=True):
            entries[f"phoenix_request_cache_{prediction}_{original}"] = json.dumps(record).encode()
        ttl = query.params.phoenix_request_cache_side_effect_ttl_seconds
        outcomes = await asyncio.gather(
            *(self._write(site, key, payload, ttl) for site in self._sites for key, payload in entries.items())
        )
        failed = outcomes.count(False)
        if failed > _FAILURE_SHARE * len(outcomes):
            raise DataError(f"{failed} of {len(outcomes)} writes failed")

    async def _write(self, site: PostCacheClient, key: str, payload: bytes, ttl: int) -> bool:
        try:
            await answer(site.set(key, payload, ttl))
        except Exception as error:
            if self.metrics is not None:
                self.metrics.count("PhoenixRequestCache.write", result="error", error=type(error).__name__)
            return False
        return True

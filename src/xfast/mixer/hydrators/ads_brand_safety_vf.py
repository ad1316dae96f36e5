"""AdsBrandSafetyVf: the same verdict with labels from the visibility service (dark traffic)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import LabelsClient, PostLabel
from xfast.mixer.hydrators.ads_brand_safety import DARK_TRAFFIC, brand_safety_columns
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Hydration, Hydrator, Policy, answers, eager

_BATCH = 150


class _Batched:
    """Asks a label service for at most 150 posts at a time."""

    def __init__(self, client: LabelsClient) -> None:
        self._client = client

    async def labels(self, post_ids: npt.NDArray[np.uint64]) -> Mapping[int, Sequence[PostLabel] | Exception]:
        parts = [post_ids[start : start + _BATCH] for start in range(0, len(post_ids), _BATCH)]
        found = await answers(*(self._client.labels(part) for part in parts))
        return {post_id: labels for part in found for post_id, labels in part.items()}


class AdsBrandSafetyVfHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write verdict and labels, uncached; on instead of AdsBrandSafety while the dark-traffic decider is."""

    policy = Policy(deadline_ms=500)

    def __init__(self, client: LabelsClient) -> None:
        self._client = _Batched(client)

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_ads_brand_safety_hydrator and query.decides(DARK_TRAFFIC)

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        return await brand_safety_columns(batch, self._client)

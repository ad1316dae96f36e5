"""MutualFollowJaccard: how much viewer and author move in the same circles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import MinHashClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Hydration, Hydrator, eager

__all__ = ["MutualFollowJaccardHydrator", "signature_jaccard"]

#: Shorter signatures say too little.
MIN_SIGNATURE = 256


def signature_jaccard(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> float:
    """Share of equal positions over the shorter of two MinHash signatures; 0 when one is empty."""
    length = min(len(first), len(second))
    return float(np.count_nonzero(first[:length] == second[:length]) / length) if length else 0.0


class MutualFollowJaccardHydrator(Hydrator[ScoredPostsQuery, CandidateBatch]):
    """Write ``mutual_follow_jaccard`` from MinHash signatures; no model input, as the code has it."""

    def __init__(self, client: MinHashClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_mutual_follow_jaccard_hydration and query.viewer_minhash is not None

    @eager
    async def hydrate(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Hydration:
        viewer = query.viewer_minhash
        values = np.full(len(batch), np.nan)
        ok = np.ones(len(batch), np.bool_)
        errors: dict[int, str] = {}
        if viewer is not None and len(viewer) >= MIN_SIGNATURE:
            authors, inverse = np.unique(batch.author_id, return_inverse=True)
            signatures = await answer(self._client.signatures(authors))
            for row, index in enumerate(inverse.tolist()):
                signature = signatures[index]
                if signature is None:
                    continue
                if len(signature) < MIN_SIGNATURE:
                    ok[row], errors[row] = False, f"signature of {len(signature)} hashes, needs {MIN_SIGNATURE}"
                    continue
                values[row] = signature_jaccard(viewer, signature)
        return Hydration({"mutual_follow_jaccard": Column(values, ~np.isnan(values))}, ok, errors)

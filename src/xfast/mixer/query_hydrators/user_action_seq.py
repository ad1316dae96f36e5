"""UserActionSeq: one history for both models (shipped dead; live in fixed mode where their settings are equal)."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserActionsClient
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.query_hydrators.sequences import fetch_sequence, shares_sequence
from xfast.pipeline import QueryHydrator, eager


class UserActionSeqQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``scoring_sequence`` and ``retrieval_sequence`` from a single read.

    Enabled where both models want the same aggregation and length, which is the published setting; the two separate
    hydrators run otherwise.
    """

    fields = ("scoring_sequence", "retrieval_sequence")

    def __init__(self, client: UserActionsClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return shares_sequence(query)

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        sequence = await fetch_sequence(
            self._client,
            query,
            aggregation=query.params.phoenix_aggregation_type,
            fallback="DENSE_WITH_NOT_INTERESTED_IN",
            max_length=query.params.max_seq_length_scoring,
            prediction_id=query.prediction_id,
        )
        return {"scoring_sequence": sequence, "retrieval_sequence": sequence}

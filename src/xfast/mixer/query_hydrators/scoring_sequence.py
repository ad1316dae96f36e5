"""ScoringSequence: the viewer's history as the ranking model wants it."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserActionsClient
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.query_hydrators.sequences import fetch_sequence, shares_sequence
from xfast.pipeline import QueryHydrator, eager


class ScoringSequenceQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``scoring_sequence``; an error leaves it unset, and then nothing is scored.

    With ``shared`` (fixed mode) it leaves the read to UserActionSeq where both models want the same history.
    """

    fields = ("scoring_sequence",)

    def __init__(self, client: UserActionsClient, *, shared: bool = False) -> None:
        self._client = client
        self._shared = shared

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not (self._shared and shares_sequence(query))

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
        return {"scoring_sequence": sequence}

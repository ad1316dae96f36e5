"""ScoringSequence: the viewer's history as the ranking model wants it."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserActionsClient
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.query_hydrators.sequences import fetch_sequence
from xfast.pipeline import QueryHydrator


class ScoringSequenceQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``scoring_sequence``; an error leaves it unset, and then nothing is scored."""

    fields = ("scoring_sequence",)

    def __init__(self, client: UserActionsClient) -> None:
        self._client = client

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

"""RetrievalSequence: the viewer's history as the retrieval model wants it."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import UserActionsClient
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.query_hydrators.sequences import fetch_sequence, shares_sequence
from xfast.pipeline import QueryHydrator, eager


class RetrievalSequenceQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``retrieval_sequence``; without it the retrieval sources fail.

    With ``shared`` (fixed mode) it leaves the read to UserActionSeq where both models want the same history.
    """

    fields = ("retrieval_sequence",)

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
            aggregation=query.params.phoenix_retrieval_aggregation_type,
            fallback="DENSE",
            max_length=query.params.max_seq_length_retrieval,
            prediction_id=None,
        )
        return {"retrieval_sequence": sequence}

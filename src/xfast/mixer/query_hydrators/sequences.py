"""What both sequence hydrators ask the user-action service."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import SequenceRequest, UserActionsClient, answer
from xfast.mixer.query import ScoredPostsQuery

__all__ = ["AGGREGATIONS", "SOURCE_DATA_TYPES", "fetch_sequence", "shares_sequence"]

#: Aggregation types that the action service knows; names ours beyond the four that the texts show.
AGGREGATIONS = frozenset({"DENSE", "DENSE_WITH_NOT_INTERESTED_IN", "DENSE_WITH_SHORT_DWELL", "SPARSE"})
SOURCE_DATA_TYPES = frozenset({"ARROW", "NEW_UUA_ARROW", "THRIFT"})


async def fetch_sequence(
    client: UserActionsClient,
    query: ScoredPostsQuery,
    *,
    aggregation: str,
    fallback: str,
    max_length: int,
    prediction_id: int | None,
) -> Any:
    """One batched read of a viewer's history; unknown type names fall back as in HOME_MIXER §4."""
    params = query.params
    return await answer(
        client.sequence(
            SequenceRequest(
                user_id=query.user_id,
                cluster=params.user_actions_cluster_id,
                window_ms=params.uas_window_time_ms,
                max_length=max_length,
                aggregation=aggregation if aggregation in AGGREGATIONS else fallback,
                source_data_type=(
                    params.uas_source_data_type if params.uas_source_data_type in SOURCE_DATA_TYPES else "ARROW"
                ),
                # The service knows "true" and "not said", never "false".
                include_realtime=True if params.include_realtime_actions else None,
                use_xds=params.use_xds_for_uas,
                prediction_id=prediction_id,
            )
        )
    )


def shares_sequence(query: ScoredPostsQuery) -> bool:
    """Whether ranking and retrieval are configured to read the same history."""
    params = query.params
    return (
        params.phoenix_aggregation_type == params.phoenix_retrieval_aggregation_type
        and params.max_seq_length_scoring == params.max_seq_length_retrieval
    )

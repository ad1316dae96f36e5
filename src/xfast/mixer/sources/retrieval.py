"""How hits of the retrieval model become candidates, for all three retrieval sources."""

from __future__ import annotations

import numpy as np

from xfast.errors import DataError
from xfast.mixer.candidates import CandidateBatch, optional_ids
from xfast.mixer.clients import Retrieval, RetrievalClient, RetrievalRequest, answer
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Column

__all__ = ["retrieval_candidates", "retrieve"]


def retrieval_candidates(hits: Retrieval, served_type: ServedType, quirks: Quirks) -> CandidateBatch:
    """Candidates of hits, in their order.

    In reference mode every candidate gets a parent id, 0 for posts that answer nothing, until core data clears it; in
    fixed mode 0 means none.
    """
    size = len(hits.post_ids)
    zeros = np.zeros(size, np.uint64)
    parents = zeros if hits.in_reply_to_ids is None else hits.in_reply_to_ids
    return CandidateBatch(
        {
            "tweet_id": hits.post_ids,
            "author_id": hits.author_ids,
            "in_reply_to_tweet_id": Column(parents) if quirks == "reference" else optional_ids(parents),
            "retweeted_tweet_id": optional_ids(zeros if hits.retweeted_ids is None else hits.retweeted_ids),
            "served_type": np.full(size, int(served_type), np.uint8),
        },
        length=size,
    )


async def retrieve(
    client: RetrievalClient,
    query: ScoredPostsQuery,
    *,
    cluster: str,
    max_results: int,
    served_type: ServedType,
    quirks: Quirks,
    topic_ids: tuple[int, ...] = (),
    mode: int | None = None,
    with_contexts: bool = False,
) -> CandidateBatch:
    """Ask the retrieval model.

    Raises
    ------
    DataError
        The query has no retrieval sequence.
    """
    if query.retrieval_sequence is None:
        raise DataError("the query has no retrieval sequence")
    request = RetrievalRequest(cluster, query, query.retrieval_sequence, max_results, topic_ids, mode, with_contexts)
    return retrieval_candidates(await answer(client.retrieve(request)), served_type, quirks)

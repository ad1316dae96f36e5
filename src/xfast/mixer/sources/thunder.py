"""Thunder: the newest posts of followed authors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xfast.errors import ConfigurationError
from xfast.ids import as_uint64
from xfast.mixer.candidates import CandidateBatch, empty_lists
from xfast.mixer.clients import ThunderClient, answer
from xfast.mixer.enums import ServedType
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Column, Ragged, Source, eager

__all__ = ["ThunderSource", "thunder_ancestors"]


def thunder_ancestors(parents: npt.NDArray[np.int64], roots: npt.NDArray[np.int64]) -> Ragged:
    """Ancestors per post ``[N]``: of a reply its parent, then the conversation's root where known and different.

    Parameters
    ----------
    parents, roots
        Signed ids; negative ones mean none.
    """
    is_reply = parents >= 0
    if not is_reply.any():
        return empty_lists(len(parents))
    has_root = is_reply & (roots >= 0) & (roots != parents)
    pairs = np.stack([parents, roots], axis=1)
    offsets = np.zeros(len(parents) + 1, np.int64)
    np.cumsum(is_reply.astype(np.int64) + has_root, out=offsets[1:])
    return Ragged(as_uint64(pairs[np.stack([is_reply, has_root], axis=1)]), offsets)


def _known(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ids of a message, in which 0 is no id."""
    return np.where(ids > 0, ids, -1)


class ThunderSource(Source[ScoredPostsQuery, CandidateBatch]):
    """In-network candidates; also notes who replied to what, for the facepile.

    Parameters
    ----------
    channels
        Cluster name -> clients; one is drawn per request.
    rng
        Draws the channel.
    """

    def __init__(
        self, channels: Mapping[str, Sequence[ThunderClient]], *, rng: np.random.Generator | None = None
    ) -> None:
        self._channels = {name: tuple(clients) for name, clients in channels.items()}
        self._rng = rng or np.random.default_rng(0)

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    @eager
    async def source(self, query: ScoredPostsQuery) -> CandidateBatch:
        params = query.params
        clients = self._channels.get(params.thunder_cluster_id, ())
        if not clients:
            raise ConfigurationError(
                f"ThunderClusterId is {params.thunder_cluster_id!r}, channels exist for {sorted(self._channels)}"
            )
        client = clients[0] if len(clients) == 1 else clients[int(self._rng.integers(len(clients)))]
        posts = await answer(
            client.in_network(
                user_id=query.user_id,
                following_ids=query.user_features.followed_user_ids,
                max_results=params.thunder_max_results,
                exclude_ids=query.seen_ids,
                algorithm=params.thunder_algorithm,
                is_video_request=False,
                debug=False,
            )
        )
        parents, authors = posts.in_reply_to_ids, as_uint64(posts.author_ids)
        is_reply = parents > 0
        query.in_network_replies.set(authors[is_reply], as_uint64(parents[is_reply]))
        served = ServedType.RANKED_FOLLOWING if query.in_network_only else ServedType.FOR_YOU_IN_NETWORK
        return CandidateBatch(
            {
                "tweet_id": as_uint64(posts.post_ids),
                "author_id": authors,
                "in_reply_to_tweet_id": Column(as_uint64(parents), is_reply),
                "retweeted_tweet_id": Column(as_uint64(posts.source_post_ids), posts.source_post_ids > 0),
                "ancestors": thunder_ancestors(_known(parents), _known(posts.conversation_ids)),
                "served_type": np.full(len(parents), int(served), np.uint8),
            },
            length=len(parents),
        )

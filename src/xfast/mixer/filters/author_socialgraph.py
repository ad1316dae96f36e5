"""AuthorSocialgraph: mutes and blocks between viewer and authors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.filters._filters import IdSet
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class AuthorSocialgraphFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts across a mute or a block, in either direction (HOME_MIXER §7.11).

    A mute concerns the author alone; a block also the quoted and the retweeted author.
    """

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        drop = batch.is_true("author_blocks_viewer") | batch.is_true("quoted_author_blocks_viewer")
        muted = query.user_features.muted_user_ids
        if len(muted):
            IdSet(muted).mark(batch.author_id, None, drop)
        blocked = query.user_features.blocked_user_ids
        if len(blocked):
            members = IdSet(blocked)
            members.mark(batch.author_id, None, drop)
            for name in ("quoted_user_id", "retweeted_user_id"):
                if batch.has(name):
                    column = batch.column(name)
                    members.mark(column.values, column.valid, drop)
        return ~drop

    def reasons(self, query: ScoredPostsQuery, batch: CandidateBatch, removed: npt.NDArray[np.int64]) -> list[str]:
        rows = batch.take(removed)
        features = query.user_features
        muted, blocked = IdSet(features.muted_user_ids), IdSet(features.blocked_user_ids)
        checks = (
            ("author muted", muted.contains(rows.author_id)),
            ("author blocked", blocked.contains(rows.author_id)),
            ("author blocks the viewer", rows.is_true("author_blocks_viewer")),
            ("quoted author blocks the viewer", rows.is_true("quoted_author_blocks_viewer")),
            ("quoted author blocked", blocked.contains(rows.values("quoted_user_id")) & rows.is_set("quoted_user_id")),
            ("retweeted author blocked", np.ones(len(rows), np.bool_)),
        )
        return [next(text for text, hit in checks if hit[row]) for row in range(len(rows))]

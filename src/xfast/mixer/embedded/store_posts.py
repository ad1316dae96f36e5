"""Posts and authors out of :mod:`xfast.stores`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xfast.events import AccountState, MediaKind
from xfast.mixer.clients import CoreData, Quotes, UserProfiles
from xfast.stores import Posts, Store

__all__ = ["StorePosts"]

U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
_KINDS = {int(kind): kind.name.lower() for kind in MediaKind}


class StorePosts:
    """Columns of posts and profiles; the store's own cache makes repeated reads of one request cheap."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _posts(self, post_ids: U64) -> Posts:
        return self._store.posts(post_ids)

    def core_data(self, post_ids: U64) -> CoreData:
        """Author, text and relations; deleted posts are not found."""
        posts = self._posts(post_ids)
        return CoreData(
            posts.found & ~posts.deleted,
            posts.author_id,
            posts.text,
            posts.in_reply_to_post_id,
            posts.source_post_id,
            posts.source_user_id,
            posts.conversation_id,
            posts.created_at_ms,
        )

    def quotes(self, post_ids: U64) -> Quotes:
        """Quoted posts and their authors."""
        posts = self._posts(post_ids)
        return Quotes(posts.quoted_post_id, posts.quoted_user_id)

    def video_durations(self, post_ids: U64) -> tuple[npt.NDArray[np.int32], Mask, Mask]:
        """Shortest video, posts with one, posts that are known."""
        posts = self._posts(post_ids)
        durations = posts.video_duration_ms
        return np.maximum(durations, 0).astype(np.int32), durations >= 0, posts.found

    def has_media(self, post_ids: U64) -> Mask:
        """Posts with a photo, video or GIF."""
        return self._posts(post_ids).has_media

    def media(self, post_ids: U64) -> npt.NDArray[np.object_]:
        """Media entities as mappings of kind and duration, ``None`` without."""
        items = self._posts(post_ids).media
        kinds, durations = items.values["kind"].tolist(), items.values["duration_ms"].tolist()
        cells = [{"kind": _KINDS[kind], "duration_ms": ms} for kind, ms in zip(kinds, durations, strict=True)]
        out = np.full(len(post_ids), None, np.object_)
        bounds = items.offsets.tolist()
        for row in np.flatnonzero(items.lengths > 0).tolist():
            out[row] = tuple(cells[bounds[row] : bounds[row + 1]])
        return out

    def subscription_authors(self, post_ids: U64) -> U64:
        """Authors for whose subscribers posts are reserved."""
        return self._posts(post_ids).subscription_author_id

    def language_codes(self, post_ids: U64) -> npt.NDArray[np.object_]:
        """Language per post, ``None`` when it has none."""
        languages = self._posts(post_ids).language
        return _none_for_empty(languages)

    def engagement_counts(self, post_ids: U64) -> npt.NDArray[np.int64]:
        """Favorites, replies, reposts, quotes."""
        counts = self._store.counts(post_ids)
        return np.stack([counts.favorites, counts.replies, counts.reposts, counts.quotes], axis=1)

    def topics(self, post_ids: U64, experiment: int) -> list[list[int] | None]:
        """Topics of posts; the store has one set of labels, so every experiment sees the same."""
        topics = self._posts(post_ids).topic_ids
        values = topics.values.view(np.int64)
        bounds = topics.offsets.tolist()
        return [values[start:stop].tolist() or None for start, stop in pairwise(bounds)]

    def users(self, user_ids: U64) -> UserProfiles:
        """Profiles; a verified account is one that pays for a tier."""
        users = self._store.users(user_ids)
        known = users.found.astype(np.int8)
        return UserProfiles(
            _none_for_empty(users.screen_name),
            np.where(users.found, users.followers, -1).astype(np.int64),
            np.where(users.found, (users.subscription_level > 1).astype(np.int8), np.int8(-1)).astype(np.int8),
            np.where(known == 1, (users.state == int(AccountState.PROTECTED)).astype(np.int8), -1).astype(np.int8),
            {},
        )


def _none_for_empty(texts: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    out = texts.copy()
    out[out == ""] = None
    return out

"""Gizmoduck: what is public about authors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from xfast.mixer._columns import distinct, present
from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import UserProfiles, UsersClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import CachedHydrator, CacheStore, Column, Hydration, Mask, eager


class GizmoduckHydrator(CachedHydrator[ScoredPostsQuery, CandidateBatch]):
    """Write follower count, names and verification of authors; cached by (author, retweeted author).

    An error of either user is the candidate's error. In reference mode the asked list drops only adjacent repeats, in
    fixed mode all. Verification and follower count change no score.
    """

    columns = (
        "author_followers_count",
        "author_screen_name",
        "retweeted_screen_name",
        "author_verified",
        "author_protected",
    )

    def __init__(self, client: UsersClient, cache: CacheStore | None = None, *, quirks: Quirks = "fixed") -> None:
        super().__init__(cache)
        self._client = client
        self.quirks = quirks

    def enable(self, query: ScoredPostsQuery) -> bool:
        return not query.has_cached_posts

    def cache_keys(self, batch: CandidateBatch) -> Sequence[Hashable]:
        return list(zip(batch.author_id.tolist(), self._retweeted(batch).tolist(), strict=True))

    def _retweeted(self, batch: CandidateBatch) -> npt.NDArray[np.uint64]:
        return batch.column("retweeted_user_id").filled(np.uint64(0))

    def ask_for(self, ids: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """The ids to ask for, without repeats as the mode understands them, and where each id's answer will be."""
        if self.quirks == "fixed":
            return distinct(ids)
        fresh = np.ones(len(ids), np.bool_)
        fresh[1:] = ids[1:] != ids[:-1]
        return ids[fresh], np.cumsum(fresh) - 1

    @eager
    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        authors, retweeted = missing.author_id, self._retweeted(missing)
        is_retweet = retweeted != 0
        wanted, places = self.ask_for(np.concatenate([authors, retweeted[is_retweet]]))
        users: UserProfiles = await answer(self._client.users(wanted))
        own, other = places[: len(missing)], np.zeros(len(missing), np.int64)
        other[is_retweet] = places[len(missing) :]
        bad, errors = self._failures(users, own, other, is_retweet)
        followers, names = users.followers_counts[own], users.screen_names[own]
        original_names, has_original = np.full(len(missing), None, np.object_), np.zeros(len(missing), np.bool_)
        if is_retweet.any():
            original_names = users.screen_names[other]
            has_original = is_retweet & present(original_names)
        verified, protected = users.verified[own], users.protected[own]
        return Hydration(
            {
                "author_followers_count": Column(followers.astype(np.int32), followers >= 0),
                "author_screen_name": Column(names, present(names)),
                "retweeted_screen_name": Column(original_names, has_original),
                "author_verified": Column(verified == 1, verified >= 0),
                "author_protected": Column(protected == 1, protected >= 0),
            },
            ~bad,
            errors,
        )

    @staticmethod
    def _failures(
        users: UserProfiles, own: npt.NDArray[np.int64], other: npt.NDArray[np.int64], is_retweet: Mask
    ) -> tuple[Mask, dict[int, str]]:
        """Rows of which either user failed, and why."""
        bad = np.zeros(len(own), np.bool_)
        if not users.failed:
            return bad, {}
        failed = np.zeros(len(users.screen_names), np.bool_)
        failed[list(users.failed)] = True
        bad = failed[own] | (failed[other] & is_retweet)
        return bad, {
            row: users.failed[int(own[row] if failed[own[row]] else other[row])] for row in np.flatnonzero(bad).tolist()
        }

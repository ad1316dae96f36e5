"""Gizmoduck: what is public about authors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.clients import GizmoduckUser, UsersClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import CachedHydrator, CacheStore, Hydration


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

    def _retweeted(self, batch: CandidateBatch) -> np.ndarray:
        return batch.column("retweeted_user_id").filled(np.uint64(0))

    def ask_for(self, ids: list[int]) -> list[int]:
        """The ids to ask for, without repeats as the mode understands them."""
        if self.quirks == "fixed":
            return list(dict.fromkeys(ids))
        return [user for index, user in enumerate(ids) if index == 0 or ids[index - 1] != user]

    async def hydrate_missing(self, query: ScoredPostsQuery, missing: CandidateBatch) -> Hydration:
        authors, retweeted = missing.author_id.tolist(), self._retweeted(missing).tolist()
        wanted = self.ask_for([*authors, *(user for user in retweeted if user)])
        users = await answer(self._client.users(np.array(wanted, np.uint64)))
        found: dict[int, GizmoduckUser | Exception] = dict(zip(wanted, users, strict=True))
        ok = np.ones(len(missing), np.bool_)
        errors: dict[int, str] = {}
        rows: list[dict[str, object]] = []
        for row, (author, original) in enumerate(zip(authors, retweeted, strict=True)):
            profiles = [found[author], *([found[original]] if original else [])]
            failed = next((profile for profile in profiles if isinstance(profile, Exception)), None)
            if failed is not None:
                ok[row], errors[row] = False, str(failed)
                rows.append({})
                continue
            own = profiles[0]
            other = profiles[1] if original else None
            assert isinstance(own, GizmoduckUser)
            rows.append(
                {
                    "author_followers_count": own.followers_count,
                    "author_screen_name": own.screen_name,
                    "retweeted_screen_name": other.screen_name if isinstance(other, GizmoduckUser) else None,
                    "author_verified": own.verified,
                    "author_protected": own.protected,
                }
            )
        made = CandidateBatch.from_rows([{name: row.get(name) for name in self.columns} for row in rows])
        return Hydration({name: made.column(name) for name in self.columns}, ok, errors)

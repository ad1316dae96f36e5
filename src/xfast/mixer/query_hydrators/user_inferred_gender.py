"""UserInferredGender: a stored label, or a prediction for brand-new accounts; embedded, only what was declared."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import GenderClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager

_DAY_MS = 86_400_000
LABELS = frozenset({"female", "male", "unknown"})


class UserInferredGenderQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``user_inferred_gender`` and its score; a miss asks for a prediction only on an account's first day."""

    fields = ("user_inferred_gender", "user_inferred_gender_score")

    def __init__(self, client: GenderClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_inferred_gender_hydration or query.is_shadow_traffic

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        found = await answer(self._client.lookup(query.user_id))
        age = query.account_age_ms
        if found is None and age is not None and age < _DAY_MS:
            found = await answer(self._client.predict(query.user_id))
        if found is None or found[0] not in LABELS:
            return {"user_inferred_gender": None, "user_inferred_gender_score": None}
        return {"user_inferred_gender": found[0], "user_inferred_gender_score": found[1]}

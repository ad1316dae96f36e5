"""Ip: where the request comes from, if the application has a locator."""

from __future__ import annotations

from typing import Any

from xfast.mixer.clients import IpLocationClient, answer
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import QueryHydrator, eager


class IpQueryHydrator(QueryHydrator[ScoredPostsQuery]):
    """Write ``ip_location``; stays unset with the embedded locator, which does not guess."""

    fields = ("ip_location",)

    def __init__(self, client: IpLocationClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_ip_feature and bool(query.ip_address)

    @eager
    async def hydrate(self, query: ScoredPostsQuery) -> dict[str, Any]:
        return {"ip_location": await answer(self._client.locate(query.ip_address))}

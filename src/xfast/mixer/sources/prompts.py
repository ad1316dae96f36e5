"""Prompts: messages of the product between posts."""

from __future__ import annotations

from xfast.mixer.clients import PromptsClient, answer
from xfast.mixer.items import FeedItem, FeedItems, Prompt
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Source, eager

PROMPT_TYPES = ("INLINE_PROMPT", "FULL_COVER", "HALF_COVER", "RELEVANCE_PROMPT")
SURFACE = "HOME_TIMELINE"


class PromptsSource(Source[ScoredPostsQuery, FeedItems]):
    """Every injection, serialised; one that cannot be serialised fails the source."""

    def __init__(self, client: PromptsClient) -> None:
        self._client = client

    def enable(self, query: ScoredPostsQuery) -> bool:
        return query.params.enable_prompts

    @eager
    async def source(self, query: ScoredPostsQuery) -> FeedItems:
        injections = await answer(self._client.prompts(query, PROMPT_TYPES, SURFACE))
        return FeedItems([FeedItem(Prompt(injection.serialize())) for injection in injections])

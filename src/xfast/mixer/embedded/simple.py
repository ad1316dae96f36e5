"""Defaults that need no store: an event sink in memory, prompts from the configuration, and two that do not guess."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xfast.mixer.query import ScoredPostsQuery

__all__ = ["DeclaredGender", "MemorySink", "NoLocation", "StaticPrompts", "TextPrompt"]


class MemorySink:
    """Keeps the newest records per topic, for applications without a log; also what tests read."""

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._topics: dict[str, deque[Mapping[str, Any]]] = {}

    def publish(self, topic: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Append records; the oldest fall out."""
        self._topics.setdefault(topic, deque(maxlen=self._capacity)).extend(records)

    def records(self, topic: str) -> list[Mapping[str, Any]]:
        """What is kept of a topic, oldest first."""
        return list(self._topics.get(topic, ()))


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt of the configuration.

    Attributes
    ----------
    kind
        ``INLINE_PROMPT``, ``FULL_COVER``, ``HALF_COVER`` or ``RELEVANCE_PROMPT``.
    languages
        Shown to requests in these languages; empty: to all.
    """

    text: str
    kind: str = "INLINE_PROMPT"
    languages: tuple[str, ...] = ()

    def serialize(self) -> bytes:
        """The prompt as UTF-8."""
        return self.text.encode()


class StaticPrompts:
    """Prompts from the configuration, by kind and language."""

    def __init__(self, prompts: Sequence[TextPrompt] = ()) -> None:
        self._prompts = tuple(prompts)

    def prompts(self, query: ScoredPostsQuery, types: Sequence[str], surface: str) -> list[TextPrompt]:
        """The prompts of the asked kinds for the request's language."""
        return [
            prompt
            for prompt in self._prompts
            if prompt.kind in types and (not prompt.languages or query.language_code in prompt.languages)
        ]


class DeclaredGender:
    """Answers only with what viewers declared; never predicts."""

    def __init__(self, declared: Mapping[int, str] | None = None) -> None:
        self._declared = dict(declared or {})

    def lookup(self, user_id: int) -> tuple[str, float] | None:
        """The declared label with certainty."""
        label = self._declared.get(user_id)
        return None if label is None else (label, 1.0)

    def predict(self, user_id: int) -> None:
        """Nothing: a gender is not guessed."""


class NoLocation:
    """Knows no location of any address."""

    def locate(self, ip_address: str) -> None:
        """Nothing: an address is not resolved."""

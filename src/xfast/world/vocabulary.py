"""The words of the synthetic network: topics, and per language the sentences, hashtags, names and small talk."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from xfast.errors import ParameterError

LANGUAGES = ("en", "ja", "es", "pt", "de", "fr", "ar")
"""The languages that the package has words for."""

# Hour of the day (UTC) at which people of a language are most active: about nine in the evening where most live.
PEAK_HOUR_UTC = {"en": 1.0, "ja": 12.0, "es": 22.0, "pt": 0.0, "de": 19.0, "fr": 19.0, "ar": 18.0}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic: its public id, and what is shared by all languages."""

    name: str
    id: int
    names: tuple[str, ...]
    emoji: tuple[str, ...]
    handles: tuple[str, ...]
    photo: float
    video: float


@dataclass(frozen=True, slots=True)
class Language:
    """The words of a language; ``sentences`` and ``tags`` are per topic, in the order of :func:`topics`."""

    code: str
    share: float
    countries: tuple[str, ...]
    given: tuple[str, ...]
    family: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
    replies: tuple[str, ...]
    quotes: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    tags: tuple[tuple[str, ...], ...]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(files("xfast.world").joinpath("vocabulary", f"{name}.toml").read_text("utf-8"))


@cache
def topics() -> tuple[Topic, ...]:
    """Return the topics, in a fixed order."""
    return tuple(
        Topic(
            name,
            entry["id"],
            tuple(entry["names"]),
            tuple(entry["emoji"]),
            tuple(entry["handles"]),
            entry["photo"],
            entry["video"],
        )
        for name, entry in _read("topics").items()
    )


@cache
def language(code: str) -> Language:
    """Return the words of a language.

    Raises
    ------
    ParameterError
        The package has no words for it.
    """
    if code not in LANGUAGES:
        raise ParameterError(f"language is {code!r}, must be one of {', '.join(LANGUAGES)}")
    words = _read(code)
    return Language(
        code=code,
        share=words["share"],
        countries=tuple(words["countries"]),
        given=tuple(words["given"]),
        family=tuple(words["family"]),
        openers=tuple(words["openers"]),
        closers=tuple(words["closers"]),
        replies=tuple(words["replies"]),
        quotes=tuple(words["quotes"]),
        sentences=tuple(tuple(words[topic.name]["sentences"]) for topic in topics()),
        tags=tuple(tuple(words[topic.name]["tags"]) for topic in topics()),
    )

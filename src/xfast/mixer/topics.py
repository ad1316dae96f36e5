"""Topic tables: categories, supertopics, and what the filtering experiments select (HOME_MIXER §7.13)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = [
    "TopicExperiment",
    "all_production_topics",
    "category",
    "expand",
    "expand_supertopic",
    "parent_topics",
    "resolve_experiment",
    "supertopic",
    "topic_id",
    "topic_names",
]

_NUMBER = re.compile(r"[+-]?[0-9]+")

#: Length of the per-parent flags (``followed_grok_topics``, ``inferred_grok_topics``).
PARENT_COUNT = 32


class TopicExperiment(IntEnum):
    """Which topic labels count; the number is the retrieval mode."""

    Unfiltered = 0
    CuratedV0 = 1
    CuratedV0V1 = 2
    PostBased90Pct = 3
    PostBased75Pct = 4
    PostBased50Pct = 5

    @classmethod
    def parse(cls, name: str) -> TopicExperiment:
        """The experiment of a name; an unknown name means unfiltered."""
        return cls.__members__.get(name, cls.Unfiltered)


@cache
def _tables() -> dict[str, Any]:
    raw = json.loads(files("xfast.mixer").joinpath("topics.json").read_text())
    ids: dict[str, int] = raw["ids"]
    return {
        "ids": ids,
        "names": {number: name for name, number in ids.items()},
        "categories": {
            ids[name]: frozenset(ids[child] for child in children) for name, children in raw["category_ids"].items()
        },
        "supertopics": {ids[child]: ids[parent] for child, parent in raw["supertopic"].items()},
        "clients": [ids[name] for name in raw["all_client_topics"]],
    }


def topic_id(name: str) -> int:
    """The id of a topic's name (``"SPORTS"``); KeyError when unknown."""
    number: int = _tables()["ids"][name]
    return number


def topic_names() -> dict[int, str]:
    """Topic id -> name."""
    return dict(_tables()["names"])


def category(topic: int) -> frozenset[int] | None:
    """The topics that a category stands for; ``None`` when it is no category."""
    found: frozenset[int] | None = _tables()["categories"].get(topic)
    return found


def expand(topics: Iterable[int]) -> frozenset[int]:
    """Union of the categories' members; a topic that is no category stands for itself."""
    members: set[int] = set()
    for topic in topics:
        members |= category(topic) or {topic}
    return frozenset(members)


def supertopic(topic: int) -> int:
    """The parent of a topic, itself when it has none."""
    parent: int = _tables()["supertopics"].get(topic, topic)
    return parent


def expand_supertopic(topic: int) -> frozenset[int]:
    """What a topic's parent stands for."""
    return expand((supertopic(topic),))


@cache
def all_production_topics() -> frozenset[int]:
    """Everything that the client's topics stand for (115 ids)."""
    return expand(_tables()["clients"])


@cache
def parent_topics() -> tuple[int, ...]:
    """Parents in the order of their flags: as the table of supertopics first names them, at most 32."""
    return tuple(dict.fromkeys(_tables()["supertopics"].values()))[:PARENT_COUNT]


def resolve_experiment(overrides: str, topic_ids: Iterable[int], default: str) -> TopicExperiment:
    """The experiment for a request: the first requested topic with an override decides, else the default.

    Parameters
    ----------
    overrides
        ``"id=Experiment,…"``; malformed parts are skipped, the last entry of an id wins.
    topic_ids
        Topics of the request, in order.
    default
        Name of the experiment when nothing overrides.
    """
    table: dict[int, str] = {}
    for part in overrides.split(","):
        key, separator, name = part.partition("=")
        # Not int() alone, which also reads "1_000" and digits of other scripts.
        if separator and _NUMBER.fullmatch(key.strip()):
            table[int(key)] = name.strip()
    for topic in topic_ids:
        if topic in table:
            return TopicExperiment.parse(table[topic])
    return TopicExperiment.parse(default)

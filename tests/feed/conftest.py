"""The demo feed, made once, and small networks with random models."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.phoenix.models import random_tower, tiny_config
from xfast.events import Body, Follow, NetworkEvent, Post
from xfast.feed import Feed
from xfast.ids import SNOWFLAKE_EPOCH_MS
from xfast.phoenix import save_artifacts

#: After the id from which posts need a policy review before ads may stand next to them (HOME_MIXER §10).
NOW = 1_790_000_000_000
VIEWER = (NOW - 900 * 86_400_000 - SNOWFLAKE_EPOCH_MS) << 22
MODEL_CONFIG = tiny_config(num_actions=49, num_continuous_actions=8, product_surface_vocab_size=16)


@pytest.fixture(scope="session")
def demo() -> Iterator[Feed]:
    """The feed of ``xfast demo``; tests ask it with ``remember=False``."""
    with Feed.demo() as feed:
        yield feed


class Town:
    """A feed and a pen that writes events into it, at times before :data:`NOW`."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._count = itertools.count(1)

    def tell(self, *bodies: Body, age_ms: int = 1_000) -> None:
        """Ingest events of that age."""
        self.feed.ingest([NetworkEvent(body, NOW - age_ms) for body in bodies])

    def post(self, author: int, text: str = "hello", *, age_ms: int = 60_000, **fields: Any) -> int:
        """Write a post; returns its id."""
        number = post_id(NOW - age_ms, next(self._count))
        self.tell(Post(number, author, created_at_ms=NOW - age_ms, text=text, **fields), age_ms=age_ms)
        return number

    def follow(self, *authors: int, viewer: int = VIEWER) -> None:
        """Make the viewer follow."""
        self.tell(*(Follow(viewer, author) for author in authors), age_ms=86_400_000)

    def shown(self, viewer: int = VIEWER, **options: Any) -> list[int]:
        """Ids of the posts of a page that leaves no trace."""
        page = self.feed.for_you(viewer, remember=False, **options)
        assert page.failures == []
        return [item.post_id for item in page]


def post_id(time_ms: int, sequence: int = 0) -> int:
    """A snowflake of that time."""
    return (time_ms - SNOWFLAKE_EPOCH_MS) << 22 | sequence


def now_event() -> NetworkEvent:
    """What moves the replay clock to :data:`NOW`."""
    return NetworkEvent(Follow(1, 2), NOW)


@pytest.fixture
def make_town() -> Iterator[Callable[..., Town]]:
    """Builds towns in memory that stand at :data:`NOW`; options are those of ``Feed.in_memory``."""
    feeds: list[Feed] = []

    def make(**options: Any) -> Town:
        ranker, retrieval = random_tower(MODEL_CONFIG), random_tower(MODEL_CONFIG, "retrieval")
        feeds.append(Feed.in_memory(ranker, retrieval, [now_event()], **options))
        return Town(feeds[-1])

    yield make
    for feed in feeds:
        feed.close()


@pytest.fixture
def town(make_town: Callable[..., Town]) -> Town:
    """One of them."""
    return make_town()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small random models."""
    folder = tmp_path_factory.mktemp("models")
    save_artifacts(folder, ranker=random_tower(MODEL_CONFIG), retrieval=random_tower(MODEL_CONFIG, "retrieval"))
    return folder


@pytest.fixture
def write_config(tmp_path: Path, models: Path) -> Callable[..., Path]:
    """Writes a feed.toml in a fresh folder."""

    def write(text: str = "", *, clock: str = "replay") -> Path:
        file = tmp_path / "feed.toml"
        file.write_text(f'models = "{models}"\ndirectory = "data"\nclock = "{clock}"\n{text}')
        return file

    return write

"""The whole feed in one process: pages of the demo network, and how long an event takes until pages know it.

No rival: nothing else runs this pipeline in one process. What is compared is one commit with another.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np

from xfast.events import Account, AccountState, Delete, NetworkEvent, Post
from xfast.feed import Feed
from xfast.feed.demo import MODELS, demo_network, typical_viewer
from xfast.ids import snowflake
from xfast.phoenix import load_artifacts

#: Every model knows these ids as little as any others; posts are told apart by their number.
_AUTHORS = 50_000


def live_feed() -> Feed:
    """A feed on the machine's clock with 2,000 posts of the last minutes and the demo's models."""
    models = load_artifacts(MODELS)
    feed = Feed.in_memory(models.ranker, models.retrieval, clock="system")
    feed.ingest([new_post(feed, index, age_ms=60_000 + index) for index in range(2_000)])
    return feed


def new_post(feed: Feed, number: int, *, age_ms: int = 0) -> NetworkEvent:
    """A post of now."""
    now = feed.now_ms - age_ms
    return NetworkEvent(Post(snowflake(now, number), _AUTHORS + number % 1_000, created_at_ms=now, text="hello"), now)


class Pages:
    """A page of 35 posts for viewers of the demo network, models included."""

    timeout = 120

    def setup(self) -> None:
        self.feed = Feed.demo()
        self.viewer = typical_viewer(self.feed)
        self.feed.for_you(self.viewer, remember=False)
        self.others = itertools.cycle(self.feed.users.tolist())

    def time_for_you(self) -> None:
        self.feed.for_you(self.viewer, remember=False)

    def time_for_you_explained(self) -> None:
        self.feed.for_you(self.viewer, explain=True, remember=False)

    def time_for_you_remembered(self) -> None:
        """With what is written down for the next page; another viewer each time."""
        self.feed.for_you(next(self.others))

    def time_for_a_stranger(self) -> None:
        self.feed.for_you(424_242, remember=False)


class Ingest:
    """The demo network's events into an empty feed in memory."""

    timeout, number, repeat = 120, 1, 3

    def setup(self) -> None:
        self.models = load_artifacts(MODELS)
        self.events = demo_network(0)

    def time_382_000_events(self) -> None:
        with Feed.in_memory(self.models.ranker, self.models.retrieval) as feed:
            feed.ingest(self.events)


class Freshness:
    """From the call that tells of an event until the next request knows it, milliseconds; each is asked for it."""

    timeout = 120

    def setup(self) -> None:
        self.feed = live_feed()
        self.next = 3_000

    def _delays(self, tell: Any, known: Any, rounds: int = 20) -> dict[str, float]:
        delays = []
        for _ in range(rounds):
            self.next += 1
            subject = tell(self.next)
            began = time.perf_counter()
            self.feed.ingest([subject[0]])
            delays.append((time.perf_counter() - began) * 1_000)
            if not known(subject[1]):
                raise AssertionError("the next request does not know it")
        return {"p50": float(np.median(delays)), "max": max(delays)}

    def _candidate(self, post: int) -> bool:
        found = self.feed.explain(424_242, post, params={"PhoenixMaxResults": 10_000})
        return any(story.source == "PhoenixSource" for story in found.stories)

    def _post(self, number: int) -> tuple[NetworkEvent, int]:
        event = new_post(self.feed, number)
        return event, event.body.post_id  # type: ignore[union-attr]

    def _gone(self, body: Any) -> Any:
        def tell(number: int) -> tuple[NetworkEvent, int]:
            event, post = self._post(number)
            self.feed.ingest([event])
            return NetworkEvent(body(event.body), self.feed.now_ms), post

        return tell

    def track_post_until_retrieved_max_ms(self) -> float:
        return self._delays(self._post, self._candidate)["max"]

    def track_delete_until_gone_max_ms(self) -> float:
        tell = self._gone(lambda post: Delete(post.post_id, post.author_id))
        return self._delays(tell, lambda post: not self._candidate(post))["max"]

    def track_suspension_until_gone_max_ms(self) -> float:
        tell = self._gone(lambda post: Account(post.author_id, AccountState.SUSPENDED))
        return self._delays(tell, lambda post: not self._candidate(post))["max"]

    track_post_until_retrieved_max_ms.unit = "ms"  # type: ignore[attr-defined]
    track_delete_until_gone_max_ms.unit = "ms"  # type: ignore[attr-defined]
    track_suspension_until_gone_max_ms.unit = "ms"  # type: ignore[attr-defined]

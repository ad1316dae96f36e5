"""In whatever order collaborators answer, and whichever is down, there is a page, and it says what was missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.mixer.world import NOW_MS, FakeWorld
from xfast.mixer.clients import AdInfo, GizmoduckUser
from xfast.mixer.items import ScoredPost
from xfast.mixer.pipelines import MixerSettings, for_you_pipeline, scored_posts_pipeline
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Metrics, Policy

Query = Callable[..., ScoredPostsQuery]
EVERYTHING = {
    "EnablePhoenixMOESource": True,
    "EnableMutualFollowJaccardHydration": True,
    "EnableQuotedVqvDurationCheck": True,
    "EnableVMRanker": True,
}


#: Deadlines of their own; on a machine that stalls they are about the machine.
PATIENT = dict.fromkeys(
    (
        "CachedPostsQueryHydrator",
        "FollowedGrokTopicsQueryHydrator",
        "FollowedStarterPacksQueryHydrator",
        "InferredGrokTopicsQueryHydrator",
        "AdsBrandSafetyVfHydrator",
    ),
    Policy(deadline_ms=60_000),
)


class Through:
    """A world behind something: every method that is asked for goes through :meth:`call`."""

    def __init__(self, world: FakeWorld) -> None:
        self.world = world

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self.world, name)
        return lambda *args, **kwargs: self.call(name, method, *args, **kwargs)


class Late(Through):
    """Answers everything asynchronously, after random times, so in another order with every seed."""

    def __init__(self, world: FakeWorld, seed: int) -> None:
        super().__init__(world)
        self.rng = np.random.default_rng(seed)

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def wait() -> Any:
            await asyncio.sleep(float(self.rng.choice([0.0, 0.001, 0.003])))
            answer = method(*args, **kwargs)
            return await answer if asyncio.iscoroutine(answer) else answer

        return wait()


class Down(Through):
    """One method raises, at once or when it is awaited; the others are noted and answer."""

    def __init__(self, world: FakeWorld, broken: str | None, *, late: bool = False) -> None:
        super().__init__(world)
        self.broken, self.late = broken, late
        self.asked: set[str] = set()

    def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.asked.add(name)
        if name != self.broken:
            return method(*args, **kwargs)

        async def fail() -> Any:
            await asyncio.sleep(0)
            raise ConnectionError(f"{name} is down")

        if self.late:
            return fail()
        raise ConnectionError(f"{name} is down")


def run(through: Through, query: ScoredPostsQuery, quirks: Any = "fixed") -> tuple[Any, Metrics]:
    """A page, explained, with its metrics; side effects are done."""
    parts = through.world.collaborators()
    parts = through.world.collaborators(**{name: through for name in parts.__dataclass_fields__ if name in REPLACED})
    parts = type(parts)(**{**{n: getattr(parts, n) for n in parts.__dataclass_fields__}, "thunder": {"amp": [through]}})
    query.explain = []
    query.shadow_traffic = True
    settings = MixerSettings(
        quirks=quirks, params=query.params, clock=lambda: NOW_MS, policies=PATIENT, remote_deadline_ms=60_000
    )
    inner = scored_posts_pipeline(parts, settings)
    pipeline = for_you_pipeline(parts, settings, inner)
    try:
        result = pipeline.run(query, explain=True)
        pipeline.settle()
        inner.settle()
        return result, settings.metrics
    finally:
        pipeline.close()
        inner.close()


REPLACED = {
    "graph", "actions", "features", "ip", "served_history", "post_cache", "posts", "users", "minhash", "visibility",
    "labels", "tweet_mixer", "retrieval", "fallback", "ranker", "value_model", "ads", "who_to_follow", "prompts",
    "replies", "sink",
}  # fmt: skip


@pytest.fixture
def full(world: FakeWorld) -> FakeWorld:
    """A world in which every source has something."""
    world.recommended = world.retrieved[:20]
    world.ad_list = [AdInfo(900 + index, author_id=90, insert_position=1 + 4 * index) for index in range(4)]
    world.profiles = {author: GizmoduckUser(f"user{author}", author, True) for author in range(100, 260)}
    return world


def shown(result: Any) -> list[Any]:
    return [(item.position, type(item.item).__name__, item.item) for item in result.selected]


@pytest.mark.parametrize("quirks", ["fixed", "reference"])
def test_the_order_of_answers_changes_nothing(full: FakeWorld, make_query: Query, quirks: str) -> None:
    def query() -> ScoredPostsQuery:
        return make_query(EVERYTHING, push_to_home_post_id=full.retrieved[0], follower_count=5)

    plain, _ = run(Through(full), query(), quirks)
    assert len(plain.selected.of_type(ScoredPost)) > 20
    for seed in range(4):
        full.served.clear()
        full.times.clear()
        full.cache.clear()
        late, _ = run(Late(full, seed), query(), quirks)
        assert shown(late) == shown(plain)
        first, second = plain.query.explain[0], late.query.explain[0]
        assert second.retrieved.tweet_id.tolist() == first.retrieved.tweet_id.tolist()
        assert second.filtered.tweet_id.tolist() == first.filtered.tweet_id.tolist()
        assert not second.failures


def test_waiting_collaborators_are_asked_together(full: FakeWorld, make_query: Query) -> None:
    class Meeting(Through):
        """Nobody gets an answer before ten wait for one."""

        waiting, met = 0, asyncio.Event()

        def call(self, name: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            async def wait() -> Any:
                self.waiting += 1
                if self.waiting == 10:
                    self.met.set()
                async with asyncio.timeout(60):
                    await self.met.wait()
                answer = method(*args, **kwargs)
                return await answer if asyncio.iscoroutine(answer) else answer

            return wait()

    result, _ = run(Meeting(full), make_query({**EVERYTHING, "EnableUrtMigrationComponents": False}))
    (inner,) = result.query.explain
    assert not inner.failures


METHODS = sorted(
    {
        "ads", "append", "blocked_by", "blocked_user_ids", "core_data", "demographics", "engagement_counts",
        "followed_topics", "followed_user_ids", "get", "has_media", "impressed_post_ids", "impression_filters",
        "in_network", "inferred_topics", "labels", "language_codes", "media", "minhash", "muted_keywords",
        "muted_user_ids", "predict", "prompts", "publish", "quotes", "rank", "read", "read_timestamps", "recommend",
        "retrieve", "sequence", "set", "signatures", "starter_packs", "subscribed_user_ids", "subscription_authors",
        "suggest", "users", "video_durations", "visibility", "write_timestamps",
    }
)  # fmt: skip


def test_the_list_of_methods_is_whole(full: FakeWorld, make_query: Query) -> None:
    through = Down(full, None)
    run(through, make_query(EVERYTHING))
    assert through.asked == set(METHODS)


@pytest.mark.parametrize("broken", METHODS)
def test_a_collaborator_that_is_down_costs_a_part_and_is_named(full: FakeWorld, make_query: Query, broken: str) -> None:
    for late in (False, True):
        result, metrics = run(Down(full, broken, late=late), make_query(EVERYTHING))
        named = result.failures + [run for inner in result.query.explain for run in inner.failures]
        counted = [name for (name, labels), _ in metrics.counters().items() if ("result", "error") in labels]
        assert counted, "every failure is counted"
        for inner in result.query.explain:
            assert inner.trace.failures() == inner.failures
        if broken not in ("append", "publish", "quotes", "set", "write_timestamps"):
            assert any(f"{broken} is down" in str(run.error) for run in named)
        assert result.selected.of_type(ScoredPost)


def test_closing_waits_for_what_is_being_written(full: FakeWorld, make_query: Query) -> None:
    class SlowSink(Through):
        async def publish(self, topic: str, records: Any) -> None:
            await asyncio.sleep(0.05)
            full.publish(topic, records)

    run(SlowSink(full), make_query(EVERYTHING, seen_ids=np.array([1], np.uint64)))
    assert {"impressions", "ads_injection", "client_events"} <= set(full.published)

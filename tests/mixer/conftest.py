"""A small world and the pipelines over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.mixer.world import NOW_MS, FakePost, FakeWorld, post_id
from xfast.mixer.clients import PostLabel
from xfast.mixer.params import Params
from xfast.mixer.pipelines import MixerSettings, for_you_pipeline, scored_posts_pipeline
from xfast.mixer.query import ScoredPostsQuery

VIEWER = 7


@pytest.fixture
def world() -> FakeWorld:
    """Viewer 7 follows 100 to 109; forty in-network and sixty retrieved posts, all labelled safe."""
    made = FakeWorld()
    made.follows[VIEWER] = list(range(100, 110))
    made.history_sizes[VIEWER] = 12
    for index in range(40):
        made.posts_table[post_id(60_000 * (index + 1), index)] = FakePost(100 + index % 10, f"in network {index}")
    for index in range(60):
        post = post_id(3_600_000 + 1_000 * index, index)
        made.posts_table[post] = FakePost(200 + index, f"recommended {index}")
        made.retrieved.append(post)
    rng = np.random.default_rng(0)
    for post in made.posts_table:
        made.post_labels[post] = [PostLabel("GROK_SFA"), PostLabel("PTOS_REVIEWED")]
        made.predictions[post] = {1: float(rng.uniform(0.05, 0.5)), 4: float(rng.uniform(0.01, 0.1))}
    return made


@pytest.fixture
def make_query() -> Callable[..., ScoredPostsQuery]:
    """A query of the viewer at the world's time; keyword arguments are fields, ``params`` overrides parameters."""

    def make(params: dict[str, Any] | None = None, **values: Any) -> ScoredPostsQuery:
        query = ScoredPostsQuery(user_id=VIEWER, request_id=3, prediction_id=99, request_time_ms=NOW_MS)
        # The value model would hide what the other scorers did.
        query.params = Params().override({"EnableVMRanker": False, **(params or {})})
        for name, value in values.items():
            setattr(query, name, value)
        return query

    return make


@pytest.fixture
def run_posts(world: FakeWorld) -> Any:
    """Run pipeline A over the world."""
    made = []

    def run(query: ScoredPostsQuery, quirks: Any = "fixed", explain: bool = False, **changes: Any) -> Any:
        settings = MixerSettings(quirks=quirks, params=query.params, clock=lambda: NOW_MS, **changes)
        pipeline = scored_posts_pipeline(world.collaborators(), settings)
        made.append(pipeline)
        return pipeline.run(query, explain=explain)

    yield run
    for pipeline in made:
        pipeline.close()


@pytest.fixture
def run_feed(world: FakeWorld) -> Any:
    """Run pipeline B over the world; side effects are drained before it returns."""
    made = []

    def run(query: ScoredPostsQuery, quirks: Any = "fixed", **changes: Any) -> Any:
        settings = MixerSettings(quirks=quirks, params=query.params, clock=lambda: NOW_MS, **changes)
        inner = scored_posts_pipeline(world.collaborators(), settings)
        pipeline = for_you_pipeline(world.collaborators(), settings, inner)
        made.append(pipeline)
        result = pipeline.run(query)
        pipeline.settle()
        return result

    yield run
    for pipeline in made:
        pipeline.close()

"""Long walks over few authors: timelines of many chunks, against the model."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from tests.thunder.model import FixedModel, Limits, Post, ReferenceModel
from tests.thunder.test_store_machine import columns
from xfast.thunder import ManualClock, PostStore


def random_post(rng: np.random.Generator, post_id: int, now: int, known: int) -> Post:
    kind = rng.integers(10)
    age = int(rng.integers(1, 4) if rng.random() < 0.8 else rng.integers(1, 620))
    parent = int(rng.integers(max(1, known - 60), known + 3))
    common = {"has_video": bool(rng.random() < 0.2)}
    if kind < 6:
        return Post(post_id, int(rng.integers(4)), now - age, conversation_id=post_id, **common)
    if kind < 9:
        root = int(rng.integers(max(1, known - 60), known + 1)) if rng.random() < 0.5 else parent
        return Post(
            post_id,
            int(rng.integers(4)),
            now - age,
            in_reply_to_post_id=parent,
            in_reply_to_user_id=int(rng.integers(5)),
            is_reply=True,
            conversation_id=root,
            **common,
        )
    return Post(
        post_id,
        int(rng.integers(4)),
        now - age,
        is_retweet=True,
        source_post_id=parent,
        source_user_id=int(rng.integers(5)),
        **common,
    )


@pytest.mark.parametrize("quirks", ["reference", "fixed"])
@pytest.mark.parametrize("seed", [1, 2])
def test_walk(quirks: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = Limits(
        max_original_per_author=150,
        max_secondary_per_author=90,
        max_video_per_author=50,
        max_scan_per_author=400,
        max_results=120,
        max_video_results=40,
    )
    clock = ManualClock(50_000)
    store = PostStore(**asdict(limits), quirks=quirks, clock=clock)
    model = (ReferenceModel if quirks == "reference" else FixedModel)(limits)
    known = 0
    for step in range(120):
        clock.advance(int(rng.integers(1, 12)))
        now = int(clock.time)
        batch = []
        for _ in range(int(rng.integers(1, 60))):
            known += 1
            # Now and then an id comes again, changed.
            post_id = int(rng.integers(max(1, known - 300), known)) if rng.random() < 0.05 and known > 1 else known
            batch.append(random_post(rng, post_id, now, known))
        store.insert(columns(batch))
        model.insert(batch, now)
        if rng.random() < 0.6:
            low = max(1, known - int(rng.choice([50, 400, 900])))
            ids = rng.integers(low, known + 2, int(rng.choice([2, 30, 120])))
            store.delete(ids)
            model.delete([(int(post_id), now) for post_id in ids])
        if rng.random() < 0.15:
            assert store.trim() == model.trim(now)
        if rng.random() < 0.03:
            assert store.finalize() == model.finalize(now)
        assert store.stats() == model.stats(), step
        following = [int(user) for user in rng.permutation(6)[: rng.integers(1, 7)]]
        exclude = {int(post_id) for post_id in rng.integers(max(1, known - 200), known + 1, 40)}
        for max_results, video in ((0, False), (7, False), (5_000, False), (0, True)):
            got = store.in_network(2, following, sorted(exclude), max_results=max_results, video_only=video)
            rows = list(zip(*(got[name].tolist() for name in Post.__dataclass_fields__), strict=True))
            assert rows == model.get(2, following, exclude, max_results, video, now), step
    clock.advance(10_000)
    assert store.trim() == model.trim(int(clock.time))
    if quirks == "fixed":
        assert store.stats()["posts"] == 0
        # Nothing is left but tables of the smallest size.
        assert store.memory()["total"] < 4_096, store.memory()

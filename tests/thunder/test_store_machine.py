"""The store against the model: random creates, deletes, trims, late arrivals, clock jumps, accounts, snapshots."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.thunder.model import FixedModel, Limits, Model, Post, ReferenceModel
from xfast.thunder import POST_COLUMNS, ManualClock, PostStore

# 0, negative and very large ids are ordinary ones.
POST_IDS = st.sampled_from([0, -1, 2**62, *range(1, 28)])
USERS = st.sampled_from([0, -7, *range(1, 7)])
REFERENCES = st.one_of(st.just(0), POST_IDS)
AGES = st.one_of(st.integers(-3, 40), st.integers(-3, 640), st.sampled_from([0, 1, 599, 600, 601]))
STATES = st.sampled_from(["active", "suspended", "protected", "deactivated", "erased"])


@st.composite
def posts(draw: st.DrawFn) -> tuple[int, ...]:
    """A post with its age in place of its time."""
    kind = draw(st.sampled_from(["original", "original", "reply", "reply", "repost", "any"]))
    post_id, author, age = draw(POST_IDS), draw(USERS), draw(AGES)
    parent = parent_user = source = source_user = conversation = 0
    reply = repost = False
    if kind in ("reply", "any"):
        reply = kind == "reply" or draw(st.booleans())
        parent, parent_user = draw(REFERENCES), draw(USERS)
        conversation = draw(st.one_of(st.just(parent), REFERENCES))
    if kind in ("repost", "any"):
        repost = kind == "repost" or draw(st.booleans())
        source, source_user = draw(REFERENCES), draw(USERS)
    return (
        post_id,
        author,
        age,
        parent,
        parent_user,
        repost,
        reply,
        source,
        source_user,
        draw(st.booleans()),
        conversation or draw(st.sampled_from([0, post_id])),
    )


def columns(rows: list[Post]) -> dict[str, np.ndarray]:
    table = list(zip(*(post.row() for post in rows), strict=True)) or [()] * len(POST_COLUMNS)
    flags = {"is_retweet", "is_reply", "has_video"}
    return {
        name: np.array(values, bool if name in flags else np.int64)
        for name, values in zip(Post.__dataclass_fields__, table, strict=True)
    }


class StoreMachine(RuleBasedStateMachine):
    quirks: ClassVar[str]
    model_class: ClassVar[type[Model]]

    @initialize(
        scan=st.sampled_from([1, 3, 6, 100]), cap=st.sampled_from([1, 2, 5]), results=st.sampled_from([1, 5, 20, 100])
    )
    def start(self, scan: int, cap: int, results: int) -> None:
        self.limits = Limits(
            max_scan_per_author=scan, max_original_per_author=cap, max_video_per_author=cap, max_results=results
        )
        self.clock = ManualClock(10_000)
        self.options = {**asdict(self.limits), "quirks": self.quirks, "clock": self.clock}
        self.store = PostStore(**self.options)
        self.model = self.model_class(self.limits)

    @rule(rows=st.lists(posts(), max_size=8))
    def insert(self, rows: list[tuple[int, ...]]) -> None:
        now = int(self.clock.time)
        batch = [Post(row[0], row[1], now - row[2], *row[3:]) for row in rows]
        self.store.insert(columns(batch))
        self.model.insert(batch, now)

    @rule(post_ids=st.lists(POST_IDS, min_size=1, max_size=4), delay=st.sampled_from([0, 0, 3, -5, -200, 9_000]))
    def delete(self, post_ids: list[int], delay: int) -> None:
        time = int(self.clock.time) - delay
        self.store.delete(post_ids, deleted_at=time)
        self.model.delete([(post_id, time) for post_id in post_ids])

    @rule(seconds=st.sampled_from([1, 5, 60, 300, 600, 601, -1, -50, -700]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(max(seconds, 100 - self.clock.time))

    @rule()
    def trim(self) -> None:
        assert self.store.trim() == self.model.trim(int(self.clock.time))

    @rule()
    def finalize(self) -> None:
        assert self.store.finalize() == self.model.finalize(int(self.clock.time))

    @rule(sure=st.sampled_from([True, False, False, False]))
    def clear(self, sure: bool) -> None:
        if sure:
            self.store.clear()
            self.model.clear()

    @rule(user=USERS, state=STATES)
    def account(self, user: int, state: str) -> None:
        self.store.set_account_state([user], state)
        self.model.set_state(user, state)

    @rule(position=st.binary(max_size=9))
    def restart(self, position: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot"
            self.store.save(path, position)
            self.store, found = PostStore.load(path, **self.options)
            assert found == position

    @rule(
        viewer=USERS,
        following=st.lists(st.one_of(USERS, st.just(99)), max_size=10),
        exclude=st.sets(POST_IDS, max_size=6),
        max_results=st.sampled_from([0, 1, 3, 50]),
        video=st.booleans(),
    )
    def get(self, viewer: int, following: list[int], exclude: set[int], max_results: int, video: bool) -> None:
        batch = self.store.in_network(
            viewer, following, exclude_ids=sorted(exclude), max_results=max_results, video_only=video
        )
        got = list(zip(*(batch[name].tolist() for name in Post.__dataclass_fields__), strict=True))
        assert got == self.model.get(viewer, following, exclude, max_results, video, int(self.clock.time))

    @invariant()
    def same_counts(self) -> None:
        assert self.store.stats() == self.model.stats()


class ReferenceMachine(StoreMachine):
    quirks = "reference"
    model_class = ReferenceModel


class FixedMachine(StoreMachine):
    quirks = "fixed"
    model_class = FixedModel


TestReferenceStore = ReferenceMachine.TestCase
TestReferenceStore.settings = settings(max_examples=60, stateful_step_count=40)
TestFixedStore = FixedMachine.TestCase
TestFixedStore.settings = settings(max_examples=60, stateful_step_count=40)

"""CorpusBuilder against an obvious model, and its rules one by one."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client import CollectorRegistry

from tests.phoenix.models import random_tower, tiny_config
from xfast.errors import ParameterError
from xfast.events import Account, AccountState, Delete, EventBatch, Follow, NetworkEvent, Post
from xfast.ids import snowflake
from xfast.phoenix import Candidates, Corpus, CorpusBuilder, Retriever
from xfast.thunder import ManualClock, MemorySource

CONFIG = tiny_config()
TOWERS = [random_tower(CONFIG, "retrieval", seed) for seed in (0, 1)]
START = 1_700_000_000.0
RETENTION = 100.0
STATES = [AccountState.ACTIVE, AccountState.SUSPENDED, AccountState.PROTECTED, AccountState.DEACTIVATED]


def live_retriever(**options: Any) -> Retriever:
    return Retriever(TOWERS[0], Corpus.empty(CONFIG.emb_size), **options)


def batch(*bodies: Any, at: float = START) -> EventBatch:
    return EventBatch.from_events([NetworkEvent(body, int(at * 1000)) for body in bodies])


def found(retriever: Retriever, **options: Any) -> set[int]:
    hits = retriever.search(np.ones(CONFIG.emb_size), 10_000, **options)
    return set(hits.post_ids.tolist())


class Machine(RuleBasedStateMachine):
    """The model: a dictionary of posts, a set of deleted ids, a state per author, and nothing clever."""

    @initialize(batch_size=st.sampled_from([1, 3, 1000]))
    def begin(self, batch_size: int) -> None:
        self.clock = ManualClock(START)
        self.retriever = live_retriever()
        self.builder = CorpusBuilder(
            self.retriever, retention_seconds=RETENTION, batch_size=batch_size, batch_seconds=0, expire_seconds=0,
            compact_share=0.3, clock=self.clock,
        )  # fmt: skip
        self.tower = TOWERS[0]
        self.posts: dict[int, tuple[int, float, tuple[int, ...]]] = {}
        self.deleted: dict[int, float] = {}
        self.states: dict[int, AccountState] = {}
        self.erased: dict[int, float] = {}

    def send(self, *bodies: Any) -> None:
        events = batch(*bodies, at=self.clock.now())
        for body in bodies:
            self.expected(body)
        self.builder.ingest(events)

    def expected(self, body: Any) -> None:
        now = self.clock.now()
        if isinstance(body, Post):
            created = body.created_at_ms / 1000 or now
            author = body.author_id
            refused = self.states.get(author) == AccountState.ERASED or now <= self.erased.get(author, -1)
            old = self.posts.get(body.post_id)
            if created < now - RETENTION or body.source_post_id or body.nullcast or refused:
                return
            if self.deleted.get(body.post_id, -1) >= now - RETENTION:
                return
            if old is None or (old[0], old[2]) != (author, body.topic_ids):
                self.posts.pop(body.post_id, None)
                self.posts[body.post_id] = (author, created, body.topic_ids)
        elif isinstance(body, Delete):
            self.deleted[body.post_id] = now
            self.posts.pop(body.post_id, None)
        else:
            self.states[body.user_id] = body.state
            if body.state == AccountState.ERASED:
                self.erased[body.user_id] = now
                self.posts = {post: entry for post, entry in self.posts.items() if entry[0] != body.user_id}

    posts_of = st.builds(
        Post,
        st.integers(1, 30),
        st.integers(1, 4),
        created_at_ms=st.sampled_from([0, 0, int((START - 50) * 1000)]),
        source_post_id=st.sampled_from([0, 0, 0, 5]),
        nullcast=st.sampled_from([False, False, False, True]),
        topic_ids=st.sampled_from([(), (1,), (2, 3), (3, 1, 2)]),
    )
    changes = st.one_of(
        posts_of,
        posts_of,
        st.builds(Delete, st.integers(1, 30)),
        st.builds(Account, st.integers(1, 4), st.sampled_from([*STATES, AccountState.ERASED])),
    )

    @rule(bodies=st.lists(changes, max_size=8))
    def events(self, bodies: list[Any]) -> None:
        # Posts of one run between account events count before its deletes.
        run: list[Any] = []
        ordered: list[Any] = []
        for body in [*bodies, None]:
            if body is None or isinstance(body, Account):
                ordered += [b for b in run if isinstance(b, Post)] + [b for b in run if isinstance(b, Delete)]
                ordered += [body] if body is not None else []
                run = []
            else:
                run.append(body)
        last = {b.post_id: i for i, b in enumerate(ordered) if isinstance(b, Post)}
        accounts = [i for i, b in enumerate(ordered) if isinstance(b, Account)]
        kept = [
            b for i, b in enumerate(ordered)
            if not isinstance(b, Post) or last[b.post_id] == i or any(i < a < last[b.post_id] for a in accounts)
        ]  # fmt: skip
        self.send(*kept)

    @rule(seconds=st.sampled_from([0.5, 20.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(which=st.integers(0, 1))
    def swap(self, which: int) -> None:
        self.tower = TOWERS[which]
        self.builder.swap(self.tower)

    @invariant()
    def the_search_finds_what_the_model_has(self) -> None:
        if not hasattr(self, "builder"):
            return
        self.builder.tick()
        self.builder.flush()
        horizon = self.clock.now() - RETENTION
        self.posts = {post: entry for post, entry in self.posts.items() if entry[1] >= horizon}
        shown = {
            post: entry
            for post, entry in self.posts.items()
            if self.states.get(entry[0], AccountState.ACTIVE) == AccountState.ACTIVE
        }
        query = np.linspace(-1, 1, CONFIG.emb_size, dtype=np.float32)
        hits = self.retriever.search(query, 1000)
        assert sorted(hits.post_ids.tolist()) == sorted(shown)
        assert [shown[post][0] for post in hits.post_ids.tolist()] == hits.author_ids.tolist()
        if shown:
            pairs = np.array([(post, entry[0]) for post, entry in sorted(shown.items())], np.uint64)
            vectors = Retriever(self.tower).encode_candidates(Candidates(pairs[:, 0], pairs[:, 1]))
            expected = dict(zip(pairs[:, 0].tolist(), (vectors @ query).tolist(), strict=True))
            np.testing.assert_allclose(hits.scores, [expected[post] for post in hits.post_ids.tolist()], atol=1e-5)
        for topic in (1, 2, 3):
            with_topic = {post for post, entry in shown.items() if topic in entry[2]}
            assert found(self.retriever, topic_ids=[topic]) == with_topic
        stats = self.builder.stats()
        assert (stats["size"], stats["hidden_posts"]) == (len(shown), len(self.posts) - len(shown))


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)


def test_posts_wait_for_their_batch_and_removals_do_not() -> None:
    clock = ManualClock(START)
    retriever = live_retriever()
    builder = CorpusBuilder(retriever, batch_size=3, batch_seconds=1.0, clock=clock)
    builder.ingest(batch(Post(1, 7), Post(2, 7)))
    assert found(retriever) == set()
    clock.advance(0.9)
    builder.tick()
    assert found(retriever) == set()
    clock.advance(0.1)
    builder.tick()
    assert found(retriever) == {1, 2}
    assert builder.stats()["found_p50"] == pytest.approx(1.0)
    builder.ingest(batch(Post(3, 8), Post(4, 8), Post(5, 9), at=clock.now()))
    assert found(retriever) == {1, 2, 3, 4, 5}
    builder.ingest(batch(Delete(1), Account(8, AccountState.SUSPENDED), Follow(1, 2), at=clock.now()))
    assert found(retriever) == {2, 5}
    assert builder.stats()["hidden_posts"] == 2
    builder.ingest(batch(Account(8, AccountState.ACTIVE), at=clock.now()))
    builder.flush()
    assert found(retriever) == {2, 3, 4, 5}


def test_a_delete_before_its_post_and_events_that_come_twice() -> None:
    retriever = live_retriever()
    builder = CorpusBuilder(retriever, clock=ManualClock(START))
    builder.ingest(batch(Delete(1)))
    events = batch(Post(1, 5), Post(2, 5), Post(3, 6), Delete(3), Account(6, AccountState.ERASED), Post(4, 6))
    for _ in range(2):
        builder.ingest(events)
        builder.flush()
        assert found(retriever) == {2}
    # A state that is older than what is known does not count, nor does a post from before its author was erased.
    builder.ingest(batch(Account(5, AccountState.SUSPENDED), at=START + 2))
    builder.ingest(batch(Account(5, AccountState.ACTIVE), at=START + 1))
    builder.ingest(batch(Account(6, AccountState.ACTIVE), at=START + 3))
    builder.ingest(batch(Post(9, 6), at=START))
    builder.ingest(batch(Post(10, 6), at=START + 4))
    builder.flush()
    assert found(retriever) == {10}


def test_the_builder_takes_over_what_the_retriever_holds() -> None:
    clock = ManualClock(START)
    old = np.array([snowflake(int((START - age) * 1000)) for age in (10, 99, 5)], np.uint64)
    ids = np.r_[old, [77]].astype(np.uint64)
    authors = np.array([1, 2, 3, 4], np.uint64)
    vectors = Retriever(TOWERS[0]).encode_candidates(Candidates(ids, authors))
    retriever = Retriever(TOWERS[0], Corpus(ids, authors, vectors, topic_ids=np.array([1, 2, 0, 1])))
    builder = CorpusBuilder(retriever, retention_seconds=100, expire_seconds=0, clock=clock)
    clock.advance(2)
    builder.tick()
    assert found(retriever) == {int(old[0]), int(old[2]), 77}
    assert found(retriever, topic_ids=[1]) == {int(old[0]), 77}
    builder.ingest(batch(Account(1, AccountState.SUSPENDED), Delete(int(old[2]))))
    assert found(retriever) == {77}
    builder.swap(TOWERS[1])
    np.testing.assert_allclose(
        retriever.contents().representations,
        Retriever(TOWERS[1]).encode_candidates(Candidates(ids[3:], authors[3:])),
        atol=1e-6,
    )


def test_following_a_source_within_two_seconds() -> None:
    retriever = live_retriever()
    builder = CorpusBuilder(retriever, batch_seconds=0.05)
    source = MemorySource()
    consumer = builder.follow(source)
    now = time.time()
    try:
        assert consumer.wait_ready(10)
        source.put([b"\xff\xff", *batch(*(Post(i, 1 + i % 3) for i in range(1, 101)), at=now).to_bytes()])
        _wait_for(lambda: retriever.size == 100)
        source.put(batch(Delete(1), Account(2, AccountState.SUSPENDED), at=time.time()).to_bytes())
        _wait_for(lambda: retriever.size == 66)
        with pytest.raises(ParameterError, match="follows a source already"):
            builder.follow(source)
    finally:
        builder.close()
    stats = builder.stats()
    assert stats["total_malformed"] == 1
    assert found(retriever) == {i for i in range(2, 101) if i % 3 != 1}
    registry = CollectorRegistry()
    registry.register(builder)  # type: ignore[arg-type]
    assert registry.get_sample_value("xfast_corpus", {"what": "size"}) == 66
    assert registry.get_sample_value("xfast_corpus_events_total", {"what": "added"}) == 100
    assert registry.get_sample_value("xfast_corpus_delay_seconds", {"what": "gone", "quantile": "max"}) is not None
    assert 0 <= stats["found_max"] < 2
    assert 0 <= stats["gone_max"] < 1


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_searching_while_the_corpus_and_its_model_change() -> None:
    """Whoever pins a retriever never searches one model's corpus with another's vector."""
    ids = np.arange(1, 401, dtype=np.uint64)
    vectors = [Retriever(tower).encode_candidates(Candidates(ids, ids)) for tower in TOWERS]
    retriever = live_retriever()
    builder = CorpusBuilder(retriever, batch_size=7, clock=ManualClock(START))
    stop = threading.Event()
    errors: list[str] = []

    def search() -> None:
        while not stop.is_set():
            pinned = retriever.pinned()
            vector = pinned.encode_candidates(Candidates(ids[:1], ids[:1]))[0]
            hits = pinned.search(vector, 50)
            rows = hits.post_ids.astype(int) - 1
            near = [np.allclose(hits.scores, v[rows] @ vector, atol=1e-5) for v in vectors]
            if not any(near) or not np.array_equal(hits.post_ids, hits.author_ids):
                errors.append(f"{hits.post_ids} {hits.scores}")

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(8):
            builder.ingest(batch(*(Post(i, i) for i in range(1, 401) if i % 8 != turn)))
            builder.swap(TOWERS[turn % 2])
            builder.ingest(batch(*(Account(i, AccountState.SUSPENDED) for i in range(turn, 400, 9) if i)))
            retriever.compact()
            builder.ingest(batch(*(Account(i, AccountState.ACTIVE) for i in range(turn, 400, 9) if i), at=START + turn))
        builder.flush()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert found(retriever) == set(range(1, 401))


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ParameterError, match="corpus is None"):
        CorpusBuilder(Retriever(TOWERS[0]))
    for name, value, message in (
        ("retention_seconds", 0, "retention_seconds is 0, must be positive"),
        ("batch_size", 0, "batch_size is 0, must be at least 1"),
        ("batch_seconds", -1, "batch_seconds is -1, must not be negative"),
        ("compact_share", 0, r"compact_share is 0, must be in \(0, 1\]"),
    ):
        with pytest.raises(ParameterError, match=message):
            CorpusBuilder(live_retriever(), **{name: value})  # type: ignore[arg-type]

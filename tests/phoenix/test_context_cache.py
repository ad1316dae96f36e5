"""The context cache: keys cover every input, hits equal misses and appends equal full encodes to the bit."""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.phoenix.models import random_candidates, random_engagements, random_tower, tiny_config
from xfast.errors import ParameterError, SnapshotError
from xfast.phoenix import ContextCache, Engagements, Ranker, dump_context, load_context
from xfast.phoenix.context_cache import ENTRY_OVERHEAD_BYTES
from xfast.phoenix.context_key import InputDigest

CONFIG = tiny_config(num_ip_hashes=1)
TOWER = random_tower(CONFIG)
# What it computes in, and what it keeps contexts in.
KINDS: dict[str, tuple[Any, Any]] = {
    "float32": ("float32", None), "bfloat16": ("bfloat16", None), "int8": ("int8", None),
    "float32, int8 keys": ("float32", "int8"), "int8, int8 keys": ("int8", "int8"),
    "float32, bfloat16 keys": ("float32", "bfloat16"),
}  # fmt: skip
RANKERS = {kind: Ranker(TOWER, engine="native", precision=p, kv_precision=kv) for kind, (p, kv) in KINDS.items()}
RANKER = RANKERS["float32"]
ANCHORED = {
    kind: Ranker(TOWER, precision=p, kv_precision=kv, config_overrides={"right_anchored_rope": True})
    for kind, (p, kv) in KINDS.items()
}


def _engagements(seed: int = 0, valid: Any = None, **given: Any) -> Engagements:
    rng = np.random.default_rng(seed)
    return random_engagements(
        CONFIG, rng, valid, ip_embeddings=rng.normal(size=(2, 8)), ip_hashes=rng.integers(0, 9, 2), **given
    )


def _first(engagements: Engagements, slots: int) -> Engagements:
    return engagements.cut(slots)


def _same_scores(ranker: Ranker, one: Any, other: Any) -> None:
    candidates = random_candidates(ranker.config, np.random.default_rng(1), 5)
    a, b = ranker.score(one, candidates), ranker.score(other, candidates)
    for x, y in zip(ranker.keys_values(one), ranker.keys_values(other), strict=True):
        assert x.tobytes() == y.tobytes()
    assert a.logits.tobytes() == b.logits.tobytes() and a.continuous.tobytes() == b.continuous.tobytes()


# --- keys ------------------------------------------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "user_id": lambda e: e.user_id ^ 1,
    "post_ids": lambda e: e.post_ids + np.uint64(1),
    "author_ids": lambda e: np.concatenate([e.author_ids[:-1], e.author_ids[-1:] ^ np.uint64(1)]),
    "actions": lambda e: e.actions + np.eye(6, 7, dtype=np.float32) * np.float32(1e-6),
    "product_surface": lambda e: e.product_surface + np.int32([0, 0, 0, 0, 0, 1]),
    "continuous": lambda e: e.continuous + np.eye(6, 8, dtype=np.float32),
    "ip_embeddings": lambda e: e.ip_embeddings * np.float32(1.0000002),
    "ip_hashes": lambda e: e.ip_hashes + 1,
}


def test_every_field_changes_the_key() -> None:
    assert set(CHANGES) == {f.name for f in dataclasses.fields(Engagements)}
    cache = ContextCache(RANKER)
    engagements = _engagements()
    key = cache.key(engagements)
    assert cache.key(_engagements()) == key
    assert cache.key(dataclasses.replace(engagements)) == key
    for name, change in CHANGES.items():
        changed = cache.key(dataclasses.replace(engagements, **{name: change(engagements)}))
        assert changed != key, name
        assert changed[:32] == key[:32]
    for name in ("product_surface", "continuous", "ip_embeddings", "ip_hashes"):
        assert cache.key(dataclasses.replace(engagements, **{name: None})) != key, name


def test_the_cut_decides_not_its_name() -> None:
    cache = ContextCache(RANKER)
    long = _engagements(valid=np.ones(9))
    assert cache.key(long, keep="oldest") != cache.key(long, keep="newest")
    assert cache.key(long) == cache.key(_first(long, 6), keep="newest")
    with pytest.raises(ParameterError, match="keep is 'best'"):
        cache.key(long, keep="best")  # type: ignore[arg-type]


def test_swapped_tokens_and_moved_bytes_change_the_key() -> None:
    cache = ContextCache(RANKER)
    e = _engagements()
    swapped = dataclasses.replace(e, post_ids=e.author_ids, author_ids=e.post_ids)
    assert cache.key(swapped) != cache.key(e)
    hole = dataclasses.replace(e, post_ids=np.where(np.arange(6) == 2, 0, e.post_ids))
    shifted = dataclasses.replace(hole, post_ids=np.roll(hole.post_ids, 1))
    assert len({cache.key(e), cache.key(hole), cache.key(shifted)}) == 3


def test_the_model_version_covers_model_precision_and_engine() -> None:
    def changed(**changes: Any) -> Ranker:
        return Ranker(dataclasses.replace(TOWER, **changes), engine="native")

    params = dict(TOWER.params)
    key = "phoenix_model/rms_norm/scale"
    tables = dataclasses.replace(TOWER.tables, author=TOWER.tables.author * np.float32(1.0001))
    rankers = [
        *RANKERS.values(),
        Ranker(TOWER, engine="xla"),
        Ranker(TOWER, engine="native", config_overrides={"right_anchored_rope": True}),
        changed(params=params | {key: params[key] * np.float32(1.0001)}),
        changed(tables=tables),
    ]
    assert len({ranker.model_version for ranker in rankers}) == len(rankers)
    assert Ranker(TOWER, engine="native").model_version == RANKER.model_version


# --- hits ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    valid=st.lists(st.booleans(), max_size=8),
    user=st.booleans(),
    keep=st.sampled_from(["oldest", "newest"]),
    precision=st.sampled_from(list(RANKERS)),
    seed=st.integers(0, 2**32 - 1),
)
def test_hit_equals_miss_to_the_bit(valid: list[bool], user: bool, keep: Any, precision: str, seed: int) -> None:
    ranker = RANKERS[precision]
    cache = ContextCache(ranker)
    given = {} if user else {"user_id": 0}
    engagements = _engagements(seed, np.array(valid, bool), **given)
    miss = cache.encode(engagements, keep=keep)
    hit = cache.encode(_engagements(seed, np.array(valid, bool), **given), keep=keep)
    assert hit is miss
    assert (cache.stats.hits, cache.stats.misses, cache.stats.entries) == (1, 1, 1)
    _same_scores(ranker, hit, ranker.encode(engagements, keep=keep))


def test_other_engines_are_cached_whole() -> None:
    ranker = Ranker(TOWER, engine="xla")
    cache = ContextCache(ranker)
    first = cache.encode(_engagements(valid=np.ones(3)))
    assert cache.encode(_engagements(valid=np.ones(3))) is first
    assert not ranker.can_append and cache.stats.bytes > first.nbytes
    with pytest.raises(NotImplementedError, match="it takes 'native'"):
        ContextCache(ranker, storage="int8")
    with pytest.raises(NotImplementedError, match="keeps contexts to itself"):
        dump_context(ranker, first)


# --- appends ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    valid=st.lists(st.booleans(), min_size=1, max_size=6),
    known=st.integers(0, 5),
    padded=st.booleans(),
    user=st.booleans(),
    precision=st.sampled_from(list(RANKERS)),
    right_anchored=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_append_equals_a_full_encode_to_the_bit(
    valid: list[bool], known: int, padded: bool, user: bool, precision: Any, right_anchored: bool, seed: int
) -> None:
    ranker = RANKERS[precision]
    if right_anchored:
        ranker = ANCHORED[precision]
    now = _engagements(seed, np.array(valid, bool), **({} if user else {"user_id": 0}))
    before = _first(now, known)
    if padded:
        missing = len(now) - len(before)
        fields = {
            f.name: np.concatenate([getattr(before, f.name), np.zeros_like(getattr(now, f.name)[:missing])])
            for f in dataclasses.fields(now)
            if f.name in ("post_ids", "author_ids", "actions", "product_surface", "continuous")
        }
        before = dataclasses.replace(before, **fields)
    old, full = ranker.encode(before), ranker.encode(now)
    new_tokens, old_tokens = int(np.count_nonzero(now.post_ids)), int(np.count_nonzero(before.post_ids))
    if not user and old_tokens == 0:
        appendable = old.inputs == full.inputs  # nobody there: only the very same slots are the same
    else:
        appendable = new_tokens == old_tokens or not right_anchored or old_tokens == 0
    if not appendable:
        with pytest.raises(ParameterError, match="do not begin with"):
            ranker.append(old, now)
    else:
        grown = ranker.append(old, now)
        assert (grown.num_valid, grown.history_tokens, grown.inputs) == (
            full.num_valid, full.history_tokens, full.inputs,
        )  # fmt: skip
        _same_scores(ranker, grown, full)
    cache = ContextCache(ranker)
    cache.encode(before)
    _same_scores(ranker, cache.encode(now), full)
    assert cache.stats.appends == int(appendable and new_tokens > old_tokens)
    assert cache.stats.entries == (1 if appendable else 2)


def test_a_full_window_is_cut_or_encoded_again() -> None:
    cache = ContextCache(RANKER)
    long = _engagements(valid=np.ones(8))
    for keep in ("oldest", "newest"):
        cache.clear()
        before = cache.stats
        cache.encode(_first(long, 6), keep=keep)  # type: ignore[arg-type]
        context = cache.encode(_first(long, 7), keep=keep)  # type: ignore[arg-type]
        _same_scores(RANKER, context, RANKER.encode(_first(long, 7), keep=keep))  # type: ignore[arg-type]
        stats = cache.stats
        assert stats.appends == 0
        assert stats.hits - before.hits == (1 if keep == "oldest" else 0)


def test_append_is_refused_where_it_is_not_exact() -> None:
    e = _engagements()
    other = _engagements(seed=1)
    old = RANKER.encode(_first(e, 3))
    for wrong in (other, _first(e, 2), dataclasses.replace(e, ip_embeddings=None)):
        with pytest.raises(ParameterError, match="do not begin with"):
            RANKER.append(old, wrong)
    with pytest.raises(ParameterError, match="another ranker"):
        RANKERS["int8"].append(old, e)
    bidirectional = Ranker(TOWER, engine="native", config_overrides={"context_attention": "bidirectional"})
    assert not bidirectional.can_append
    with pytest.raises(NotImplementedError, match="causal"):
        bidirectional.append(bidirectional.encode(_first(e, 3)), e)
    cache = ContextCache(bidirectional)
    cache.encode(_first(e, 3))
    _same_scores(bidirectional, cache.encode(e), bidirectional.encode(e))
    assert cache.stats.appends == 0
    lossy = load_context(RANKER, dump_context(RANKER, old, storage="int8"))
    with pytest.raises(ParameterError, match="lossy store"):
        RANKER.append(lossy, e)


# --- bounds, threads, processes --------------------------------------------------------------------------------------


def test_least_recently_used_leaves_first_and_bytes_stay_bound() -> None:
    viewers = [_engagements(seed) for seed in range(4)]
    size = RANKER.encode(viewers[0]).nbytes + ENTRY_OVERHEAD_BYTES
    cache = ContextCache(RANKER, max_bytes=3 * size)
    for viewer in viewers[:3]:
        cache.encode(viewer)
    assert cache.stats.bytes == 3 * size
    cache.encode(viewers[0])
    cache.encode(viewers[3])
    assert (cache.stats.evictions, len(cache), cache.stats.bytes) == (1, 3, 3 * size)
    cache.encode(viewers[0])
    assert cache.stats.hits == 2
    cache.encode(viewers[1])
    assert cache.stats.misses == 5
    assert cache.forget(viewers[0].user_id) == 1 and cache.forget(viewers[0].user_id) == 0
    cache.clear()
    assert (cache.stats.entries, cache.stats.bytes) == (0, 0)
    tiny = ContextCache(RANKER, max_bytes=size - 1)
    tiny.encode(viewers[0])
    assert (tiny.stats.rejections, tiny.stats.bytes) == (1, 0)
    for wrong in ({"max_bytes": -1}, {"max_append": -1}, {"storage": "int4"}):
        with pytest.raises(ParameterError, match=f"{next(iter(wrong))} is"):
            ContextCache(RANKER, **wrong)  # type: ignore[arg-type]


class _SlowRanker(Ranker):
    """Counts its encodes, and holds them until told; fails first where asked to."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__(TOWER, engine="native")
        self.calls, self.failures = 0, failures
        self.started, self.go = threading.Event(), threading.Event()

    def encode_digested(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        self.started.set()
        assert self.go.wait(10)
        if self.calls <= self.failures:
            raise KeyboardInterrupt
        return super().encode_digested(*args, **kwargs)


@pytest.mark.parametrize("failures", [0, 1])
def test_threads_share_one_computation_and_survive_its_failure(failures: int) -> None:
    ranker = _SlowRanker(failures)
    cache = ContextCache(ranker)
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(cache.encode(_engagements()))
        except KeyboardInterrupt:
            results.append(None)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    threads[0].start()
    assert ranker.started.wait(10)
    for thread in threads[1:]:
        thread.start()
    ranker.go.set()
    for thread in threads:
        thread.join(10)
    assert ranker.calls == 1 + failures
    good = [result for result in results if result is not None]
    assert len(good) == 5 - failures and all(result is good[0] for result in good)
    assert cache.stats.misses == 1 + failures and cache.stats.hits == 4 - failures


def test_what_is_forgotten_while_it_is_computed_is_not_kept() -> None:
    ranker = _SlowRanker()
    cache = ContextCache(ranker)
    engagements = _engagements()
    thread = threading.Thread(target=cache.encode, args=(engagements,))
    thread.start()
    assert ranker.started.wait(10)
    cache.forget(engagements.user_id)
    ranker.go.set()
    thread.join(10)
    assert len(cache) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_works_in_a_child_of_a_process_whose_threads_were_busy() -> None:
    ranker = _SlowRanker()
    cache = ContextCache(ranker)
    thread = threading.Thread(target=cache.encode, args=(_engagements(),))
    thread.start()
    assert ranker.started.wait(10)
    with cache._lock:  # the worst moment: a lock that no thread of the child will ever release
        child = os.fork()
        if child == 0:
            ranker.go.set()
            good = cache.encode(_engagements()) is cache.encode(_engagements())
            os._exit(0 if good and cache.stats.entries == 1 else 1)
    ranker.go.set()
    thread.join(10)
    assert os.waitpid(child, 0)[1] == 0


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", list(RANKERS))
def test_stored_contexts_come_back(precision: str) -> None:
    ranker = RANKERS[precision]
    for valid in (np.ones(6), np.ones(0)):
        context = ranker.encode(_engagements(valid=valid))
        back = load_context(ranker, dump_context(ranker, context))
        assert (back.exact, back.inputs, back.num_valid, back.history_tokens) == (
            True, context.inputs, context.num_valid, context.history_tokens,
        )  # fmt: skip
        _same_scores(ranker, back, context)
    context = ranker.encode(_engagements())
    keys_values = ranker.keys_values(context)
    # Stated errors; an engine that keeps bfloat16 rounds once more.
    rounding = 2.0**-8 if ranker.kv_precision == "bfloat16" else 2.0**-23
    for storage in ("bfloat16", "int8"):
        back = load_context(ranker, dump_context(ranker, context, storage=storage))
        assert back.exact == (storage == ranker.kv_precision)
        for exact, stored in zip(keys_values, ranker.keys_values(back), strict=True):
            largest = np.abs(exact).max(axis=-1, keepdims=True)
            bound = largest / 253 + rounding * largest if storage == "int8" else np.abs(exact) * 2.0**-8
            if storage == ranker.kv_precision:
                assert np.array_equal(exact, stored)
            elif ranker.kv_precision == "int8":
                continue  # rounded twice: what comes back is the engine's own eight bits of it
            assert (np.abs(exact - stored) <= bound * (1 + 1e-5)).all()
    if ranker.kv_precision == "float32":  # heads of 4 numbers and a scale: 8 bytes, as much as bfloat16 takes
        assert len(dump_context(ranker, context, storage="int8")) < len(dump_context(ranker, context))


def test_damaged_and_foreign_bytes_are_refused() -> None:
    data = dump_context(RANKER, RANKER.encode(_engagements()))
    for cut in (0, 10, 100, len(data) - 1):
        with pytest.raises(SnapshotError):
            load_context(RANKER, data[:cut])
    for at in range(0, len(data), 7):
        with pytest.raises(SnapshotError):
            load_context(RANKER, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(SnapshotError, match=r"redis: .*model version"):
        load_context(RANKERS["int8"], data, name="redis")
    with pytest.raises(SnapshotError, match="checksum"):
        load_context(RANKER, data + b"\0")
    with pytest.raises(ParameterError, match="storage is 'zip'"):
        dump_context(RANKER, RANKER.encode(_engagements()), storage="zip")  # type: ignore[arg-type]


@pytest.mark.parametrize("storage", ["bfloat16", "int8"])
def test_dense_storage_answers_hit_and_miss_alike(storage: Any) -> None:
    cache = ContextCache(RANKER, storage=storage)
    exact = ContextCache(RANKER)
    engagements = _engagements()
    miss, hit = cache.encode(engagements), cache.encode(engagements)
    _same_scores(RANKER, miss, hit)
    exact.encode(engagements)
    assert cache.stats.bytes < exact.stats.bytes
    cache.encode(dataclasses.replace(engagements, user_id=5))
    assert cache.stats.appends == 0


def test_prefixes_are_digests_of_shorter_histories() -> None:
    digest = InputDigest(CONFIG, _engagements(), "oldest")
    shorter = [InputDigest(CONFIG, _first(_engagements(), n), "oldest").whole for n in range(6, -1, -1)]
    assert digest.prefixes(99) == shorter and digest.prefixes(2) == shorter[:3] and digest.whole == shorter[0]

"""What a row may see, and that windows show it no more: against the rule written out, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest

from xfast.phoenix.training import Sequences
from xfast.phoenix.training.windows import Windows
from xfast.world import Interactions


def random_sequences(seed: int, rows: int = 120) -> tuple[Sequences, Interactions]:
    """Six users, requests of up to four posts (0: a request of its own), half of them acted on."""
    rng = np.random.default_rng(seed)
    zeros = np.zeros(rows, np.int32)
    user = rng.integers(1, 7, rows).astype(np.uint64)
    table = Interactions(
        user_id=user,
        post_id=rng.integers(1, 40, rows).astype(np.uint64),
        author_id=np.ones(rows, np.uint64),
        request_id=np.where(rng.random(rows) < 0.2, 0, rng.integers(1, 8, rows)).astype(np.uint64),
        time_ms=np.sort(rng.integers(0, 60, rows)).astype(np.int64) * 1000 + 1_700_000_000_000,
        actions=np.where(rng.random(rows) < 0.5, 2, 0).astype(np.uint64),
        dwell_ms=zeros, click_dwell_ms=zeros, surface=zeros, shown=np.ones(rows, bool),
    )  # fmt: skip
    return Sequences.from_interactions(table), table


@pytest.mark.parametrize("seed", range(4))
def test_a_row_sees_what_its_user_did_before_its_request(seed: int) -> None:
    sequences, _ = random_sequences(seed)
    table = random_sequences(seed)[1]
    request = table.request_id[sequences.order]
    for row in range(len(sequences)):
        own = np.arange(sequences.offsets[sequences.user[row]], len(sequences))
        own = own[sequences.user[own] == sequences.user[row]]
        together = own[request[own] == request[row]] if request[row] else np.array([row])
        before = own[own < together.min()]
        assert sequences.seen[row] == (sequences.actions[before] != 0).sum()


@pytest.mark.parametrize(("slots", "stride", "per_window"), [(4, 4, 5), (4, 2, 3), (7, 1, 2), (64, 64, 65)])
@pytest.mark.parametrize("every_prefix", [True, False])
def test_windows_predict_every_example_once_from_its_own_past(
    slots: int, stride: int, per_window: int, every_prefix: bool
) -> None:
    sequences, _ = random_sequences(11)
    rng = np.random.default_rng(0)
    chosen = rng.random(len(sequences)) < 0.7
    windows = Windows(
        sequences, chosen, history_len=slots, examples=per_window, stride=stride, every_prefix=every_prefix
    )
    predicted = []
    for batch in windows.epoch(rng, 3):
        assert batch.history.shape == (3, slots) and batch.examples.shape == (3, per_window)
        for user, history, examples, anchors in zip(batch.user, batch.history, batch.examples, batch.anchors):
            for row, anchor in zip(examples, anchors):
                if row < 0:
                    continue
                predicted.append(row)
                assert sequences.user[row] == user
                own = np.arange(sequences.offsets[user], sequences.offsets[user + 1])
                past = own[sequences.actions[own] != 0][: sequences.seen[row]]
                visible = history[:anchor]
                # The newest of its past, nothing after; at least `slots - stride + 1` of them, or all.
                assert visible.tolist() == past[len(past) - anchor :].tolist()
                assert anchor >= min(len(past), slots - stride + 1)
                if not every_prefix:
                    assert anchor == min(len(past), slots)
    assert sorted(predicted) == np.flatnonzero(chosen).tolist()


def test_shuffled_ties_move_only_within_user_and_second() -> None:
    rng = np.random.default_rng(5)
    rows = 60
    zeros = np.zeros(rows, np.int32)
    sequences = Sequences.from_interactions(
        Interactions(
            user_id=rng.integers(1, 4, rows).astype(np.uint64), post_id=np.arange(1, rows + 1, dtype=np.uint64),
            author_id=np.ones(rows, np.uint64), request_id=np.zeros(rows, np.uint64),
            time_ms=np.sort(rng.integers(0, 9, rows)).astype(np.int64) * 1000 + 1_700_000_000_000,
            actions=np.full(rows, 2, np.uint64), dwell_ms=zeros, click_dwell_ms=zeros, surface=zeros,
            shown=np.ones(rows, bool),
        )
    )  # fmt: skip
    windows = Windows(
        sequences, np.ones(rows, bool), history_len=64, examples=65, stride=64, shuffle_ties=True
    )  # fmt: skip
    orders = []
    for epoch in range(2):
        batch = next(windows.epoch(np.random.default_rng(epoch), 3))
        for user, history, examples, anchors in zip(batch.user, batch.history, batch.examples, batch.anchors):
            kept = examples[examples >= 0]
            own = np.arange(*sequences.offsets[user : user + 2])
            assert sorted(kept) == own.tolist()
            assert np.array_equal(sequences.time_s[kept], sequences.time_s[own])
            assert anchors[: len(kept)].tolist() == list(range(len(kept)))
            assert kept[:-1].tolist() == history[: len(kept) - 1].tolist()
        orders.append({int(u): e[e >= 0].tolist() for u, e in zip(batch.user, batch.examples)})
    assert orders[0] != orders[1]

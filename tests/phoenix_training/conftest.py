"""A small network that the tests of training share: 40 users, 60 posts, two tastes, requests of several posts."""

from __future__ import annotations

import numpy as np
import pytest

from xfast.events import EventBatch
from xfast.ids import snowflake
from xfast.phoenix.training import Sequences, TrainConfig, default_model_config

SMALL = {
    "emb_size": 16, "key_size": 8, "num_heads": 2, "num_layers": 1, "history_seq_len": 8, "candidate_seq_len": 4,
    "user_vocab_size": 400, "item_vocab_size": 500, "author_vocab_size": 60,
}  # fmt: skip


@pytest.fixture(scope="session")
def events() -> EventBatch:
    """Users like posts of their parity; every request shows three posts; favorites come with dwell."""
    rng = np.random.default_rng(3)
    start = 1_700_000_000_000
    posts = snowflake(start + np.arange(60) * 1000)
    authors = np.arange(60) % 10 + 500
    shown, done = [], []
    for request in range(500):
        user = int(rng.integers(1, 41))
        time = start + 100_000 + request * 1000
        for position, post in enumerate(rng.choice(60, 3, replace=False)):
            shown.append((time, user, posts[post], authors[post], request + 1, position))
            likes = post % 2 == user % 2
            if rng.random() < (0.8 if likes else 0.1):
                done.append((time + 5, user, posts[post], authors[post], 1, request + 1, 0))
                done.append(
                    (time + 9, user, posts[post], authors[post], 11, request + 1, int(rng.integers(1, 60)) * 500)
                )
            elif rng.random() < 0.1:
                done.append((time + 5, user, posts[post], authors[post], 17, request + 1, 0))
    s, d = (np.array(rows, dtype=object) for rows in (shown, done))
    number = lambda column, dtype: np.array(column.tolist(), dtype)  # noqa: E731
    return EventBatch.concat(
        [
            EventBatch.of("post", start + np.arange(60) * 1000, post_id=posts, author_id=authors.astype(np.uint64)),
            EventBatch.of(
                "impression", number(s[:, 0], np.int64), user_id=number(s[:, 1], np.uint64),
                post_id=number(s[:, 2], np.uint64), author_id=number(s[:, 3], np.uint64),
                request_id=number(s[:, 4], np.uint64), position=number(s[:, 5], np.int32),
            ),
            EventBatch.of(
                "engagement", number(d[:, 0], np.int64), user_id=number(d[:, 1], np.uint64),
                post_id=number(d[:, 2], np.uint64), author_id=number(d[:, 3], np.uint64),
                action=number(d[:, 4], np.int32), request_id=number(d[:, 5], np.uint64),
                dwell_ms=number(d[:, 6], np.int32),
            ),
        ]
    ).sorted()  # fmt: skip


@pytest.fixture(scope="session")
def sequences(events: EventBatch) -> Sequences:
    return Sequences.from_events(events)


@pytest.fixture(scope="session")
def small() -> dict[str, int]:
    return dict(SMALL)


@pytest.fixture(scope="session")
def run() -> TrainConfig:
    return TrainConfig(epochs=2, batch_size=16, warmup_steps=4, checkpoint_every=1000, shared_negatives=32)


@pytest.fixture(scope="session")
def ranker_config():
    return default_model_config("ranker", **SMALL)


@pytest.fixture(scope="session")
def retrieval_config():
    return default_model_config("retrieval", **SMALL)

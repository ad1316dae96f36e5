"""The demo's network and models, and the same on MovieLens: what ``xfast demo`` and ``Feed.demo`` build.

The shipped models were trained on the synthetic network of seed 0 and nothing else, by ``scripts/train_demo.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xfast.errors import ParameterError
from xfast.feed.feed import Feed
from xfast.mixer.params import Params
from xfast.phoenix.artifacts import Tower, load_artifacts
from xfast.world import SyntheticConfig, generate

if TYPE_CHECKING:
    from xfast.events import EventBatch
    from xfast.phoenix.training.loop import Progress

__all__ = ["MODELS", "demo_feed", "demo_network", "movielens_feed", "train_models"]

MODELS = Path(__file__).with_name("models")
_SIZES = {
    "emb_size": 32, "key_size": 16, "num_heads": 2, "num_layers": 2, "history_seq_len": 32, "candidate_seq_len": 32,
    "num_user_hashes": 2, "num_item_hashes": 2, "num_author_hashes": 2,
}  # fmt: skip
_TEN_YEARS_S = 315_360_000

Say = Callable[[str], None]


def demo_network(seed: int) -> EventBatch:
    """Everything that happens in the demo's synthetic network."""
    return generate(SyntheticConfig(), seed).events()


def train_models(events: EventBatch, *, epochs: int, seed: int = 0, say: Say | None = None) -> tuple[Tower, Tower]:
    """Train a small ranker and a small retrieval tower on events; tables sized for their ids."""
    from xfast.phoenix.training import Sequences, TrainConfig, default_model_config, train_ranker, train_retrieval

    sequences = Sequences.from_events(events)

    def rows(count: int) -> int:
        return max(64, int(count * 1.5))

    sizes = _SIZES | {
        "user_vocab_size": rows(len(sequences.users)),
        "item_vocab_size": rows(len(sequences.posts)),
        "author_vocab_size": rows(len(sequences.authors)),
    }
    config = TrainConfig(epochs=epochs, batch_size=32)
    ranker = train_ranker(
        sequences, config, default_model_config("ranker", **sizes), seed=seed, on_step=_reporter("ranker", say)
    )
    retrieval = train_retrieval(
        sequences, config, default_model_config("retrieval", **sizes), seed=seed, on_step=_reporter("retrieval", say)
    )
    return ranker.tower, retrieval.tower


def _reporter(name: str, say: Say | None) -> Callable[[Progress], None] | None:
    if say is None:
        return None
    tell = say

    def report(progress: Progress) -> None:
        every = max(1, progress.total_steps // 10)
        if progress.step % every == 0 or progress.step == progress.total_steps:
            tell(
                f"training the {name}: step {progress.step} of {progress.total_steps}, loss {progress.loss:.4f}, "
                f"{progress.examples_per_second:,.0f} examples/s"
            )

    return report


def demo_feed(seed: int, *, train: bool, on_progress: Say | None) -> Feed:
    """See :meth:`xfast.feed.Feed.demo`."""
    say = on_progress or (lambda line: None)
    if seed < 0:
        raise ParameterError(f"seed is {seed}, must be 0 or more")
    say("drawing the synthetic network")
    events = demo_network(seed)
    if train or seed != 0:
        ranker, retrieval = train_models(events, epochs=4, seed=seed, say=on_progress)
    else:
        say("loading the shipped models")
        shipped = load_artifacts(MODELS)
        ranker, retrieval = shipped.ranker, shipped.retrieval
    say("filling the post store and the corpus")
    return Feed(events, ranker, retrieval)


def movielens_feed(folder: str | Path, *, on_progress: Say | None) -> Feed:
    """See :meth:`xfast.feed.Feed.movielens`."""
    from xfast.world import import_movielens

    say = on_progress or (lambda line: None)
    say(f"reading {folder}")
    data = import_movielens(folder)
    say(str(data.report))
    ranker, retrieval = train_models(data.events, epochs=6, say=on_progress)
    # Films do not age: every one may be shown.
    return Feed(data.events, ranker, retrieval, params=Params(max_post_age=_TEN_YEARS_S))


def typical_viewer(feed: Feed) -> int:
    """A viewer worth showing: follows people, and has acted on many posts; the smallest id among equals."""
    network = feed.network
    acted = network.interactions.user_id[network.interactions.actions != 0]
    users, counts = np.unique(acted, return_counts=True)
    follows = np.searchsorted(network.follows.source, users, "right") - np.searchsorted(network.follows.source, users)
    good = np.minimum(counts, np.median(counts) * 1.5) + np.minimum(follows, 30)
    return int(users[int(np.argmax(good))])

"""The demo's network and models, and the same on MovieLens: what ``xfast demo`` and ``Feed.demo`` build.

The shipped models were trained on the synthetic network of seed 0 and nothing else, by ``scripts/train_demo.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xfast.errors import ParameterError
from xfast.events import AccountState, EventBatch, LabelCategory, NetworkEvent, Post, Profile
from xfast.feed.feed import Feed
from xfast.ids import snowflake
from xfast.mixer.embedded import Campaign
from xfast.phoenix.artifacts import Tower, load_artifacts, save_artifacts
from xfast.stores import HistoryOptions
from xfast.world import SyntheticConfig, generate

if TYPE_CHECKING:
    from xfast.phoenix.training.loop import Progress

__all__ = ["MODELS", "advertisers", "demo_feed", "demo_network", "movielens_feed", "train_models", "typical_viewer"]

MODELS = Path(__file__).with_name("models")
_SIZES = {
    "emb_size": 32, "key_size": 16, "num_heads": 2, "num_layers": 2, "history_seq_len": 32, "candidate_seq_len": 32,
    "num_user_hashes": 2, "num_item_hashes": 2, "num_author_hashes": 2,
}  # fmt: skip
_TEN_YEARS_S = 315_360_000
#: Posts stay in order of score between ads (the default blender rearranges them), so that a reader can follow; what is
#: popular is a few posts, not the 800 that would be a third of a network this small.
_PARAMS = {"AdsBlenderType": "safe_gap", "TweetMixerMaxResults": 60}
#: Name, text, and what stands next to it: an ad of risk BsrLow avoids posts of limited suitability.
_ADVERTS = (
    ("harbour_coffee", "Single-origin beans, roasted this morning. Your first bag is on us.", "BsrNormal"),
    ("northline_rail", "Window seats to the coast from 19. The view is included.", "BsrLow"),
    ("paper_and_pine", "Notebooks made of pine offcuts. They open flat and stay open.", "BsrNormal"),
    ("lumen_bikes", "A city bike that weighs what your bag does. Try one for a week.", "BsrLow"),
)
_DAY_MS = 86_400_000

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
    tell = say or (lambda line: None)
    tell(f"training the ranker on {len(sequences):,} rows of {len(sequences.users):,} users: compiling the step first")
    ranker = train_ranker(
        sequences, config, default_model_config("ranker", **sizes), seed=seed, on_step=_reporter("ranker", say)
    )
    tell("training the retrieval: compiling the step first")
    retrieval = train_retrieval(
        sequences, config, default_model_config("retrieval", **sizes), seed=seed, on_step=_reporter("retrieval", say)
    )
    return ranker.tower, retrieval.tower


def _reporter(name: str, say: Say | None) -> Callable[[Progress], None] | None:
    if say is None:
        return None

    def report(progress: Progress) -> None:
        every = max(1, progress.total_steps // 10)
        if progress.step % every == 0 or progress.step == progress.total_steps:
            say(
                f"training the {name}: step {progress.step} of {progress.total_steps}, loss {progress.loss:.4f}, "
                f"{progress.examples_per_second:,.0f} examples/s"
            )

    return report


def advertisers(now_ms: int) -> tuple[EventBatch, list[Campaign]]:
    """Profiles and promoted-only posts of a few advertisers, and the campaigns that book them."""
    events, campaigns = [], []
    for number, (name, text, risk) in enumerate(_ADVERTS):
        made = now_ms - 3 * _DAY_MS + number
        user, post = snowflake(made, 2_000 + number), snowflake(made, 3_000 + number)
        events += [
            NetworkEvent(Profile(user, name, display_name=name.replace("_", " ").title()), made),
            NetworkEvent(Post(post, user, text=text, language="en", nullcast=True), made),
        ]
        campaigns.append(
            Campaign(post_id=post, author_id=user, account_id=number + 1, bid=4.0 - number, risk=risk, text=text)
        )
    return EventBatch.from_events(events), campaigns


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
    return _filled(events, ranker, retrieval, _PARAMS, say)


def movielens_feed(folder: str | Path, *, models: str | Path | None, on_progress: Say | None) -> Feed:
    """See :meth:`xfast.feed.Feed.movielens`."""
    from xfast.world import import_movielens

    say = on_progress or (lambda line: None)
    say(f"reading {folder}")
    data = import_movielens(folder)
    say(str(data.report))
    ranker, retrieval = _movielens_models(data.events, None if models is None else Path(models), say)
    events = EventBatch.concat([data.events, _suitable(data.events), _watched(data.events)])
    # Films do not age: every one may be shown.
    return _filled(events, ranker, retrieval, {**_PARAMS, "MAX_POST_AGE": _TEN_YEARS_S}, say)


def _movielens_models(events: EventBatch, kept: Path | None, say: Say) -> tuple[Tower, Tower]:
    if kept is not None and kept.exists():
        say(f"loading the models in {kept}")
        found = load_artifacts(kept)
        return found.ranker, found.retrieval
    ranker, retrieval = train_models(events, epochs=6, say=say)
    if kept is not None:
        save_artifacts(kept, ranker=ranker, retrieval=retrieval)
        say(f"saved the models in {kept}")
    return ranker, retrieval


def _watched(events: EventBatch) -> EventBatch:
    """Whoever rated a film has seen it: an impression, so that no page shows it again."""
    rated = events.columns("engagement")
    pairs = np.stack([rated["user_id"], rated["post_id"]], 1)
    first = np.unique(pairs, axis=0, return_index=True)[1]
    return EventBatch.of(
        "impression",
        events.time_ms[rated.rows[first]],
        user_id=rated["user_id"][first],
        post_id=rated["post_id"][first],
        author_id=rated["author_id"][first],
    )


def _suitable(events: EventBatch) -> EventBatch:
    """Brand-safety labels: a film of the catalogue may stand next to an ad."""
    posts = events.columns("post")
    labels = [
        EventBatch.of(
            "label",
            events.time_ms[posts.rows],
            post_id=posts["post_id"],
            label=[name] * len(posts.rows),
            category=LabelCategory.BRAND,
            source=["demo"] * len(posts.rows),
        )
        for name in ("GROK_SFA", "PTOS_REVIEWED")
    ]
    return EventBatch.concat(labels)


def _filled(events: EventBatch, ranker: Tower, retrieval: Tower, params: dict[str, object], say: Say) -> Feed:
    say(f"feeding {len(events):,} events to stores, Thunder, discovery and the corpus")
    adverts, campaigns = advertisers(int(events.time_ms.max()))
    return Feed.in_memory(ranker, retrieval, EventBatch.concat([events, adverts]), params=params, campaigns=campaigns)


def typical_viewer(feed: Feed) -> int:
    """A viewer worth showing: reads English, follows some thirty accounts and has acted on many posts."""
    store, users = feed.network.store, feed.users
    profiles = store.users(users)
    english = [len(languages) > 0 and languages[0] == "en" for languages in profiles.languages]
    shown = [each and state == AccountState.ACTIVE for each, state in zip(english, profiles.state, strict=True)]
    follows = [abs(int(count) - 30) for count in profiles.following]
    best = sorted((row for row, each in enumerate(shown) if each), key=lambda row: (follows[row], row))[:40]
    best = best or list(range(min(40, len(users))))
    histories = store.histories(users[best], HistoryOptions(max_length=256), now_ms=feed.now_ms)
    lengths = [len(history.post_ids) for history in histories]
    return int(users[best[lengths.index(max(lengths))]])

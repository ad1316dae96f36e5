"""A seeded synthetic network: people, posts and engagements drawn from a hidden utility that stays available as truth.

>>> from xfast.world import SyntheticConfig, generate
>>> world = generate(SyntheticConfig(users=100, posts=500, impressions=2_000), seed=7)
>>> events = world.events()                                   # EventBatch, in time order, numbered
>>> rows = world.interactions()                               # one row per impression, with its actions
>>> user, post = world.truth.rows(rows.user_id[:3], rows.post_id[:3])
>>> world.truth.probabilities(user, post, rows.time_ms[:3]).shape
(3, 20)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events import AccountState, EventBatch, LabelCategory, Ragged, write_parquet
from xfast.world.config import SyntheticConfig
from xfast.world.interactions import Interactions, interactions
from xfast.world.people import Graph, Users, make_graph, make_users
from xfast.world.truth import HEADS, Truth, draw_truth
from xfast.world.viewing import PROTO_NUMBERS, Views, serve
from xfast.world.vocabulary import language, topics
from xfast.world.writing import Form, Posts, write_posts

_GENERATOR = "xfast.world.synthetic"


@dataclass(frozen=True, slots=True, eq=False)
class Mutes:
    """What users settle before the first page: a keyword to mute (and its topic), topics to follow, people to block."""

    keyword_user: npt.NDArray[np.int64]
    keyword_topic: npt.NDArray[np.int64]
    keyword: list[str]
    topics: npt.NDArray[np.bool_]
    followed_user: npt.NDArray[np.int64]
    followed_topic: npt.NDArray[np.int64]
    block_source: npt.NDArray[np.int64]
    block_target: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A synthetic network: tables of columns whose rows refer to each other by number, and the truth behind them."""

    config: SyntheticConfig
    seed: int
    users: Users
    follows: Graph
    posts: Posts
    views: Views
    mutes: Mutes
    truth: Truth

    def events(self) -> EventBatch:
        """Return everything that happens as events, in time order and numbered."""
        return (
            EventBatch.concat(
                [
                    *_people_events(self),
                    *_graph_events(self),
                    *_post_events(self),
                    *_view_events(self),
                ]
            )
            .sorted()
            .numbered()
        )

    def interactions(self) -> Interactions:
        """Return one row per impression (and per reply, repost or quote that was written), with its actions."""
        return interactions(self.events())

    def save(self, folder: str | Path) -> None:
        """Write ``events.parquet``, ``config.json`` and ``truth.npz`` (all columns of the tables) into ``folder``."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        write_parquet(self.events(), target / "events.parquet")
        document = {"generator": _GENERATOR, "seed": self.seed, "config": self.config.to_json()}
        (target / "config.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        arrays: dict[str, Any] = self._arrays()
        np.savez(target / "truth.npz", **arrays)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {
            "truth_habits": self.truth.habits,
            "truth_media_taste": self.truth.media_taste,
        }
        for name in ("users", "posts", "views"):
            table = getattr(self, name)
            for field in fields(table):
                column = getattr(table, field.name)
                if isinstance(column, np.ndarray) and column.dtype.kind != "O":
                    arrays[f"{name}_{field.name}"] = column
        arrays["follows_source"], arrays["follows_target"] = self.follows.source, self.follows.target
        return arrays


def generate(config: SyntheticConfig | None = None, seed: int = 0) -> World:
    """Draw a world; the same configuration and seed give the same one, to the byte, on the same machine.

    Parameters
    ----------
    config
        Its size and shape; the demo's if left out.
    seed
        At least 0.

    Raises
    ------
    ParameterError
        The seed is negative.
    """
    config = SyntheticConfig() if config is None else config
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed is {seed!r}, must be an integer of at least 0")
    # One stream per part: a change in how posts are drawn leaves the people as they are.
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(6)]
    users = make_users(config, streams[0])
    follows = make_graph(config, users, streams[1])
    posts = write_posts(config, users, streams[2])
    truth = draw_truth(users, posts, follows, streams[3])
    mutes = _mutes(config, users, follows, streams[4])
    views = serve(config, truth, mutes.topics, streams[5])
    return World(config, seed, users, follows, posts, views, mutes, truth)


def _mutes(config: SyntheticConfig, users: Users, follows: Graph, rng: np.random.Generator) -> Mutes:
    count, kinds = users.interest.shape
    worst = users.interest.argmin(axis=1)
    muting = np.flatnonzero(rng.random(count) < 0.08)
    words = [language(code) for code in config.languages]
    tags = [words[users.language[row]].tags[worst[row]][0] for row in muting]
    muted = np.zeros((count, kinds), bool)
    muted[muting, worst[muting]] = True
    threshold = np.sort(users.interest, axis=1)[:, -2]
    fan, subject = np.nonzero((users.interest >= threshold[:, None]) & (rng.random((count, kinds)) < 0.6))
    source, target = rng.integers(0, count, (2, max(1, count // 20)))
    fine = (source != target) & ~follows.follows(source, target)
    return Mutes(muting, worst[muting], tags, muted, fan, subject, source[fine], target[fine])


def _people_events(world: World) -> list[EventBatch]:
    users = world.users
    profiles = EventBatch.of(
        "profile",
        users.created_ms,
        user_id=users.user_id,
        screen_name=users.screen_name,
        display_name=users.display_name,
        description=users.description,
        languages=users.languages,
        country_code=users.country_code,
        age_years=users.age_years,
        subscription_level=users.subscription_level,
        created_at_ms=users.created_ms,
    )
    state = np.where(users.protected, AccountState.PROTECTED, AccountState.ACTIVE)
    return [profiles, EventBatch.of("account", users.created_ms, user_id=users.user_id, state=state)]


def _graph_events(world: World) -> list[EventBatch]:
    users, follows, mutes, views = world.users, world.follows, world.mutes, world.views
    before = world.config.start_ms - 30_000
    pays = follows.subscribed
    kinds = np.array([topic.id for topic in topics()], np.uint64)

    def pairs(kind: str, time_ms: Any, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]) -> EventBatch:
        times = np.broadcast_to(np.asarray(time_ms, np.int64), source.shape)
        return EventBatch.of(kind, times, user_id=users.user_id[source], target_user_id=users.user_id[target])

    batches = [
        pairs("follow", follows.since_ms, follows.source, follows.target),
        pairs("subscribe", follows.since_ms[pays] + 1, follows.source[pays], follows.target[pays]),
        pairs("block", before, mutes.block_source, mutes.block_target),
        EventBatch.of(
            "mute_keyword",
            np.full(mutes.keyword_user.size, before),
            user_id=users.user_id[mutes.keyword_user],
            keyword=mutes.keyword,
        ),
        EventBatch.of(
            "follow_topic",
            np.maximum(users.created_ms[mutes.followed_user] + 60_000, 0),
            user_id=users.user_id[mutes.followed_user],
            topic_id=kinds[mutes.followed_topic],
        ),
    ]
    writer = world.posts.author[world.posts.content[views.post]]
    for head, kind in (("follow_author", "follow"), ("block_author", "block"), ("mute_author", "mute")):
        done = np.flatnonzero(views.outcome[:, HEADS.index(head)])
        first = np.sort(np.unique(views.user[done] * len(users) + writer[done], return_index=True)[1])
        done = done[first]
        batches.append(pairs(kind, _done_ms(views)[done], views.user[done], writer[done]))
    return batches


def _post_events(world: World) -> list[EventBatch]:
    users, posts = world.users, world.posts
    ids, form = posts.post_id, posts.form
    parent = np.maximum(posts.parent, 0)

    def reference(which: Form) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        mask = form == which
        return np.where(mask, ids[parent], 0), np.where(mask, users.user_id[posts.author[parent]], 0)

    reply, repost, quote = (reference(which) for which in (Form.REPLY, Form.REPOST, Form.QUOTE))
    kinds = np.array([topic.id for topic in topics()], np.uint64)
    codes = np.array(world.config.languages, object)
    batches = [
        EventBatch.of(
            "post",
            posts.created_ms,
            post_id=ids,
            author_id=users.user_id[posts.author],
            created_at_ms=posts.created_ms,
            text=posts.text,
            language=codes[posts.language],
            in_reply_to_post_id=reply[0],
            in_reply_to_user_id=reply[1],
            source_post_id=repost[0],
            source_user_id=repost[1],
            quoted_post_id=quote[0],
            quoted_user_id=quote[1],
            conversation_id=ids[posts.root],
            media=posts.media,
            topic_ids=Ragged(np.arange(len(posts) + 1), kinds[posts.topic]),
            subscription_author_id=np.where(posts.exclusive, users.user_id[posts.author], 0),
        ),
        EventBatch.of(
            "label",
            posts.created_ms[posts.label_row] + 2_000,
            label=posts.label_name,
            category=np.where(posts.label_rule >= 1_400, LabelCategory.BRAND, LabelCategory.SAFETY),
            post_id=ids[posts.label_row],
            source="grok",
            rule_id=posts.label_rule,
            score=posts.label_score,
        ),
    ]
    gone = np.flatnonzero(posts.deleted_ms)
    author_ids = users.user_id[posts.author]
    batches.append(EventBatch.of("delete", posts.deleted_ms[gone], post_id=ids[gone], author_id=author_ids[gone]))
    # Who replies, reposts or quotes has engaged with the parent.
    actions = {
        Form.REPLY: int(PROTO_NUMBERS[HEADS.index("reply")]),
        Form.REPOST: int(PROTO_NUMBERS[HEADS.index("retweet")]),
        Form.QUOTE: int(PROTO_NUMBERS[HEADS.index("quote")]),
    }
    for which, action in actions.items():
        rows = np.flatnonzero(form == which)
        batches.append(
            EventBatch.of(
                "engagement",
                posts.created_ms[rows],
                user_id=author_ids[rows],
                post_id=ids[parent[rows]],
                author_id=author_ids[parent[rows]],
                action=action,
                surface=world.views.surface,
            )
        )
    return batches


def _done_ms(views: Views) -> npt.NDArray[np.int64]:
    """When the user has finished with each impression: the actions bear this time."""
    return views.time_ms + views.dwell_ms


def _view_events(world: World) -> list[EventBatch]:
    users, posts, views = world.users, world.posts, world.views
    author_ids = users.user_id[posts.author]
    shown = EventBatch.of(
        "impression",
        views.time_ms,
        user_id=users.user_id[views.user],
        post_id=posts.post_id[views.post],
        author_id=author_ids[views.post],
        surface=views.surface,
        position=views.position,
        request_id=views.request_id,
    )
    row, head = np.nonzero(views.outcome)
    timed = np.isin(head, [HEADS.index("dwell"), HEADS.index("not_dwelled"), HEADS.index("vqv")])
    spent = np.where(timed, views.dwell_ms[row], 0)
    spent = np.where(head == HEADS.index("click"), views.click_dwell_ms[row], spent)
    done = EventBatch.of(
        "engagement",
        _done_ms(views)[row],
        user_id=users.user_id[views.user[row]],
        post_id=posts.post_id[views.post[row]],
        author_id=author_ids[views.post[row]],
        action=PROTO_NUMBERS[head],
        surface=views.surface,
        dwell_ms=spent,
        request_id=views.request_id[row],
    )
    return [shown, done]

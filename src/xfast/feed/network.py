"""Network: what the events up to a moment say about posts, people and their relations, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.events import AccountState, EventBatch
from xfast.phoenix.features import Engagements
from xfast.world.interactions import Histories, Interactions, interactions

__all__ = ["Network", "Relations"]

U64 = npt.NDArray[np.uint64]
_DWELL_COLUMN = 1


@dataclass(frozen=True, eq=False)
class Relations:
    """Directed pairs of users that hold, by source: the last event of a pair decides."""

    source: U64
    target: U64

    def of(self, user_id: int) -> U64:
        """Targets of a user, ascending."""
        user = np.uint64(user_id)
        return self.target[np.searchsorted(self.source, user) : np.searchsorted(self.source, user, "right")]

    def to(self, user_id: int) -> U64:
        """Sources that point to a user."""
        sources: U64 = self.source[self.target == np.uint64(user_id)]
        return sources


@dataclass(frozen=True, eq=False)
class Network:
    """The network at a moment. ``posts`` maps column names to arrays over posts, in ascending order of ``post_id``."""

    now_ms: int
    posts: dict[str, npt.NDArray[Any]]
    follows: Relations
    blocks: Relations
    mutes: Relations
    subscriptions: Relations
    muted_keywords: dict[int, list[str]]
    names: dict[int, str]
    users: U64
    interactions: Interactions
    histories: Histories

    @classmethod
    def of(cls, events: EventBatch, now_ms: int) -> Network:
        """Read the events up to and including ``now_ms``."""
        events = events.take(np.flatnonzero(events.time_ms <= now_ms)).sorted()
        profiles = events.columns("profile")
        rows = interactions(events)
        names = dict(zip(profiles["user_id"].tolist(), profiles["screen_name"], strict=True))
        users = np.unique(np.concatenate([profiles["user_id"], rows.user_id]))
        return cls(
            now_ms=now_ms,
            posts=_posts(events),
            follows=_relations(events, "follow"),
            blocks=_relations(events, "block"),
            mutes=_relations(events, "mute"),
            subscriptions=_relations(events, "subscribe"),
            muted_keywords=_muted_keywords(events),
            names=names,
            users=users,
            interactions=rows,
            histories=rows.histories(),
        )

    def row_of(self, post_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Rows of posts; -1 for unknown ones."""
        ids, wanted = self.posts["post_id"], np.asarray(post_ids, np.uint64)
        if len(ids) == 0:
            return np.full(wanted.shape, -1)
        rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        return np.where(ids[rows] == wanted, rows, -1)

    def engagements(self, user_id: int, *, num_actions: int, length: int) -> Engagements:
        """The newest ``length`` posts that a user acted on, oldest first, as the models' context."""
        rows = self.histories.of(user_id)
        rows = rows[self.interactions.actions[rows] != 0][-length:]
        done = self.interactions
        continuous = np.zeros((len(rows), 8), np.float32)
        continuous[:, _DWELL_COLUMN] = done.dwell_ms[rows] / 1000
        return Engagements(
            user_id,
            done.post_id[rows],
            done.author_id[rows],
            done.action_matrix(rows, num_actions=num_actions),
            done.surface[rows],
            continuous,
        )

    def seen(self, user_id: int) -> U64:
        """Posts that were shown to a user or that they acted on."""
        return self.interactions.post_id[self.histories.of(user_id)]

    def check_user(self, user_id: int) -> int:
        """The id, if the network knows it.

        Raises
        ------
        ParameterError
            No event mentions the user.
        """
        row = int(np.searchsorted(self.users, np.uint64(user_id)))
        if row == len(self.users) or int(self.users[row]) != user_id:
            raise ParameterError(f"user_id is {user_id}, no event mentions that user")
        return user_id


def _posts(events: EventBatch) -> dict[str, npt.NDArray[Any]]:
    columns = events.columns("post")
    ids = columns["post_id"]
    # A post that is announced twice keeps its first form; deleted posts and those of vanished accounts are left out.
    _, first = np.unique(ids, return_index=True)
    gone = np.isin(ids[first], events.columns("delete")["post_id"])
    gone |= np.isin(columns["author_id"][first], _vanished(events))
    kept = first[~gone]
    created = columns["created_at_ms"][kept]
    media = columns["media"]
    durations = np.zeros(len(kept), np.int32)
    for i, row in enumerate(kept):
        entries = media.values[media.offsets[row] : media.offsets[row + 1]]
        if len(entries):
            durations[i] = int(entries["duration_ms"].max())
    out = {
        name: columns[name][kept]
        for name in (
            "post_id", "author_id", "text", "language", "in_reply_to_post_id", "in_reply_to_user_id",
            "source_post_id", "source_user_id", "quoted_post_id", "quoted_user_id", "conversation_id",
            "subscription_author_id", "nullcast",
        )
    }  # fmt: skip
    out["created_at_ms"] = np.where(created > 0, created, events.time_ms[columns.rows[kept]])
    out["duration_ms"] = durations
    return out


def _vanished(events: EventBatch) -> U64:
    accounts = events.columns("account")
    last = dict(zip(accounts["user_id"].tolist(), accounts["state"].tolist(), strict=True))
    shown = {int(AccountState.ACTIVE), int(AccountState.PROTECTED)}
    return np.array([user for user, state in last.items() if state not in shown], np.uint64)


def _relations(events: EventBatch, kind: str) -> Relations:
    made, undone = events.columns(kind), events.columns(f"un{kind}")
    source = np.concatenate([made["user_id"], undone["user_id"]])
    target = np.concatenate([made["target_user_id"], undone["target_user_id"]])
    place = np.concatenate([made.rows, undone.rows])
    holds = np.concatenate([np.ones(len(made.rows), bool), np.zeros(len(undone.rows), bool)])
    order = np.lexsort((place, target, source))
    source, target, holds = source[order], target[order], holds[order]
    last = np.ones(len(source), bool)
    last[:-1] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    kept = last & holds
    return Relations(source[kept], target[kept])


def _muted_keywords(events: EventBatch) -> dict[int, list[str]]:
    muted: dict[int, list[str]] = {}
    made, undone = events.columns("mute_keyword"), events.columns("unmute_keyword")
    steps = [(row, user, word, True) for row, user, word in zip(made.rows, made["user_id"], made["keyword"])]
    steps += [(row, user, word, False) for row, user, word in zip(undone.rows, undone["user_id"], undone["keyword"])]
    for _, user, word, on in sorted(steps, key=lambda step: step[0]):
        words = muted.setdefault(int(user), [])
        if on and word not in words:
            words.append(word)
        elif not on and word in words:
            words.remove(word)
    return muted

"""The obvious model of what a store must hold after some in-network events, and events to feed both."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from xfast.events import message_class
from xfast.thunder import PostStore

NOW = 1_700_000_000
AUTHORS = range(1, 9)


def create_event(post_id: int, author_id: int, created_at: int, **fields: Any) -> bytes:
    event = message_class("xfast.thunder.InNetworkEvent")()
    fields |= {"post_id": post_id, "author_id": author_id, "created_at": created_at}
    for name, value in fields.items():
        setattr(event.tweet_create_event, name, value)
    return bytes(event.SerializeToString())


def delete_event(post_id: int, deleted_at: int) -> bytes:
    event = message_class("xfast.thunder.InNetworkEvent")()
    event.tweet_delete_event.post_id = post_id
    event.tweet_delete_event.deleted_at = deleted_at
    return bytes(event.SerializeToString())


def account_event(user_id: int, state: int) -> bytes:
    event = message_class("xfast.thunder.InNetworkEvent")()
    event.account_state_event.user_id = user_id
    event.account_state_event.state = state
    return bytes(event.SerializeToString())


def events(count: int, *, seed: int = 0, now: int = NOW, first: int = 1) -> list[bytes]:
    """Creates with unique ids and times in the last hour, one delete in eight of an earlier post.

    Event number n is the same whatever part of the sequence is asked for.
    """
    result = []
    for number in range(first, first + count):
        rng = random.Random(seed * 1_000_003 + number)
        if number % 8 == 0:
            result.append(delete_event(rng.randint(max(1, number - 50), number), now))
        else:
            result.append(create_event(number, rng.choice(AUTHORS), now - rng.randint(1, 3600)))
    return result


class Model:
    """Posts and deletions as plain Python."""

    def __init__(self) -> None:
        self.posts: dict[int, tuple[int, int]] = {}
        self.deleted: set[int] = set()

    def apply(self, messages: Iterable[bytes]) -> Model:
        for message in messages:
            event = message_class("xfast.thunder.InNetworkEvent").FromString(message)
            if event.HasField("tweet_create_event"):
                post = event.tweet_create_event
                if post.post_id not in self.deleted:
                    self.posts[post.post_id] = (post.author_id, post.created_at)
            elif event.HasField("tweet_delete_event"):
                self.deleted.add(event.tweet_delete_event.post_id)
                self.posts.pop(event.tweet_delete_event.post_id, None)
        return self

    def visible(self) -> set[tuple[int, int, int]]:
        return {(post, author, at) for post, (author, at) in self.posts.items()}


OPTIONS: dict[str, Any] = {
    "max_original_per_author": 1_000_000,
    "max_scan_per_author": 1_000_000_000,
    "max_results": 1_000_000,
}
"""Limits that hide nothing, so that a lookup shows everything that is in the store."""


def visible(store: PostStore) -> list[tuple[int, int, int]]:
    """Every post that the store serves, with duplicates if it should serve any."""
    batch = store.in_network(0, list(AUTHORS))
    columns = (batch["post_id"].tolist(), batch["author_id"].tolist(), batch["created_at"].tolist())
    return list(zip(*columns, strict=True))


def check(store: PostStore, messages: Iterable[bytes]) -> None:
    """The store serves exactly what the model holds, once each, and remembers the deletions."""
    served = visible(store)
    assert len(served) == len(set(served))
    model = Model().apply(messages)
    assert set(served) == model.visible()
    assert store.stats()["deleted_posts"] == len(model.deleted)

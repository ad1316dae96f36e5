"""Two slow and obvious stores to compare with: the release's rules step by step, and the same rules put right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

HIDDEN = {"suspended", "deactivated", "erased"}
KINDS = ("original", "secondary", "video")


@dataclass(frozen=True)
class Limits:
    """The options of a store, by their names in PostStore."""

    retention_seconds: int = 600
    max_original_per_author: int = 4
    max_secondary_per_author: int = 3
    max_video_per_author: int = 3
    max_scan_per_author: int = 6
    max_results: int = 20
    max_video_results: int = 10
    tombstone_key: int = 0

    def cap(self, kind: str) -> int:
        return {
            "original": self.max_original_per_author,
            "secondary": self.max_secondary_per_author,
            "video": self.max_video_per_author,
        }[kind]


@dataclass(frozen=True)
class Post:
    post_id: int
    author_id: int
    created_at: int
    in_reply_to_post_id: int = 0
    in_reply_to_user_id: int = 0
    is_retweet: bool = False
    is_reply: bool = False
    source_post_id: int = 0
    source_user_id: int = 0
    has_video: bool = False
    conversation_id: int = 0

    def row(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @property
    def kind(self) -> str:
        return "secondary" if self.is_retweet or self.is_reply else "original"


@dataclass
class Model:
    """What both have in common: posts by id, account states, the rules for one post."""

    limits: Limits
    posts: dict[int, Post] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)

    def accepted(self, posts: list[Post], now: int) -> list[Post]:
        kept = [p for p in posts if 0 <= p.created_at < now and now - p.created_at <= self.limits.retention_seconds]
        return sorted((p for p in kept if self.states.get(p.author_id) != "erased"), key=lambda p: p.created_at)

    def is_video(self, post: Post) -> bool:
        source = self.posts.get(post.source_post_id) if post.is_retweet and post.source_post_id else None
        return not post.is_reply and (
            post.has_video or (source is not None and source.has_video and not source.is_reply)
        )

    def visible(self, author: int, viewer: int, followed: set[int]) -> bool:
        state = self.states.get(author, "active")
        return state == "active" or (state == "protected" and (author == viewer or author in followed))

    def shown(self, post: Post, kind: str, viewer: int, followed: set[int]) -> bool:
        if post.is_retweet and post.source_user_id == viewer and viewer != 0:
            return False
        if post.is_retweet and post.source_user_id and not self.visible(post.source_user_id, viewer, followed):
            return False
        if kind != "secondary" or not post.in_reply_to_post_id:
            return True
        parent = self.posts.get(post.in_reply_to_post_id)
        if parent is None or not self.visible(parent.author_id, viewer, followed):
            return False
        if not parent.is_retweet and not parent.is_reply:
            return True
        return bool(
            post.conversation_id
            and parent.in_reply_to_post_id == post.conversation_id
            and post.in_reply_to_user_id
            and post.in_reply_to_user_id in followed
        )

    def answer(self, found: list[Post], max_results: int, video: bool) -> list[tuple[Any, ...]]:
        size = max_results or (self.limits.max_video_results if video else self.limits.max_results)
        found.sort(key=lambda p: (p.created_at, p.post_id % 2**64), reverse=True)
        return [p.row() for p in found[:size]]


@dataclass
class ReferenceModel(Model):
    """THUNDER §2 and §3 to the letter."""

    lists: dict[str, dict[int, list[tuple[int, int]]]] = field(
        default_factory=lambda: {kind: defaultdict(list) for kind in KINDS}
    )
    deleted: set[int] = field(default_factory=set)

    def insert(self, posts: list[Post], now: int) -> None:
        for post in self.accepted(posts, now):
            if post.post_id in self.deleted:
                continue
            known = post.post_id in self.posts
            self.posts[post.post_id] = post
            if known:
                continue
            self.lists[post.kind][post.author_id].append((post.post_id, post.created_at))
            if self.is_video(post):
                self.lists["video"][post.author_id].append((post.post_id, post.created_at))

    def delete(self, deletes: list[tuple[int, int]]) -> None:
        for post_id, time in deletes:
            self.posts.pop(post_id, None)
            self.deleted.add(post_id)
            self.lists["original"][self.limits.tombstone_key].append((post_id, max(0, time)))

    def trim(self, now: int) -> int:
        removed = 0
        for kind in KINDS:
            for author, entries in self.lists[kind].items():
                while entries and (now - entries[0][1]) % 2**64 > self.limits.retention_seconds:
                    post_id, _ = entries.pop(0)
                    self.posts.pop(post_id, None)
                    if kind == "original" and author == self.limits.tombstone_key:
                        self.deleted.discard(post_id)
                    removed += kind != "video"
        return removed

    def finalize(self, now: int) -> int:
        for lists in self.lists.values():
            for entries in lists.values():
                entries.sort(key=lambda entry: entry[1])
        removed = self.trim(now)
        for post_id in self.deleted:
            self.posts.pop(post_id, None)
        return removed

    def clear(self) -> None:
        self.posts.clear()
        for lists in self.lists.values():
            lists.clear()

    def set_state(self, user: int, state: str) -> None:
        self.states[user] = state
        if state == "erased":
            self.posts = {post_id: p for post_id, p in self.posts.items() if p.author_id != user}

    def get(
        self, viewer: int, following: list[int], exclude: set[int], max_results: int, video: bool, now: int
    ) -> list[tuple[Any, ...]]:
        followed, found = set(following), []
        for kind in ["video"] if video else ["original", "secondary"]:
            for author in following:
                if self.states.get(author) in HIDDEN:
                    continue
                taken = scanned = 0
                for post_id, _ in reversed(self.lists[kind][author]):
                    if post_id in exclude:
                        continue
                    if scanned == self.limits.max_scan_per_author or taken == self.limits.cap(kind):
                        break
                    scanned += 1
                    post = self.posts.get(post_id)
                    if post is None or post_id in self.deleted:
                        continue
                    if post.author_id != author and not self.visible(post.author_id, viewer, followed):
                        continue
                    if self.shown(post, kind, viewer, followed):
                        found.append(post)
                        taken += 1
        return self.answer(found, max_results, video)

    def stats(self) -> dict[str, int]:
        count = {kind: sum(len(entries) for entries in self.lists[kind].values()) for kind in KINDS}
        return {
            "users": sum(1 for entries in self.lists["original"].values() if entries),
            "posts": len(self.posts),
            "original_posts": count["original"],
            "secondary_posts": count["secondary"],
            "video_posts": count["video"],
            "deleted_posts": len(self.deleted),
        }


@dataclass
class FixedModel(Model):
    """The same rules with the repairs of docs/thunder.md: a post is listed while, and as what, it is in the store."""

    arrival: dict[int, int] = field(default_factory=dict)  # post -> its place among posts of the same second
    videos: set[int] = field(default_factory=set)
    deleted: dict[int, int] = field(default_factory=dict)
    arrived: int = 0

    def insert(self, posts: list[Post], now: int) -> None:
        for post in self.accepted(posts, now):
            if post.post_id in self.deleted or self.posts.get(post.post_id) == post:
                continue
            video = self.is_video(post)
            self.posts[post.post_id] = post
            self.arrived += 1
            self.arrival[post.post_id] = self.arrived
            (self.videos.add if video else self.videos.discard)(post.post_id)

    def delete(self, deletes: list[tuple[int, int]]) -> None:
        for post_id, time in deletes:
            self.posts.pop(post_id, None)
            self.deleted.setdefault(post_id, max(0, time))

    def trim(self, now: int) -> int:
        cutoff = max(0, now - self.limits.retention_seconds)
        before = len(self.posts) + len(self.deleted)
        self.posts = {post_id: p for post_id, p in self.posts.items() if p.created_at >= cutoff}
        self.deleted = {post_id: time for post_id, time in self.deleted.items() if time >= cutoff}
        return before - len(self.posts) - len(self.deleted)

    finalize = trim

    def clear(self) -> None:
        self.posts.clear()
        self.deleted.clear()

    def set_state(self, user: int, state: str) -> None:
        self.states[user] = state
        if state == "erased":
            self.posts = {post_id: p for post_id, p in self.posts.items() if p.author_id != user}

    def get(
        self, viewer: int, following: list[int], exclude: set[int], max_results: int, video: bool, now: int
    ) -> list[tuple[Any, ...]]:
        followed, found = set(following), []
        cutoff = max(0, now - self.limits.retention_seconds)
        newest_first = sorted(self.posts.values(), key=lambda p: (p.created_at, self.arrival[p.post_id]), reverse=True)
        for kind in ["video"] if video else ["original", "secondary"]:
            for author in followed:
                if self.states.get(author) in HIDDEN:
                    continue
                taken = scanned = 0
                for post in newest_first:
                    listed = post.post_id in self.videos if kind == "video" else post.kind == kind
                    if post.author_id != author or not listed or post.created_at < cutoff or post.post_id in exclude:
                        continue
                    if scanned == self.limits.max_scan_per_author or taken == self.limits.cap(kind):
                        break
                    scanned += 1
                    if self.shown(post, kind, viewer, followed):
                        found.append(post)
                        taken += 1
        return self.answer(found, max_results, video)

    def stats(self) -> dict[str, int]:
        kinds = [post.kind for post in self.posts.values()]
        return {
            "users": len({post.author_id for post in self.posts.values() if post.kind == "original"}),
            "posts": len(kinds),
            "original_posts": kinds.count("original"),
            "secondary_posts": kinds.count("secondary"),
            "video_posts": len(self.videos & self.posts.keys()),
            "deleted_posts": len(self.deleted),
        }

"""Thunder vectors: cases of steps against a store, the service's admission rules, and video eligibility."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.conformance.report import Report
from xfast.errors import XfastError
from xfast.events import message_class
from xfast.thunder import InNetworkLookup, PostStore
from xfast.thunder._wire import has_playable_video
from xfast.thunder.columns import FLAG_COLUMNS, POST_COLUMNS

CONFIG = {
    "max_original_per_author": "max_original_per_author",
    "max_secondary_per_author": "max_secondary_per_author",
    "max_video_per_author": "max_video_per_author",
    "max_scan_per_author": "max_scan_per_author",
    "max_posts": "max_results",
    "max_videos": "max_video_results",
    "retention_s": "retention_seconds",
    "request_timeout_ms": "request_timeout_ms",
    "tombstone_key": "tombstone_key",
}
LOOKUP_CONFIG = {"max_input_list": "max_input_list", "max_concurrent": "max_concurrent_requests"}
DOCUMENT_KEYS = {"format", "thunder", "thunder_service", "thunder_video_eligibility"}
MEDIA_IMAGE, MEDIA_VIDEO = 1, 2


class Mismatch(Exception):
    """A step's answer differs."""

    def __init__(self, expected: Any, got: Any) -> None:
        self.expected, self.got = expected, got


class UnknownKey(Exception):
    """The vectors ask for something that this adapter does not know."""


class VirtualClock:
    """Stands still, but moves on after each followee that a lookup asks about."""

    def __init__(self) -> None:
        self.time, self.ms_per_author, self.asked = 0.0, 0.0, 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        # The first question starts the lookup, the second comes before the first followee: both before any work.
        self.asked += 1
        return max(0, self.asked - 2) * self.ms_per_author / 1000.0


def ids(values: Iterable[int | None]) -> npt.NDArray[np.int64]:
    """Ids and times as the store's int64: those of 2**63 and more are bit-cast, None is 0 (unset)."""
    return np.array([(value or 0) % 2**64 for value in values], np.uint64).view(np.int64)


def known(what: dict[str, Any], keys: set[str], where: str) -> None:
    unknown = sorted(set(what) - keys)
    if unknown:
        raise UnknownKey(f"{where}: unknown {unknown}")


class Replay:
    """One case: a store in reference mode, a clock, and a method per operation."""

    def __init__(self, config: dict[str, Any]) -> None:
        known(config, {*CONFIG, *LOOKUP_CONFIG}, "config")
        self.clock = VirtualClock()
        options = {CONFIG[key]: value for key, value in config.items() if key in CONFIG}
        self.store = PostStore(**options, quirks="reference", clock=self.clock)
        self.lookup = InNetworkLookup(
            self.store, **{LOOKUP_CONFIG[key]: value for key, value in config.items() if key in LOOKUP_CONFIG}
        )

    def step(self, step: dict[str, Any]) -> None:
        operations: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
            "create": (self.create, {"posts"}),
            "delete": (self.delete, {"deletes"}),
            "feed": (self.feed, {"messages"}),
            "trim": (self.trim, {"expect_trimmed"}),
            "finalize": (self.finalize, set()),
            "clear": (lambda _: self.store.clear(), set()),
            "get": (self.get, {"request", "expect"}),
            "stats": (self.stats, {"expect"}),
        }
        if step["op"] not in operations:
            raise UnknownKey(f"operation {step['op']!r}")
        run, keys = operations[step["op"]]
        known(step, {"op", "note", "now", *keys}, step["op"])
        if step.get("now") is not None:
            self.clock.time = step["now"]
        run({**step, "now": self.clock.time})

    def create(self, step: dict[str, Any]) -> None:
        for post in step["posts"]:
            known(post, set(POST_COLUMNS), "post")
        columns = {
            name: np.array([bool(post.get(name)) for post in step["posts"]], bool)
            if name in FLAG_COLUMNS
            else ids(post.get(name) for post in step["posts"])
            for name in POST_COLUMNS
        }
        self.store.insert(columns, now=step["now"])

    def delete(self, step: dict[str, Any]) -> None:
        for event in step["deletes"]:
            known(event, {"post_id", "deleted_at"}, "delete")
        self.store.delete(
            ids(event["post_id"] for event in step["deletes"]),
            deleted_at=ids(event["deleted_at"] for event in step["deletes"]),
        )

    def feed(self, step: dict[str, Any]) -> None:
        event_class = message_class("xfast.thunder.InNetworkEvent")
        messages: list[bytes | None] = []
        for message in step["messages"]:
            if message is None:
                messages.append(None)
                continue
            fields = {key: value for key, value in message.items() if key != "type" and value is not None}
            fields |= {key: int(ids([value])[0]) for key, value in fields.items() if type(value) is int}
            if message["type"] == "create":
                known(fields, set(POST_COLUMNS), "message")
                messages.append(event_class(tweet_create_event=fields).SerializeToString())
            elif message["type"] == "delete":
                known(fields, {"post_id", "deleted_at"}, "message")
                messages.append(event_class(tweet_delete_event=fields).SerializeToString())
            else:
                raise UnknownKey(f"message type {message['type']!r}")
        self.store.feed(messages, now=step["now"])

    def trim(self, step: dict[str, Any]) -> None:
        trimmed = self.store.trim(now=step["now"])
        if trimmed != step.get("expect_trimmed", trimmed):
            raise Mismatch(step["expect_trimmed"], trimmed)

    def finalize(self, step: dict[str, Any]) -> None:
        self.store.finalize(now=step["now"])

    def stats(self, step: dict[str, Any]) -> None:
        stats = self.store.stats()
        known(step["expect"], set(stats), "stats")
        got = {key: stats[key] for key in step["expect"]}
        if got != step["expect"]:
            raise Mismatch(step["expect"], got)

    def get(self, step: dict[str, Any]) -> None:
        request = step["request"]
        known(
            request,
            {
                "user_id",
                "following_user_ids",
                "exclude_tweet_ids",
                "max_results",
                "is_video_request",
                "algorithm",
                "debug",
                "virtual_ms_per_author",
            },
            "request",
        )
        self.clock.ms_per_author, self.clock.asked = request.get("virtual_ms_per_author", 0), 0
        batch = self.lookup.get(
            int(ids([request.get("user_id")])[0]),
            ids(request.get("following_user_ids") or []),
            ids(request.get("exclude_tweet_ids") or []),
            max_results=request.get("max_results") or 0,
            video_only=bool(request.get("is_video_request")),
            debug=bool(request.get("debug")),
        )
        expected = step["expect"]
        known(expected, {"count", "groups"}, "expect")
        got = list(zip(batch["post_id"].tolist(), batch["created_at"].tolist(), strict=True))
        if len(got) != expected["count"]:
            raise Mismatch(expected, got)
        at = 0
        for group in expected["groups"]:
            known(group, {"created_at", "pool", "take"}, "group")
            part = got[at : at + group["take"]]
            at += group["take"]
            drawn = Counter(post_id for post_id, _ in part)
            times = {time for _, time in part}
            if (
                len(part) != group["take"]
                or drawn - Counter(ids(group["pool"]).tolist())
                or times - {group["created_at"]}
            ):
                raise Mismatch(group, part)
        if at != len(got):
            raise Mismatch(f"{at} posts in groups", got)


def run_case(case: dict[str, Any], base: dict[str, Any], report: Report) -> None:
    passed = 0
    steps = case["steps"]
    try:
        known(case, {"name", "note", "quirk", "config_overrides", "steps"}, "case")
        replay = Replay({**base, **case.get("config_overrides", {})})
        for passed, step in enumerate(steps):
            try:
                replay.step(step)
            except Mismatch as mismatch:
                report.failure(
                    f"{case['name']} step {passed} ({step['op']})", expected=mismatch.expected, got=mismatch.got
                )
                break
        else:
            passed = len(steps)
    except (UnknownKey, XfastError, KeyError, TypeError, ValueError) as error:
        report.failure(case["name"], expected="a case that can be replayed", got=error)
        passed = min(passed, len(steps) - 1)
    report.suite(f"thunder/{case['name']}", passed, len(steps))


# -- the service


def semaphore(case: dict[str, Any]) -> dict[str, Any]:
    """Hold as many requests open as there are permits, try one more, let go."""
    permits = case["config"]["max_concurrent"]
    release, entered = threading.Event(), threading.Semaphore(0)

    def following(user_id: int, limit: int) -> list[int]:
        entered.release()
        release.wait(10)
        return []

    lookup = InNetworkLookup(PostStore(), max_concurrent_requests=permits, following_source=following)
    threads = [threading.Thread(target=lambda: lookup.get(1, [], debug=True)) for _ in range(permits)]
    for thread in threads:
        thread.start()
    for _ in threads:
        entered.acquire(timeout=10)
    got: dict[str, Any] = {"code": None, "message": "", "in_flight_during": lookup.in_flight}
    try:
        lookup.get(1, [])
    except XfastError as error:
        got |= {"code": getattr(error, "code", None), "message": str(error)}
    release.set()
    for thread in threads:
        thread.join()
    return got | {"rejected": lookup.rejected, "in_flight_after": lookup.in_flight}


def check_semaphore(case: dict[str, Any]) -> None:
    known(case["config"], {"max_concurrent"}, "config")
    got = semaphore(case)
    for key, value in case["expect"].items():
        if key == "message_contains":
            if value not in got["message"]:
                raise Mismatch(case["expect"], got)
        elif key not in got:
            raise UnknownKey(f"expected {key!r}")
        elif got[key] != value:
            raise Mismatch(case["expect"], got)


def check_following_fetch(case: dict[str, Any]) -> None:
    """In debug the source is asked with (user id, limit) and its failure is INTERNAL; otherwise it is left alone."""
    known(case["request"], {"user_id", "following_user_ids", "debug"}, "request")
    calls: list[tuple[int, int]] = []

    def source(user_id: int, limit: int) -> list[int]:
        calls.append((user_id, limit))
        return [7]

    def broken(user_id: int, limit: int) -> list[int]:
        raise OSError("no answer")

    request, user_id, limit = case["request"], case["request"].get("user_id", 11), 50
    store = PostStore()
    lookup = InNetworkLookup(store, max_input_list=limit, following_source=source)
    batch = lookup.get(user_id, request["following_user_ids"], debug=request["debug"])
    asked = request["debug"] and not request["following_user_ids"]
    if calls != ([(user_id, limit)] if asked else []) or len(batch):
        raise Mismatch([(user_id, limit)] if asked else [], calls)
    code = None
    try:
        InNetworkLookup(store, following_source=broken).get(
            user_id, request["following_user_ids"], debug=request["debug"]
        )
    except XfastError as error:
        code = getattr(error, "code", None)
    if code != ("INTERNAL" if asked else None):
        raise Mismatch("INTERNAL" if asked else None, code)


SERVICE = {
    "semaphore": check_semaphore,
    "following_fetch_only_in_debug": check_following_fetch,
    "following_not_fetched_without_debug": check_following_fetch,
}


def run_service(cases: list[dict[str, Any]], report: Report) -> None:
    passed = 0
    for case in cases:
        try:
            known(case, {"name", "config", "request", "note", "expect"}, "service case")
            if case["name"] not in SERVICE:
                raise UnknownKey(f"service case {case['name']!r}")
            SERVICE[case["name"]](case)
            passed += 1
        except Mismatch as mismatch:
            report.failure(f"thunder_service/{case['name']}", expected=mismatch.expected, got=mismatch.got)
        except (UnknownKey, XfastError, KeyError, TypeError, ValueError) as error:
            report.failure(f"thunder_service/{case['name']}", expected="a case that can be replayed", got=error)
    report.suite("thunder_service", passed, len(cases))


# -- video eligibility


def playable(case: dict[str, Any]) -> bool:
    kinds, durations = [], []
    for item in case["media"] or []:
        known(item, {"video_ms", "image"}, "media")
        kinds.append(MEDIA_VIDEO if "video_ms" in item else MEDIA_IMAGE)
        duration = item.get("video_ms")
        durations.append(-1 if duration is None else duration)
    return has_playable_video(kinds, durations, case["min_ms"])


def run_video(cases: list[dict[str, Any]], report: Report) -> None:
    passed = 0
    for index, case in enumerate(cases):
        try:
            known(case, {"media", "min_ms", "expect", "note", "name"}, "video case")
            got = playable(case)
            if got is not case["expect"]:
                raise Mismatch(case["expect"], got)
            passed += 1
        except Mismatch as mismatch:
            report.failure(f"thunder_video_eligibility/{index}", expected=mismatch.expected, got=mismatch.got)
        except (UnknownKey, XfastError, KeyError, TypeError, ValueError) as error:
            report.failure(f"thunder_video_eligibility/{index}", expected="a case that can be replayed", got=error)
    report.suite("thunder_video_eligibility", passed, len(cases))


def run(document: dict[str, Any], report: Report) -> None:
    """Replay a Thunder vector file."""
    for key in sorted(set(document) - DOCUMENT_KEYS):
        report.failure(key, expected="a section of a known name", got=key)
        report.suite(key, 0, 1)
    base = document.get("format", {}).get("base_config", {})
    for case in document.get("thunder", []):
        run_case(case, base, report)
    if "thunder_service" in document:
        run_service(document["thunder_service"], report)
    if "thunder_video_eligibility" in document:
        run_video(document["thunder_video_eligibility"], report)

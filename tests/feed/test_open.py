"""Feeds that a feed.toml describes: what is refused, what survives a restart, two at once, async twins."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import service_value
from tests.feed.conftest import NOW, VIEWER, Town, now_event
from xfast.actions import PROTO
from xfast.errors import ArtifactError, ConfigurationError, SnapshotError, StoreError
from xfast.events import Account, AccountState, Engagement, Follow, NetworkEvent, Post
from xfast.feed import Feed, FeedConfig
from xfast.thunder import LogReader

Write = Callable[..., Path]
FRIEND, STRANGER = 100, 200


def opened(file: Path) -> Town:
    """The feed of a file, standing at NOW."""
    town = Town(Feed.open(file))
    town.feed.ingest([now_event()])
    return town


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('campaignz = "x"', "unknown key campaignz, did you mean campaigns?"),
        ("[log]\nfsynk = 3", "unknown key log.fsynk, did you mean log.fsync?"),
        ('[log]\nfsync = "often"', "log.fsync is 'often', must be one of always, interval, never"),
        ("[params]\nFavoritWeight = 1", "unknown parameter 'FavoritWeight', did you mean FavoriteWeight"),
        ("[params]\nReportWeight = 3.0", "ReportWeight is 3.0, must be 0 or less"),
        ('quirks = "odd"', "quirks is 'odd', must be one of reference, fixed"),
        ('save_seconds = "soon"', "save_seconds is 'soon', must be a number"),
        ("deadline_ms = -1", "deadline_ms is -1, must be 0 or more"),
        ("thunder = 5", "thunder is 5, must be a table"),
        ('preset = "1999"', "preset is unknown|'1999' is unknown"),
        ("[[prompt]]\ntxt = 'hi'", "unknown key prompt.txt, did you mean text?"),
        ("store = 7", "store is 7, must be a string"),
        ("clusters = { Fou = 5 }", "clusters.Fou is 5, must be a string"),
        ("deciders = { override_qf_use_lap8 = 1 }", "decider 'override_qf_use_lap8' is unknown, known are override_qf"),
        ("deciders = { override_qf_use_lap7 = 2 }", "decider override_qf_use_lap7 is 2, must be between 0 and 1"),
        ('deciders = { override_qf_use_lap7 = "on" }', "deciders.override_qf_use_lap7 is 'on', must be a number"),
        ("x = [", "Invalid|value"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(write_config: Write, text: str, message: str) -> None:
    file = write_config(text)
    with pytest.raises(ConfigurationError, match=message) as refused:
        FeedConfig.load(file)
    assert str(file) in str(refused.value)


def test_missing_files_are_named(tmp_path: Path, write_config: Write) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        Feed.open(tmp_path / "nowhere.toml")
    (tmp_path / "feed.toml").write_text('directory = "data"')
    with pytest.raises(ConfigurationError, match="models is missing"):
        Feed.open(tmp_path)
    with pytest.raises(ConfigurationError, match=r"campaigns is '.*ads.toml', there is no such file"):
        Feed.open(write_config('campaigns = "ads.toml"'))
    with pytest.raises(ArtifactError, match="nowhere: no such file or directory"):
        Feed.open(write_config('clusters = { Fou = "nowhere" }'))


def test_a_feed_goes_on_where_it_was_left(write_config: Write, tmp_path: Path) -> None:
    file = write_config()
    with opened(file).feed as feed:
        town = Town(feed)
        town.follow(FRIEND)
        posts = [town.post(FRIEND, f"post {index}") for index in range(3)]
        discovered, liked = town.post(STRANGER, "elsewhere"), town.post(201, "liked")
        town.tell(Engagement(VIEWER, liked, PROTO.column("favorite")))
        town.tell(Account(300, AccountState.SUSPENDED))
        hidden = town.post(300, "hidden")
        before = town.shown()
        assert {*posts, discovered} <= set(before)
        served = feed.for_you(VIEWER, 1)[0].post_id
    feed = Feed.open(tmp_path)  # the folder will do
    town = Town(feed)
    assert feed.now_ms == NOW
    after = town.shown()
    assert set(after) == set(before) - {served}, "what was served is remembered"
    assert hidden not in after and liked not in {item.post_id for item in feed.following(VIEWER)}
    assert "PhoenixSource" in {story.source for story in feed.explain(VIEWER, discovered).stories}
    feed.close()
    feed.close()
    with pytest.raises(SnapshotError, match="the feed is closed"):
        feed.ingest([now_event()])


def test_a_killed_process_loses_nothing(write_config: Write) -> None:
    """Between the snapshot and the kill there are events; they are in the log and come back."""
    file = write_config(clock="replay")
    script = f"""
import os
from tests.feed.test_open import *
town = opened(Path({str(file)!r}))
town.follow(FRIEND)
first = town.post(FRIEND, "before the snapshot")
town.feed.save()
second = town.post(FRIEND, "after it")
print(first, second, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    posts = {int(word) for word in done.stdout.split()}
    with Feed.open(file) as feed:
        assert set(Town(feed).shown()) == posts
        assert feed.network.thunder.stats()["posts"] == 2


def test_what_a_failing_store_missed_is_caught_up(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    town = opened(write_config())
    town.follow(FRIEND)
    store = town.feed.network.store

    def down(*args: object) -> None:
        raise StoreError("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(store, "apply", down)
        with pytest.raises(StoreError):
            town.post(FRIEND, "while it was away")
    later = town.post(FRIEND, "when it was back")
    texts = {item.text for item in town.feed.for_you(VIEWER)}
    assert texts == {"while it was away", "when it was back"} and later
    town.feed.close()


def test_erasing_reaches_log_and_snapshots(write_config: Write, tmp_path: Path) -> None:
    town = opened(write_config())
    town.post(STRANGER, "a secret of 200")
    town.post(FRIEND, "other")
    town.feed.save()
    receipt = town.feed.erase(STRANGER)
    assert receipt.log_events == 1 and receipt.snapshots == 1
    town.feed.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".shm")
    assert b"a secret of 200" not in b"".join(path.read_bytes() for path in (tmp_path / "data" / "log").iterdir())
    assert kept
    with LogReader(tmp_path / "data" / "log") as reader:
        batch = reader.read()
        assert batch is not None and not any(b"secret" in message for message in batch.messages())
    with Feed.open(tmp_path) as feed:
        assert feed.network.thunder.stats()["posts"] == 1
        assert Town(feed).shown(9_999) and STRANGER not in {item.author_id for item in feed.for_you(9_999)}


def test_an_interrupted_erasure_is_finished(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_config()
    town = opened(file)
    town.post(STRANGER, "a secret")
    town.feed.save()
    with monkeypatch.context() as patched:
        patched.setattr(town.feed.network.store, "erase", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            town.feed.erase(STRANGER)
    town.feed._parts.mixer.close()
    town.feed._parts.quiet.close()
    assert town.feed.network.log is not None
    town.feed.network.log.close()  # as a crash would: nothing else is written
    town.feed.network.store.close()
    with Feed.open(file) as feed, LogReader(file.parent / "data" / "log") as reader:
        batch = reader.read()
        assert batch is not None and not any(b"a secret" in message for message in batch.messages())
        assert STRANGER not in feed.users


def test_two_feeds_in_one_process(make_town: Callable[..., Town], write_config: Write) -> None:
    first, second = make_town(), opened(write_config())
    mine, yours = first.post(FRIEND, "one"), second.post(FRIEND, "two")
    assert first.shown(9_999) == [mine] and second.shown(9_999) == [yours]
    with pytest.raises(SnapshotError, match="another writer has this event log open"):
        Feed.open(write_config())
    second.feed.close()
    assert first.shown(9_999) == [mine]


async def test_async_twins(write_config: Write) -> None:
    async with await Feed.open_async(write_config()) as feed:
        posts = [NetworkEvent(Post(1_000 + index, FRIEND + index, created_at_ms=NOW), NOW) for index in range(20)]
        applied = await feed.ingest_async([*posts, NetworkEvent(Follow(VIEWER, FRIEND), NOW)])
        assert applied.changed["post"] == 20
        pages = await asyncio.gather(*(feed.for_you_async(50_000 + viewer, 5) for viewer in range(8)))
        assert [len(page) for page in pages] == [5] * 8
        assert [item.author_id for item in await feed.following_async(VIEWER)] == [FRIEND]
        assert (await feed.explain_async(VIEWER, 1_001)).status == "shown"
        stats = feed.stats()
        assert stats["corpus"]["size"] == stats["thunder"]["posts"] == stats["discovery"]["posts"] == 20
        assert stats["log"]["end"] == 21
        assert (await feed.erase_async(FRIEND)).store.rows["posts"] == 1
    with pytest.raises(SnapshotError):
        await feed.ingest_async(posts)


async def test_twins_agree(make_town: Callable[..., Town]) -> None:
    town = make_town()
    for index in range(40):
        town.post(FRIEND + index)
    plain = town.feed.for_you(VIEWER, remember=False, explain=True)
    twin = await town.feed.for_you_async(VIEWER, remember=False, explain=True)
    assert [(item.post_id, item.score) for item in plain] == [(item.post_id, item.score) for item in twin]


def test_postgres_by_url(write_config: Write) -> None:
    import psycopg

    url = service_value("XFAST_POSTGRES_URL")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS feed_open CASCADE")
        connection.execute("CREATE SCHEMA feed_open")
    separator = "&" if "?" in url else "?"
    town = opened(write_config(f'store = "{url}{separator}options=-csearch_path%3Dfeed_open"'))
    town.follow(FRIEND)
    post = town.post(FRIEND, "over the wire")
    assert town.shown() == [post]
    town.feed.close()
    assert "PostgreSQL" in repr(town.feed)


def test_reading_from_many_threads_while_writing(make_town: Callable[..., Town]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    town = make_town()
    for index in range(40):
        town.post(FRIEND + index)
    with ThreadPoolExecutor(4) as pool:
        pages = [pool.submit(town.feed.for_you, 60_000 + viewer, 10) for viewer in range(12)]
        written = [pool.submit(town.post, 500 + index) for index in range(12)]
        assert all(len(page.result()) == 10 and page.result().failures == [] for page in pages)
        posts = [each.result() for each in written]
    assert town.feed.network.store.posts(posts).found.all()
    assert len(town.feed.network.corpus) == 52

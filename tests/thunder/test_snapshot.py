"""Snapshots on disk: whole or not at all, refused when damaged, and the folder that falls back on an older one."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from xfast.errors import ParameterError, SnapshotError
from xfast.thunder import ManualClock, PostStore, SnapshotDirectory

NOW = 100_000


def filled(count: int = 50) -> PostStore:
    store = PostStore(clock=ManualClock(NOW))
    store.insert(
        {
            "post_id": np.arange(count),
            "author_id": np.arange(count) % 7,
            "created_at": NOW - 1 - np.arange(count) % 90,
            "has_video": np.arange(count) % 3 == 0,
        }
    )
    return store


def seen(store: PostStore) -> list[int]:
    return store.in_network(99, np.arange(7), max_results=10_000)["post_id"].tolist()


def test_save_and_load(tmp_path: Path) -> None:
    store = filled()
    size = store.save(tmp_path / "one", position=b"\x00offset 7")
    assert size == (tmp_path / "one").stat().st_size
    again, position = PostStore.load(tmp_path / "one", clock=ManualClock(NOW))
    assert position == b"\x00offset 7"
    assert seen(again) == seen(store) and again.stats() == store.stats()
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_options_may_change_but_not_the_mode(tmp_path: Path) -> None:
    filled().save(tmp_path / "one")
    shorter, _ = PostStore.load(
        tmp_path / "one", retention_seconds=30, max_original_per_author=1, clock=ManualClock(NOW)
    )
    assert len(seen(shorter)) == 7
    with pytest.raises(SnapshotError, match='one: written with quirks="fixed", the store has "reference"'):
        PostStore.load(tmp_path / "one", quirks="reference")
    reference = PostStore(quirks="reference", tombstone_key=5)
    reference.save(tmp_path / "two")
    with pytest.raises(SnapshotError, match="tombstone_key=5, the store has 0"):
        PostStore.load(tmp_path / "two", quirks="reference")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "truncated: shorter than its header"),
        (lambda data: data[:200], "truncated: 72 bytes after the header"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: data + b"\0", "truncated|promises"),
        (lambda data: b"PK" + data[2:], "not a post store snapshot"),
        (lambda data: data[:8] + b"\x09" + data[9:], "version 9 is newer than 1"),
        (lambda data: data[:30] + b"\xff" + data[31:], "checksum of the header"),
        (lambda data: data[:300] + bytes([data[300] ^ 1]) + data[301:], "checksum of the content"),
    ],
)
def test_damage_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "one"
    filled().save(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(SnapshotError, match=f"one: .*({message})"):
        PostStore.load(path)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="No such file"):
        PostStore.load(tmp_path / "none")
    with pytest.raises(SnapshotError, match="No such file"):
        filled().save(tmp_path / "no" / "folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SnapshotError, match="directory"):
        filled().save(tmp_path / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_directory_keeps_the_last_few(tmp_path: Path) -> None:
    folder = SnapshotDirectory(tmp_path / "deep" / "snapshots", keep=2)
    assert folder.load().position is None and folder.load().store.stats()["posts"] == 0
    store = filled()
    for number in range(4):
        (folder.path / f"thunder-{number:012d}.snapshot.part-77").write_bytes(b"cut short")
        folder.save(store, str(number).encode())
    assert [path.name for path in folder.paths()] == ["thunder-000000000004.snapshot", "thunder-000000000003.snapshot"]
    assert sorted(folder.path.iterdir()) == list(reversed(folder.paths()))
    restored = folder.load(clock=ManualClock(NOW))
    assert restored.position == b"3" and restored.path == folder.paths()[0] and seen(restored.store) == seen(store)
    with pytest.raises(ParameterError, match="keep is 1"):
        SnapshotDirectory(tmp_path, keep=1)


def test_directory_falls_back(tmp_path: Path) -> None:
    folder = SnapshotDirectory(tmp_path)
    store = filled()
    for number in range(3):
        folder.save(store, str(number).encode())
    newest, middle, oldest = folder.paths()
    newest.write_bytes(newest.read_bytes()[:-9])
    middle.write_bytes(b"")
    restored = folder.load()
    assert restored.position == b"0" and restored.path == oldest
    assert [newest.name in restored.refused[0], middle.name in restored.refused[1]] == [True, True]
    oldest.write_bytes(b"?")
    with pytest.raises(SnapshotError, match="none of 3 snapshots can be read"):
        folder.load()


def test_consistent_while_serving(tmp_path: Path) -> None:
    """Every batch is in a snapshot whole or not at all, while readers and the writer go on."""
    store = PostStore(clock=ManualClock(NOW))
    stop = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        first = 0
        while not stop.is_set():
            numbers = np.arange(first, first + 20)
            first += 20
            store.insert({"post_id": numbers, "author_id": numbers % 7, "created_at": np.full(20, NOW - 1)})

    def read() -> None:
        try:
            while not stop.is_set():
                seen(store)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    counts = []
    for number in range(8):
        store.save(tmp_path / str(number))
        counts.append(PostStore.load(tmp_path / str(number))[0].stats()["posts"])
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and counts == sorted(counts) and all(count % 20 == 0 for count in counts)

"""Snowflake ids and the map of foreign keys."""

import threading
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError, SnapshotError
from xfast.ids import SNOWFLAKE_EPOCH_MS, IdMap, as_int64, as_uint64, snowflake, snowflake_time_ms

EDGE_IDS = [0, 1, 2, 2**63 - 1, 2**63, 2**64 - 1]


def test_casts_never_pass_through_float() -> None:
    ids = as_uint64(EDGE_IDS)
    assert ids.dtype == np.uint64 and ids.tolist() == EDGE_IDS
    assert as_int64(ids).tolist() == [0, 1, 2, 2**63 - 1, -(2**63), -1]
    assert as_uint64(np.array([-1])).tolist() == [2**64 - 1]
    assert as_uint64(np.array([7], np.int8)).tolist() == [7]
    assert as_uint64([]).shape == (0,)


@pytest.mark.parametrize("wrong", [[1.0], ["1"], [None], [2**64, 1], [-(2**63) - 1, 2**63], [True, 2**63]])
def test_casts_refuse_what_is_not_a_64_bit_integer(wrong: list[object]) -> None:
    with pytest.raises(ParameterError, match="posts"):
        as_uint64(np.array(wrong, object) if len(wrong) > 1 else wrong, name="posts")


@given(
    time=st.integers(SNOWFLAKE_EPOCH_MS, SNOWFLAKE_EPOCH_MS + 2**41 - 1),
    sequence=st.integers(0, 2**22 - 1),
)
def test_a_minted_id_gives_its_time_back(time: int, sequence: int) -> None:
    number = snowflake(time, sequence)
    assert isinstance(number, int) and 0 <= number < 2**63
    assert snowflake_time_ms(number) == time
    assert number & (2**22 - 1) == sequence
    array = snowflake(np.array([time]), np.array([sequence]))
    assert array.dtype == np.uint64 and array.tolist() == [number]
    assert snowflake_time_ms(array).tolist() == [time]


def test_time_of_ids_that_were_never_minted() -> None:
    # HOME_MIXER §1: no lower bound, id 20 is simply very old; ids are unsigned: a "negative" one is in the future.
    assert snowflake_time_ms(20) == SNOWFLAKE_EPOCH_MS
    assert snowflake_time_ms(-1) == (2**42 - 1) + SNOWFLAKE_EPOCH_MS
    assert snowflake_time_ms(np.array([2**64 - 1], np.uint64)).dtype == np.int64


def test_ids_sort_by_time_then_sequence() -> None:
    times = SNOWFLAKE_EPOCH_MS + np.array([5, 5, 6, 7])
    assert np.all(np.diff(snowflake(times, [0, 1, 0, 0]).astype(np.int64)) > 0)


@pytest.mark.parametrize(
    ("time", "sequence", "text"),
    [
        (SNOWFLAKE_EPOCH_MS - 1, 0, r"time_ms is 1288834974656, must be in \[1288834974657, 3487858230208\]"),
        (SNOWFLAKE_EPOCH_MS + 2**41, 0, "time_ms is"),
        (SNOWFLAKE_EPOCH_MS, 2**22, r"sequence is 4194304, must be in \[0, 4194303\]"),
        (SNOWFLAKE_EPOCH_MS, -1, "sequence is -1"),
    ],
)
def test_out_of_range(time: int, sequence: int, text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        snowflake(time, sequence)


def test_id_map_there_and_back() -> None:
    uuid = UUID("12345678-1234-5678-1234-567812345678")
    users = IdMap(namespace="user")
    ids = users.ids(["alice", "bob", uuid, str(uuid), "", "alice"])
    assert ids[0] == ids[5] and len(set(ids.tolist())) == 5 == len(users)
    assert users.keys(ids) == ["alice", "bob", uuid, str(uuid), "", "alice"]
    assert isinstance(users.key(int(ids[2])), UUID)
    assert np.all(as_int64(ids) > 0)
    assert "bob" in users and "carol" not in users


def test_ids_are_the_same_in_every_process_and_order() -> None:
    # A pinned value: an embedder's stored ids must survive an upgrade of xfast.
    assert IdMap(namespace="user").id("alice") == PINNED
    reverse = IdMap(namespace="user")
    assert reverse.ids(["bob", "alice"])[1] == PINNED
    assert IdMap(namespace="post").id("alice") != PINNED


PINNED = 4760698475328631968


def test_unknown_ids_and_wrong_keys_are_refused() -> None:
    users = IdMap()
    with pytest.raises(ParameterError, match="id 7 belongs to no key"):
        users.key(7)
    with pytest.raises(ParameterError, match="must be a str or a UUID"):
        users.id(7)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="memory only"):
        users.save()


class _Colliding(IdMap):
    """Only 8 ids at first, so that the second attempt is needed."""

    def _hash(self, key: str | UUID, attempt: int) -> int:
        return super()._hash(key, attempt) % 8 if attempt == 0 else super()._hash(key, attempt)


def test_collisions_are_resolved_and_remembered(tmp_path: Path) -> None:
    keys = [f"key {index}" for index in range(100)]
    first = _Colliding(tmp_path / "map")
    ids = first.ids(keys)
    assert len(set(ids.tolist())) == 100 and 0 not in ids.tolist()
    first.save()
    again = _Colliding(tmp_path / "map")
    assert again.ids(reversed(keys)).tolist() == ids.tolist()[::-1]


def test_the_file_keeps_the_map(tmp_path: Path) -> None:
    path = tmp_path / "users.ids"
    users = IdMap(path, namespace="user")
    keys: list[str | UUID] = ["tab\tnew\nline", "\ud800", "ünï", UUID(int=0)]
    ids = users.ids(keys)
    users.save()
    users.id("later")
    users.save()
    read = IdMap(path, namespace="user")
    assert read.keys(ids) == keys and "later" in read
    assert [entry.name for entry in tmp_path.iterdir()] == ["users.ids"]
    with pytest.raises(SnapshotError, match="namespace 'user', asked for 'post'"):
        IdMap(path, namespace="post")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.ids"
    users = IdMap(path)
    users.ids(["a", "b"])
    users.save()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-20], whole.replace(b'"a"', b'"c"'), b"{}\n", b"\xff\n" * 3):
        path.write_bytes(damaged)
        with pytest.raises(SnapshotError, match=r"users\.ids: not a readable id map"):
            IdMap(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users.ids"
    users = IdMap(path)
    users.id("a")
    users.save()
    before = path.read_bytes()
    users.id("b")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        users.save()
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_somebody_elses_change_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "users.ids"
    first, second = IdMap(path), IdMap(path)
    first.id("a")
    first.save()
    second.id("b")
    with pytest.raises(SnapshotError, match="changed by another process"):
        second.save()


def test_threads_agree() -> None:
    users = IdMap()
    keys = [f"user {index}" for index in range(400)]
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(users.ids(keys).tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(result == results[0] for result in results) and len(users) == 400

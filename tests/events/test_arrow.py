"""Arrow and Parquet there and back."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.conftest import EVENTS
from xfast.errors import DataError, ParameterError
from xfast.events import (
    SCHEMAS,
    EventBatch,
    Follow,
    NetworkEvent,
    arrow_schema,
    from_arrow,
    read_parquet,
    scan_parquet,
    to_arrow,
    write_parquet,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_every_kind_there_and_back(one_of_each: list[NetworkEvent], tmp_path: Path) -> None:
    batch = EventBatch.from_events(one_of_each)
    table = to_arrow(batch)
    assert table.schema.equals(arrow_schema(), check_metadata=True)
    table.validate(full=True)
    assert list(from_arrow(table)) == one_of_each
    write_parquet(batch, tmp_path / "events.parquet")
    assert list(read_parquet(tmp_path / "events.parquet")) == one_of_each
    pieces = list(scan_parquet(tmp_path / "events.parquet", rows=4))
    assert [len(piece) for piece in pieces[:2]] == [4, 4]
    assert list(EventBatch.concat(pieces)) == one_of_each
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


@settings(max_examples=25)
@given(st.lists(EVENTS, max_size=8))
def test_there_and_back(events: list[NetworkEvent]) -> None:
    assert list(from_arrow(to_arrow(EventBatch.from_events(events)))) == events


def test_defaults_and_absent_fields_are_null() -> None:
    table = to_arrow(EventBatch.from_events([NetworkEvent(Follow(0, 2), 1)]))
    # A user id of 0 is an ordinary id where it is required (API.md "Ids").
    assert table["user_id"].to_pylist() == [0] and table["post_id"].to_pylist() == [None]
    assert table["kind"].to_pylist() == ["follow"]


def test_a_field_name_has_one_type_and_lists_belong_to_one_kind() -> None:
    types: dict[str, str] = {}
    lists: list[str] = []
    for schema in SCHEMAS.values():
        for field in schema:
            assert types.setdefault(field.name, repr(field.column)) == repr(field.column)
            lists += [field.name] * field.column.ragged
    assert len(lists) == len(set(lists))


def test_other_peoples_tables_are_cast_and_checked() -> None:
    table = pa.table({"event_id": [1, 2], "time_ms": [5, 6], "kind": ["follow", "follow"], "user_id": [1, 2]})
    with pytest.raises(DataError, match="column 'target_user_id' is missing"):
        from_arrow(table)
    whole = table.append_column("target_user_id", pa.array([3, 4]))
    assert [event.body for event in from_arrow(whole)] == [Follow(1, 3), Follow(2, 4)]
    holes = table.append_column("target_user_id", pa.array([3, None]))
    with pytest.raises(DataError, match="'target_user_id' is null in row 1"):
        from_arrow(holes)
    with pytest.raises(DataError, match="column 'kind' is missing"):
        from_arrow(table.drop_columns(["kind"]))
    with pytest.raises(DataError, match="kind 'like' is not one of"):
        from_arrow(whole.set_column(2, "kind", pa.array(["like", "follow"])))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.parquet: not a readable Parquet file"):
        read_parquet(tmp_path / "missing.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"junk\.parquet"):
        read_parquet(tmp_path / "junk.parquet")
    pq.write_table(pa.table({"time_ms": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="'event_id' is missing") as caught:
        read_parquet(tmp_path / "other.parquet")
    assert "other.parquet" in caught.value.__notes__[0]


def test_a_large_batch_keeps_its_columns() -> None:
    count = 5_000
    rng = np.random.default_rng(1)
    batch = EventBatch.of(
        *("engagement", np.arange(count)), user_id=rng.integers(0, 9, count), post_id=np.arange(count), action=1
    )
    again = from_arrow(to_arrow(batch)).columns("engagement")
    for name in again:
        assert np.array_equal(again[name], batch.columns("engagement")[name]), name


def test_pyarrow_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ParameterError, match=r"pip install 'xfast\[data\]'"):
        to_arrow(EventBatch.empty())

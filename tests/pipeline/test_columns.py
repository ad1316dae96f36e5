"""Columns, ragged columns, and batches that gather lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.toys import Numbers, numbers
from xfast.errors import DataError
from xfast.pipeline import Column, Ragged

ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(-100, 100)},
        optional={
            "score": st.one_of(st.none(), st.floats(-5, 5)),
            "name": st.one_of(st.none(), st.text(max_size=3)),
            "tags": st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=4)),
        },
    ),
    max_size=12,
)


def clean(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def show(batch: Numbers) -> list[dict[str, Any]]:
    one_by_one = [batch.row(row) for row in range(len(batch))]
    assert repr(batch.to_rows()) == repr(one_by_one)  # repr: also of the same types, in the same order
    return clean([{k: v for k, v in row.items() if k != "pair"} for row in batch.to_rows()])


@given(ROWS)
def test_rows_come_back(rows: list[dict[str, Any]]) -> None:
    assert show(Numbers.from_rows(rows)) == clean(rows)


@given(ROWS, st.data())
def test_take_concat_and_overwrite_match_lists(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    batch, expected = Numbers.from_rows(rows), clean(rows)
    for _ in range(3):
        count = len(expected)
        indices = data.draw(st.lists(st.integers(0, max(count - 1, 0)), max_size=8 if count else 0))
        other = data.draw(ROWS)
        batch = Numbers.concat([batch.take(indices), Numbers.from_rows(other)])
        expected = [expected[index] for index in indices] + clean(other)
        mask = np.array([data.draw(st.booleans()) for _ in expected], np.bool_)
        batch = batch.with_columns({"score": np.arange(len(expected), dtype=np.float64)}, ok=mask)
        expected = [
            {**row, "score": float(at)} if chosen else row
            for at, (row, chosen) in enumerate(zip(expected, mask, strict=True))
        ]
        assert show(batch) == expected


def test_a_view_reads_what_was_written_after_it() -> None:
    batch = numbers(1, 2, 3).take([2, 0])
    written = batch.with_columns({"score": np.array([0.5, 0.25])})
    assert written.take([1]).values("score").tolist() == [0.25]
    assert written.take([1]).values("id").tolist() == [1]
    assert not batch.has("score")


def test_a_partial_update_keeps_lists() -> None:
    batch = Numbers.from_rows([{"id": 1, "tags": [1]}, {"id": 2, "tags": [2, 3]}])
    merged = batch.with_columns({"tags": [[9, 9], [8]]}, ok=np.array([False, True]))
    assert [merged.ragged("tags").item(row) for row in range(2)] == [[1], [8]]


def test_unset_is_not_empty() -> None:
    ragged = Ragged.from_lists([None, [], [4]], np.int64)
    assert [ragged.item(row) for row in range(3)] == [None, [], [4]]
    assert ragged.owners().tolist() == [2]
    column = Column(np.array([1, 2]), np.array([True, False]))
    assert [column.item(0), column.item(1)] == [1, None]
    assert column.filled(0).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Numbers({"nope": [1]}), "has no column 'nope'"),
        (lambda: Numbers({"id": [1], "score": [1.0, 2.0]}), "has 2 rows, must have 1"),
        (lambda: Numbers({"pair": [1.0]}), r"must be \[N, 2\]"),
        (lambda: numbers(1).with_columns({"score": [1.0, 2.0]}), "has 2 rows, the batch has 1"),
        (lambda: numbers(1).ragged("id"), "is not ragged"),
        (lambda: numbers(1).column("tags"), "is ragged"),
        (lambda: numbers(1).column("nope"), "has no column"),
    ],
)
def test_errors_name_the_column(make: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()

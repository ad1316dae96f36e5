from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.phoenix.models import tiny_config
from xfast.errors import ParameterError
from xfast.phoenix.config import HashFamily
from xfast.phoenix.hashing import hash_ids, rows_of, unified_rows

EDGES = [0, 1, 2, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 2, 2**64 - 1]
INT64 = st.integers(-(2**63), 2**63 - 1)


def definition(ids: list[int], family: HashFamily, vocab: int) -> list[list[int]]:
    """PHOENIX §1 in Python integers, with the wrap written out."""

    def wrap(value: int) -> int:
        return (value + 2**63) % 2**64 - 2**63

    return [
        [0 if i == 0 else wrap(i * scale + bias) % family.modulus % (vocab - 1) + 1
         for scale, bias in zip(family.scales, family.biases, strict=True)]
        for i in ids
    ]  # fmt: skip


@given(
    ids=st.lists(st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1)), max_size=40),
    constants=st.lists(st.tuples(INT64, INT64), min_size=1, max_size=4),
    modulus=st.one_of(
        st.integers(1, 2**63 - 1), st.integers(1, 2**33), st.sampled_from([1, 2, 2**32, 2**62, 2**63 - 1])
    ),
    vocab=st.one_of(st.integers(2, 2**31 - 1), st.integers(2, 9), st.sampled_from([2, 3, 2**31 - 1])),
)
@example(ids=EDGES * 5, constants=[(1, 0), (-1, -1)], modulus=2**63 - 1, vocab=2**31 - 1)
@example(ids=EDGES * 5, constants=[(2161410491, 1935840681)], modulus=2361375383, vocab=1_000_000)
@example(ids=EDGES * 5, constants=[(2**63 - 1, -(2**63))], modulus=1, vocab=2)
def test_equals_the_definition(ids: list[int], constants: list[tuple[int, int]], modulus: int, vocab: int) -> None:
    family = HashFamily(tuple(c[0] for c in constants), tuple(c[1] for c in constants), modulus)
    rows = hash_ids(np.array(ids, np.uint64), family, vocab)
    assert rows.dtype == np.int32
    assert rows.shape == (len(ids), len(constants))
    assert rows.tolist() == definition(ids, family, vocab)
    signed = np.array(ids, np.uint64).view(np.int64)
    assert (hash_ids(signed, family, vocab) == rows).all()


def test_shapes_and_number_of_hashes() -> None:
    config = tiny_config(num_author_hashes=3)
    ids = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    rows = rows_of(ids, "author", config)
    assert rows.shape == (2, 3, 4, 3)
    assert (rows[0, 0, 0] == 0).all()
    assert (rows_of(ids[:, ::2], "author", config) == rows[:, ::2]).all()
    assert (rows.reshape(-1, 3)[1:] > 0).all()
    assert (hash_ids(ids, config.author_hash, 37, 1) == rows[..., :1]).all()
    with pytest.raises(ParameterError, match=r"num_hashes is 4, must be in 1 \.\. 3"):
        hash_ids(ids, config.author_hash, 37, 4)
    with pytest.raises(ParameterError, match="ids"):
        rows_of([1.5], "user", config)


def test_unified_numbering_starts_after_65_zero_rows() -> None:
    config = tiny_config()
    rows = np.array([0, 1, 30], np.int32)
    assert unified_rows(rows, "user", config).tolist() == [0, 66, 95]
    assert unified_rows(rows, "item", config).tolist() == [0, 66 + 31, 95 + 31]
    assert unified_rows(rows, "author", config).tolist() == [0, 66 + 31 + 41, 95 + 31 + 41]

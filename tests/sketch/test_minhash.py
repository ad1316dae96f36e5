"""MinHash: exact set behaviour, and accuracy against theory."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import DataError, ParameterError
from xfast.sketch import MinHash, jaccard, jaccard_column, signatures

IDS = st.lists(st.integers(0, 2**64 - 1), max_size=600)


@given(IDS, IDS, st.sampled_from([1, 7, 128, 256]), st.integers(0, 2**64 - 1))
def test_a_sketch_depends_on_the_set_alone(a: list[int], b: list[int], num_positions: int, seed: int) -> None:
    whole = MinHash([*a, *b], num_positions=num_positions, seed=seed)
    grown = MinHash(a, num_positions=num_positions, seed=seed)
    for each in b[:3]:
        grown.add([each])
    grown.add(np.array(b[3:], np.uint64))
    merged = MinHash(b[::-1] + b, num_positions=num_positions, seed=seed)
    merged.merge(MinHash(a, num_positions=num_positions, seed=seed))
    assert whole == grown == merged == MinHash.from_bytes(whole.to_bytes()) == pickle.loads(pickle.dumps(whole))
    assert whole.is_empty == (not a and not b)
    rows = signatures([*a, *b], [0, len(a), len(a) + len(b)], num_positions=num_positions, seed=seed)
    assert (rows[1] == MinHash(b, num_positions=num_positions, seed=seed).signature()).all()
    whole.rebuild(a)
    assert (rows[0] == whole.signature()).all()
    # No position of a non-empty set is left empty, even with one member.
    assert (rows == 2**32 - 1).all(axis=1).tolist() == [not a, not b]
    assert (rows == 2**32 - 1).any(axis=1).tolist() == [not a, not b]


@pytest.mark.parametrize("num_positions", [128, 256])
@pytest.mark.parametrize("size", [20, 300, 3000])
@pytest.mark.parametrize("target", [0.1, 0.5, 0.9])
def test_estimates_are_within_theory(num_positions: int, size: int, target: float) -> None:
    """Unbiased, and no wider than K independent hashes: sqrt(J (1 - J) / K)."""
    pairs = 200
    rng = np.random.default_rng(size)
    common = round(2 * size * target / (1 + target))
    pools = rng.integers(0, 2**63, (pairs, 2 * size - common))
    ids = np.concatenate([pools[:, :size], pools[:, size - common :]], axis=1).ravel()
    rows = signatures(ids, np.arange(2 * pairs + 1) * size, num_positions=num_positions)
    estimates = np.array([jaccard_column(rows[2 * i], rows[2 * i + 1 : 2 * i + 2])[0] for i in range(pairs)])
    truth = common / (2 * size - common)
    theory = np.sqrt(truth * (1 - truth) / num_positions)
    assert abs(estimates.mean() - truth) < 4 * theory / np.sqrt(pairs)
    assert estimates.std() < theory * (1 + 4 / np.sqrt(2 * pairs))


def test_one_viewer_against_a_column_of_authors() -> None:
    rng = np.random.default_rng(3)
    viewer = rng.integers(0, 2**63, 500)
    authors = [viewer, viewer[:250], rng.integers(0, 2**63, 500), []]
    sketches = [MinHash(ids) for ids in authors]
    column = np.stack([sketch.signature() for sketch in sketches])
    got = jaccard_column(MinHash(viewer).signature(), column)
    assert got.dtype == np.float64
    assert got[0] == 1.0 and abs(got[1] - 0.5) < 0.13 and got[2] < 0.05 and got[3] == 0.0
    assert [MinHash(viewer).jaccard(each) for each in sketches] == got.tolist()
    assert jaccard_column(MinHash([]).signature(), column).tolist() == [0.0] * 4
    assert jaccard_column(MinHash(viewer).signature(), column[:0]).shape == (0,)
    # Any length, also one that no vector register divides.
    for length in (1, 5, 31, 33, 129):
        equal = (column[:, :length] == column[1, :length]).mean(axis=1)
        assert jaccard_column(column[1, :length], column[:, :length]) == pytest.approx(equal, abs=0)


def test_vectors(shared: Path) -> None:
    suites = json.loads((shared / "vectors" / "home_mixer.json").read_text())["suites"]
    for case in suites["mutual_follow_jaccard"]["cases"]:
        assert jaccard(case["input"]["a"], case["input"]["b"]) == pytest.approx(case["expected"]["jaccard"], rel=1e-9)


def test_plain_jaccard_of_hashes() -> None:
    assert jaccard([1, 2, 3, 4], [1, 2, 9, 4]) == 0.75
    assert jaccard([1, 2], [1, 2, 3]) == 1.0
    assert jaccard([], [1]) == 0.0
    assert jaccard([2**64 - 1], np.array([-1])) == 1.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MinHash(num_positions=0), ParameterError, "num_positions is 0, must be an int of 1 to 256"),
        (lambda: MinHash(num_positions=257), ParameterError, "num_positions is 257"),
        (lambda: MinHash(seed=-1), ParameterError, "seed is -1"),
        (lambda: MinHash([1.5]), ParameterError, "ids must hold integers"),
        (lambda: MinHash(seed=1).merge(MinHash()), ParameterError, "other has 256 positions and seed 0"),
        (lambda: MinHash().jaccard(MinHash(num_positions=3)), ParameterError, "other has 3 positions"),
        (lambda: signatures([1, 2], [0, 1]), ParameterError, "offsets must ascend from 0 to"),
        (lambda: signatures([1, 2], [0, 2, 1, 2]), ParameterError, "offsets must ascend"),
        (lambda: jaccard_column(np.zeros(4), np.zeros((1, 4))), ParameterError, "must be uint32"),
        (lambda: jaccard_column(np.zeros(4, "u4"), np.zeros((1, 5), "u4")), ParameterError, "have shapes"),
        (lambda: MinHash.from_bytes(b"XMH1"), DataError, "no MinHash sketch"),
        (lambda: MinHash.from_bytes(b"?" * 20), DataError, "no MinHash sketch"),
    ],
)
def test_bad_arguments(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]

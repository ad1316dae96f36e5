"""Bloom filters: never a false negative, the promised rate, and schemes of others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import DataError, ParameterError
from xfast.sketch import BloomFilter, contains_any, register_scheme
from xfast.sketch.bloom import _SCHEMES


class DecimalScheme:
    """A scheme as a stranger would write it."""

    def hash_count(self, bits: int, size_cap: int) -> int:
        return 2

    def positions(self, ids: np.ndarray, bits: int, hashes: int) -> np.ndarray:
        return np.stack([ids % np.uint64(bits), ids // np.uint64(10) % np.uint64(bits)], axis=1)


@pytest.fixture(autouse=True, scope="module")
def decimal_scheme() -> object:
    register_scheme("decimal", DecimalScheme())
    yield
    _SCHEMES.clear()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 5), st.integers(1, 1000))
def test_never_a_false_negative(ids: list[int], words: int, size_cap: int) -> None:
    for scheme in ("xfast", "decimal"):
        filter_ = BloomFilter(np.zeros(words, np.uint64), size_cap, 0.01, scheme=scheme)
        filter_.add(ids)
        assert filter_.contains(ids).all()
        again = BloomFilter.from_bytes(filter_.to_bytes())
        assert again == filter_ == pickle.loads(pickle.dumps(filter_))
        assert (again.scheme, again.size_cap, again.false_positive_rate) == (scheme, size_cap, 0.01)
        assert again.contains(ids).all()


@pytest.mark.parametrize("rate", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("size_cap", [10, 1000, 20_000])
def test_the_promised_rate(rate: float, size_cap: int) -> None:
    rng = np.random.default_rng(size_cap)
    filter_ = BloomFilter.sized(size_cap, rate)
    filter_.add(rng.integers(0, 2**62, size_cap))
    strangers = rng.integers(2**62, 2**63, 100_000)
    # Whole words leave room at small sizes; above, the rate is met within sampling and the usual few per cent.
    assert filter_.contains(strangers).mean() < rate * 1.1 + 4 * np.sqrt(rate / 100_000)
    if size_cap > 100:
        assert filter_.contains(strangers).mean() > rate * 0.7


def test_parameters_of_the_spec() -> None:
    filter_ = BloomFilter(np.zeros(10, np.uint64), 64, 0.05)
    assert filter_.bit_count == 640
    assert filter_.hash_count == round(np.log(2) * 640 / 64) == 7
    assert BloomFilter(np.zeros(1, np.uint64), 10**6, 0.05).hash_count == 1
    # Small ids that differ by little are spread as well as random ones.
    filter_ = BloomFilter.sized(1000, 0.01)
    filter_.add(np.arange(1000))
    assert filter_.contains(np.arange(1000, 101_000)).mean() == pytest.approx(0.01, rel=0.2)


def test_several_filters_and_empty_ones() -> None:
    a, b = BloomFilter.sized(10, 1e-6), BloomFilter.sized(10, 1e-6)
    a.add([1])
    b.add([4])
    empty = BloomFilter([], 10, 0.01)
    assert contains_any([a, empty, b], [3, 4, 1]).tolist() == [False, True, True]
    assert contains_any([], [3, 4]).tolist() == [False, False]
    assert empty.contains([1, 2]).tolist() == [False, False]
    assert BloomFilter([], 10, 0.01, scheme="decimal").contains([1]).tolist() == [False]
    assert a.contains([]).shape == (0,)


def test_words_are_copied() -> None:
    words = np.zeros(4, np.uint64)
    BloomFilter(words, 10, 0.01).add([1])
    assert not words.any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BloomFilter([0], 0, 0.01), ParameterError, "size_cap is 0"),
        (lambda: BloomFilter([0], 1, 1.0), ParameterError, "false_positive_rate is 1.0"),
        (lambda: BloomFilter([0], 1, 0.5, scheme="?"), ParameterError, "scheme is '\\?'"),
        (lambda: BloomFilter([], 1, 0.5).add([1]), ParameterError, "the filter has no words"),
        (lambda: BloomFilter([0], 1, 0.5).contains([1.5]), ParameterError, "ids must hold integers"),
        (lambda: register_scheme("xfast", DecimalScheme()), ParameterError, "name is 'xfast'"),
        (lambda: register_scheme("decimal", DecimalScheme()), ParameterError, "name is 'decimal'"),
        (lambda: BloomFilter.from_bytes(b""), DataError, "no Bloom filter"),
        (lambda: BloomFilter.from_bytes(b"XBF1\x05xfast123"), DataError, "no Bloom filter"),
    ],
)
def test_bad_arguments(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]

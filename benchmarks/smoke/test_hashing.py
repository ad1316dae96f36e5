"""Smoke benchmarks of id hashing, and the calibration that the others are divided by."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfast.phoenix import _native

IDS = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 100_000, np.int64)


def test_calibration(benchmark: Any) -> None:
    """A fixed NumPy workload (sort and sum of 100,000 integers): the unit of the committed medians."""
    assert benchmark(lambda: int(np.sort(IDS)[0])) < 0


def test_hash_ids(benchmark: Any) -> None:
    rows = benchmark(_native.hash_ids, IDS, [196742702, 1852108266], [1935840681, 167407236], 2859568897, 1_000_000)
    assert rows.shape == (100_000, 2)

"""MinHash and Bloom filters; rivals rensa and datasketch with their digests, NumPy for the comparison of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from xfast.sketch import BloomFilter, MinHash, jaccard_column, signatures

_RNG = np.random.default_rng(0)


class Signature:
    """The signature of one follow list; rensa is lazy, so its digest is asked for."""

    params = ([100, 1000, 5000], [128, 256])
    param_names = ("ids", "positions")

    def setup(self, count: int, positions: int) -> None:
        self.ids = np.random.default_rng(count).integers(0, 2**63, count).astype(np.uint64)
        self.list = self.ids.tolist()
        self.texts = [each.to_bytes(8, "little") for each in self.list]
        self.sketch = MinHash(self.ids, num_positions=positions)

    def time_signature(self, count: int, positions: int) -> None:
        MinHash(self.ids, num_positions=positions).signature()

    def time_one_more_follow(self, count: int, positions: int) -> None:
        self.sketch.add(self.ids[:1])

    def time_rival_rensa(self, count: int, positions: int) -> None:
        import rensa

        sketch = rensa.RMinHash(positions, 0)
        sketch.update(self.texts)
        sketch.digest()

    def time_rival_datasketch(self, count: int, positions: int) -> None:
        import datasketch

        sketch = datasketch.MinHash(positions)
        sketch.update_batch(self.texts)
        sketch.digest()

    def track_error_over_theory(self, count: int, positions: int) -> float:
        """Standard deviation of 300 estimates at J = 1/3, as a multiple of sqrt(J (1 - J) / K)."""
        pairs = 300
        pools = np.random.default_rng(7).integers(0, 2**63, (pairs, count + count // 2))
        half = count // 2
        ids = np.concatenate([pools[:, :count], pools[:, half : half + count]], axis=1).ravel()
        rows = signatures(ids, np.arange(2 * pairs + 1) * count, num_positions=positions)
        truth = (count - half) / (count + half)
        return float((rows[::2] == rows[1::2]).mean(axis=1).std() / np.sqrt(truth * (1 - truth) / positions))


class Jaccard:
    """One viewer against 1,000 authors."""

    params = ([128, 256],)
    param_names = ("positions",)

    def setup(self, positions: int) -> None:
        self.column = _RNG.integers(0, 2**32 - 1, (1000, positions)).astype(np.uint32)
        self.viewer = self.column[3].copy()

    def time_column(self, positions: int) -> None:
        jaccard_column(self.viewer, self.column)

    def time_rival_numpy(self, positions: int) -> None:
        (self.column == self.viewer).mean(axis=1)

    def time_rival_rensa(self, positions: int) -> None:
        for other in self._rensa(positions):
            self._one.jaccard(other)

    def _rensa(self, positions: int) -> Any:
        if not hasattr(self, "_others"):
            import rensa

            self._one, *self._others = (rensa.RMinHash(positions, 0) for _ in range(1001))
            for number, sketch in enumerate([self._one, *self._others]):
                sketch.update([bytes([number % 256, step]) for step in range(20)])
        return self._others


class Bloom:
    """The previously-seen filter: 2,800 candidates with up to three related ids, four entries of impressions."""

    def setup(self) -> None:
        self.filters = [BloomFilter.sized(2048, 0.01) for _ in range(4)]
        for filter_ in self.filters:
            filter_.add(_RNG.integers(0, 2**63, 2048))
        self.ids = _RNG.integers(0, 2**63, 8400).astype(np.uint64)

    def time_contains(self) -> None:
        self.filters[0].contains(self.ids)

    def time_contains_any_of_four(self) -> None:
        from xfast.sketch import contains_any

        contains_any(self.filters, self.ids)

    def time_add_2048(self) -> None:
        BloomFilter.sized(2048, 0.01).add(self.ids[:2048])

    def track_false_positives(self) -> float:
        return float(self.filters[0].contains(_RNG.integers(0, 2**63, 200_000)).mean())

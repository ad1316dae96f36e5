"""Post age against the rule written out, one pair at a time (PHOENIX §2.5)."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from xfast.phoenix.features import post_age_bucket

SECONDS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(0, 400_000), st.just(0))


def bucket(impression: int, created: int, granularity: int) -> int:
    age = (impression - created + 2**31) % 2**32 - 2**31  # 32-bit arithmetic wraps
    minutes = math.floor(age / 60)
    if minutes < 0 or impression == 0 or created == 0:
        return 0
    return min(max(math.floor(minutes / granularity) + 1, 0), 4800 // granularity + 1)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=20), st.sampled_from([1, 7, 60, 4799, 4800]))
@example([(100, 101), (100, 100), (60, 1), (61, 1), (288_001, 1), (287_940, 1), (5, 0), (0, 5)], 60)
@example([(2**31 - 1, -1), (2**31 - 1, 1), (-(2**31), 5)], 60)
def test_post_age_buckets(pairs: list[tuple[int, int]], granularity: int) -> None:
    impressions, created = np.array(pairs, np.int32).T
    expected = [bucket(i, c, granularity) for i, c in pairs]
    assert post_age_bucket(impressions, created, granularity).tolist() == expected
    assert post_age_bucket(impressions.astype(np.int64), created.astype(np.int64), granularity).tolist() == expected

"""The synthetic 18-action pool: uniform base probabilities, tilted by topic (RESEARCH §4)."""

from __future__ import annotations

from typing import Final

import numpy as np

from xfast.actions import RESEARCH18
from xfast.errors import ParameterError
from xfast.research import space
from xfast.research.environment import F64, I64, Environment

# The seed of every published run whose seed is known; chosen before looking at what it gives.
SEED = 42
TOPICS: Final = ("sports", "tech", "politics_left", "politics_right", "entertainment", "news")
_POLITICS = {"favorite": 1.3, "repost": 1.8, "reply": 2.0, "block_author": 2.5, "report": 2.0}
MULTIPLIERS: Final[dict[str, dict[str, float]]] = {
    "sports": {"favorite": 1.5, "repost": 1.3, **dict.fromkeys(space.NEGATIVE, 0.3)},
    "tech": {"favorite": 1.2, "reply": 1.4},
    "politics_left": _POLITICS,
    "politics_right": _POLITICS,
    "entertainment": {"favorite": 1.8, "share": 1.5, **dict.fromkeys(space.NEGATIVE, 0.2)},
    "news": {"follow_author": 1.3, "reply": 1.2},
}


def topic_multipliers() -> F64:
    """``[6, 18]`` factor of every action in every topic."""
    table = np.ones((len(TOPICS), len(space.ACTIONS)))
    for row, topic in enumerate(TOPICS):
        for action, factor in MULTIPLIERS[topic].items():
            table[row, RESEARCH18.column(action)] = factor
    return table


def pool(items: int, rng: np.random.Generator) -> tuple[F64, I64]:
    """Action probabilities ``[items, 18]`` and topics.

    Probabilities are U(.05, .3) times the topic's factors, clipped to [0, 1]; topics are uniform. Neither the order in
    which the published pools were drawn nor their seed is known, so no study may lean on one pool (RESEARCH §4).
    """
    if items < 2:
        raise ParameterError(f"items is {items}; a pool needs at least 2")
    base = rng.uniform(0.05, 0.3, (items, len(space.ACTIONS)))
    topics = rng.integers(0, len(TOPICS), items)
    features = np.clip(base * topic_multipliers()[topics], 0.0, 1.0)
    return features.astype(np.float32).astype(np.float64), topics.astype(np.int64)


def environment(items: int = 500, *, seed: int = SEED) -> Environment:
    """Synthetic pool with the three stakeholders of utility set B."""
    features, topics = pool(items, np.random.default_rng(seed))
    return Environment("synthetic", features, topics, space.stakeholders_b(), facts={"pool": items})


def environments(items: int, count: int) -> list[Environment]:
    """`count` independent pools, for results that must not depend on one of them."""
    return [environment(items, seed=SEED + 1_000 * (number + 1)) for number in range(count)]


def calibration_targets(features: F64) -> F64:
    """Calibration target of an 18-action item: ``clip(sum(positive) / 5 + 0.3, 0, 1)`` (RESEARCH §3)."""
    return np.asarray(np.clip(features[:, space.POSITIVE_MASK].sum(axis=1) / 5.0 + 0.3, 0.0, 1.0))

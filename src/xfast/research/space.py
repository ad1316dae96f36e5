"""The 18-action space: names, groups, and the linear utilities that stakeholders put on it (RESEARCH §1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xfast.actions import RESEARCH18

F64 = NDArray[np.float64]

# The order of RESEARCH §1; names are the canonical ones of `xfast.actions`, aliases ("repost") are understood.
ACTIONS: Final[tuple[str, ...]] = tuple(name for name, _ in RESEARCH18)

# The paper's table also counts "quote" as positive; the labels of every result file do not.
POSITIVE: Final = ("favorite", "repost", "follow_author", "share", "reply")
NEGATIVE: Final = ("block_author", "mute_author", "report", "not_interested")


def vector(weights: Mapping[str, float]) -> F64:
    """Spread named action weights over the 18 columns; actions that are not named weigh 0.

    Raises
    ------
    ParameterError
        A name is not an action, or has no column among the 18.
    """
    out = np.zeros(len(ACTIONS))
    for name, value in weights.items():
        out[RESEARCH18.column(name)] = value
    return out


def mask(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Boolean column mask ``[18]`` of the named actions."""
    chosen = np.zeros(len(ACTIONS), np.bool_)
    chosen[[RESEARCH18.column(name) for name in names]] = True
    return chosen


POSITIVE_MASK: Final = mask(POSITIVE)
NEGATIVE_MASK: Final = mask(NEGATIVE)

# Weights a platform might pick by hand (RESEARCH §1).
HAND_WEIGHTS: Final = vector(
    dict(
        zip(
            ACTIONS,
            (1, 0.5, 0.8, 0.1, 0.2, 0.3, 0.1, 0.6, 0.4, 0.3, 0.1, 0.7, 0.2, 1.2, -0.5, -1.5, -1.0, -2.0),
            strict=True,
        )
    )
)

# Utility set A (RESEARCH §1): what a slate is worth, used to evaluate frontiers on the synthetic network.
USER_A: Final = vector(
    {
        "favorite": 1.0,
        "repost": 0.8,
        "reply": 0.5,
        "share": 0.9,
        "follow_author": 1.2,
        "quote": 0.6,
        "block_author": -2.0,
        "mute_author": -1.5,
        "report": -2.5,
        "not_interested": -1.0,
    }
)
PLATFORM_A: Final = vector(
    {
        "favorite": 1.0,
        "reply": 1.2,
        "repost": 1.5,
        "photo_expand": 0.3,
        "click": 0.5,
        "profile_click": 0.6,
        "vqv": 0.4,
        "share": 1.3,
        "share_via_dm": 1.4,
        "share_via_copy_link": 1.2,
        "dwell": 0.2,
        "quote": 1.3,
        "quoted_click": 0.4,
        "follow_author": 1.0,
        "not_interested": 0.1,
        "block_author": 0.1,
        "mute_author": 0.1,
        "report": 0.2,
    }
)

# Utility set B: U = sum(positive) - alpha * sum(negative). The only thing that tells stakeholders apart is alpha.
ALPHA: Final[Mapping[str, float]] = {"user": 1.0, "platform": 0.3, "society": 4.0}


def alpha_weights(alpha: float) -> F64:
    """Utility set B for one aversion `alpha` to negative actions, shape ``[18]``."""
    return np.where(POSITIVE_MASK, 1.0, np.where(NEGATIVE_MASK, -alpha, 0.0))


def stakeholders_b() -> dict[str, F64]:
    """The three stakeholders of utility set B: user, platform, society."""
    return {name: alpha_weights(alpha) for name, alpha in ALPHA.items()}


def platform_retention(actions: F64) -> F64:
    """Retention term of the platform in set A: ``clip(0.8 (1 - 0.5 N / (P + 0.1)), 0, 1)``.

    P sums favorite, repost and follow; N sums block, mute and report. `actions` is ``[..., 18]``.
    """
    gain = actions[..., mask(("favorite", "repost", "follow_author"))].sum(-1)
    harm = actions[..., mask(("block_author", "mute_author", "report"))].sum(-1)
    return np.asarray(np.clip(0.8 * (1.0 - 0.5 * harm / (gain + 0.1)), 0.0, 1.0))


def initial_weights() -> F64:
    """Where 18-action training starts: +1 on positive, -1 on negative, 0 on neutral actions (RESEARCH §3)."""
    return np.where(POSITIVE_MASK, 1.0, np.where(NEGATIVE_MASK, -1.0, 0.0))

"""A small synthetic network for the set-level studies: users of six archetypes, items of six topics (RESEARCH §5)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xfast.errors import ParameterError
from xfast.research import frontier, space, synthetic
from xfast.research.environment import F64, I64

LEFT, RIGHT = 2, 3
SCORER = space.vector({"favorite": 1.0, "repost": 0.8, "follow_author": 0.5})


@dataclass(frozen=True)
class Network:
    """Action probabilities of every user on every item.

    Attributes
    ----------
    items
        ``[I, 18]`` base probabilities.
    topics
        ``[I]``; 2 and 3 are the two sides of politics.
    archetypes
        ``[U]`` favourite topic of each user.
    boost
        Factor on positive actions in the favourite topic; the opposite side's politics gets it on negative actions.
    """

    items: F64
    topics: I64
    archetypes: I64
    boost: float

    @cached_property
    def kinds(self) -> F64:
        """Probabilities ``[6, I, 18]`` of an archetype on every item."""
        out = np.repeat(self.items[None], 6, axis=0)
        for archetype in range(6):
            own = self.topics == archetype
            out[archetype][np.ix_(own, space.POSITIVE_MASK)] *= self.boost
            opposite = {LEFT: RIGHT, RIGHT: LEFT}.get(archetype)
            if opposite is not None:
                out[archetype][np.ix_(self.topics == opposite, space.NEGATIVE_MASK)] *= self.boost
        return np.clip(out, 0.0, 1.0)

    def scores(self, weights: F64) -> F64:
        """Scores ``[6, I]`` of one weight vector ``[18]`` for every archetype."""
        return np.asarray(self.kinds @ weights)


def build(
    users: int = 600,
    items: int = 100,
    *,
    boost: float = 2.0,
    politics: float | None = None,
    alike: bool = False,
    seed: int = 0,
) -> Network:
    """Draw a network; archetypes and topics are uniform.

    Parameters
    ----------
    politics
        Share of users of the two political archetypes; None for an even draw (a third).
    alike
        Items of a topic share the topic's mean probabilities, so archetypes × topics × actions (648 numbers) say
        everything, as in the published suite of six archetypes and six topics.
    """
    if boost < 1:
        raise ParameterError(f"boost is {boost}; it must be >= 1")
    if politics is not None and not 0.0 <= politics <= 1.0:
        raise ParameterError(f"politics is {politics}; it must lie in [0, 1]")
    rng = np.random.default_rng(seed)
    base, topics = synthetic.pool(items, rng)
    archetypes = rng.integers(0, 6, users)
    if politics is not None:
        share = np.full(6, (1.0 - politics) / 4)
        share[[LEFT, RIGHT]] = politics / 2
        archetypes = rng.choice(6, users, p=share)
    if alike:
        kinds = np.unique(topics)
        base = np.stack([base[topics == kind].mean(axis=0) for kind in kinds])[np.searchsorted(kinds, topics)]
    return Network(base, topics, archetypes, boost)


def society(network: Network, slates: I64) -> F64:
    """Set-level utility of slates ``[6, ..., size]``: topic coverage / 6 minus polarisation (RESEARCH §1).

    Polarisation of a political archetype is the same-side share of its political items, 0.5 without any; other
    archetypes have none.
    """
    tags = network.topics[slates]
    coverage = np.stack([(tags == topic).any(axis=-1) for topic in range(6)]).sum(axis=0) / 6.0
    left, right = (tags == LEFT).sum(axis=-1), (tags == RIGHT).sum(axis=-1)
    political = left + right
    polarisation = np.zeros(coverage.shape)
    for side, own in ((LEFT, left), (RIGHT, right)):
        share = np.where(political > 0, own / np.maximum(political, 1), 0.5)
        polarisation[side] = share[side]
    return np.asarray(coverage - polarisation)


def judge(
    network: Network, slates: I64, *, user: F64 = space.USER_A, platform: F64 = space.PLATFORM_A
) -> dict[str, F64]:
    """Mean over users of the utilities of slates ``[6, ..., size]`` (set A, and society): name -> ``[...]``.

    Parameters
    ----------
    user, platform
        ``[18]`` weights of the two linear judges; the platform adds its retention term.
    """
    chosen = np.stack([kind[rows] for kind, rows in zip(network.kinds, slates, strict=True)])
    per_kind = {
        "user": (chosen @ user).mean(axis=-1),
        "platform": (chosen @ platform + space.platform_retention(chosen)).mean(axis=-1),
        "society": society(network, slates),
    }
    share = np.bincount(network.archetypes, minlength=6) / len(network.archetypes)
    return {name: np.asarray(np.tensordot(share, values, axes=1)) for name, values in per_kind.items()}


def serve(network: Network, weights: F64) -> dict[str, F64]:
    """Utilities of the 21-point frontier of one scorer: name -> ``[21]``."""
    return judge(network, frontier.slates(network.scores(weights), network.topics))

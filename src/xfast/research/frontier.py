"""The diversity frontier: greedy slates from pure score (delta = 0) to pure topic spread (delta = 1) (RESEARCH §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xfast.errors import ParameterError
from xfast.research.environment import F64, I64

SLATE = 10
DELTAS: tuple[float, ...] = tuple(np.linspace(0.0, 1.0, 21).tolist())


def slates(scores: F64, topics: I64, *, deltas: Sequence[float] = DELTAS, size: int = SLATE) -> I64:
    """Greedy slates of every score vector at every delta.

    Each pick maximises ``(1 - delta) score + delta / (picked of its topic + 1)``; the lowest pool index wins ties (at
    delta = 1 every item of a topic ties, and the choice decides published numbers).

    Only the `size` best items of a topic can ever be picked, so the search runs on at most ``size * topics`` items.

    Parameters
    ----------
    scores
        ``[R, I]`` (or ``[I]``) learned scores.
    topics
        ``[I]`` topic of each item.

    Returns
    -------
    ``[R, len(deltas), size]`` item rows, in picking order.

    Raises
    ------
    ParameterError
        `size` exceeds the pool, or a delta lies outside [0, 1].
    """
    scores = np.atleast_2d(scores)
    items = scores.shape[1]
    if not 1 <= size <= items:
        raise ParameterError(f"size is {size}; the pool holds {items} items, allowed is 1..{items}")
    if any(not 0.0 <= delta <= 1.0 for delta in deltas):
        raise ParameterError(f"deltas are {tuple(deltas)}; each must lie in [0, 1]")
    labels = np.unique(topics, return_inverse=True)[1]
    out = np.empty((len(scores), len(deltas), size), np.int64)
    spread = _greedy(np.zeros((1, items)), labels, np.array([1.0]), size)[0, 0] if 1.0 in deltas else None
    partial = np.array([delta for delta in deltas if delta < 1.0])
    if len(partial):
        columns = [column for column, delta in enumerate(deltas) if delta < 1.0]
        for row, each in enumerate(scores):
            keep = _contenders(each, labels, size)
            picked = _greedy(each[None, keep], labels[keep], partial, size)[0]
            out[row, columns] = keep[picked]
    for column, delta in enumerate(deltas):
        if delta == 1.0 and spread is not None:
            out[:, column] = spread
    return out


def _contenders(score: F64, labels: I64, size: int) -> I64:
    """Rows of the `size` best items of each topic, in pool order."""
    order = np.lexsort((-score, labels))
    start = np.searchsorted(labels[order], np.arange(labels.max() + 1))
    rank = np.arange(len(order)) - start[labels[order]]
    return np.sort(order[rank < size])


def _greedy(scores: F64, labels: I64, deltas: F64, size: int) -> I64:
    """Greedy picks for ``[R, C]`` scores and ``[E]`` deltas at once, ``[R, E, size]``."""
    runs, items, steps = len(scores), scores.shape[1], len(deltas)
    counts = np.zeros((runs, steps, int(labels.max()) + 1))
    base = (1.0 - deltas)[None, :, None] * scores[:, None, :]
    open_ = np.zeros((runs, steps, items))
    picks = np.empty((runs, steps, size), np.int64)
    row, column = np.ogrid[:runs, :steps]
    for step in range(size):
        gain = base + deltas[None, :, None] / (counts[:, :, labels] + 1.0) + open_
        best = gain.argmax(axis=2)
        picks[:, :, step] = best
        open_[row, column, best] = -np.inf
        counts[row, column, labels[best]] += 1.0
    return picks


def points(chosen: I64, utilities: Mapping[str, F64]) -> dict[str, F64]:
    """Summed true utility of slates ``[..., size]`` for every stakeholder, name -> ``[...]``."""
    return {name: values[chosen].sum(axis=-1) for name, values in utilities.items()}


def topic_entropy(chosen: I64, topics: I64) -> F64:
    """Entropy in bits of the topics of slates ``[..., size]``."""
    tags = topics[chosen]
    kinds = np.unique(topics)
    share = (tags[..., None] == kinds).mean(axis=-2)
    return np.asarray(-(share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=-1))

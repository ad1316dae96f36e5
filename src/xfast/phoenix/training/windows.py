"""Windows: slices of histories with the rows to predict from them, batched into fixed shapes.

A window is a slice of a user's acted rows and a list of examples, each with an *anchor*: how many of the slice's
tokens it may see. With causal context attention one pass over the slice serves all its examples, because a context
token never sees what follows (PHOENIX §3.7); with bidirectional attention a window has one anchor, its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xfast.errors import ConfigurationError
from xfast.phoenix.training.sequences import Sequences

__all__ = ["WindowBatch", "Windows"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class WindowBatch:
    """B windows with S history slots and K example slots; all entries are rows of the sequences, -1 where empty."""

    user: I32
    """[B]; -1: an empty window that fills the batch"""
    history: I64
    """[B, S], left-packed, oldest first"""
    examples: I64
    """[B, K]"""
    anchors: I32
    """[B, K] tokens that the example sees, 0 .. S"""

    def __len__(self) -> int:
        return len(self.user)


class Windows:
    """Cuts sequences into windows, anew for every epoch.

    Parameters
    ----------
    sequences
        The data.
    is_example
        [R] which rows are to be predicted.
    history_len, examples
        S and K.
    stride
        Anchors per window of a long history, at most S.
    every_prefix
        True: all anchors of a window at once (causal attention). False: windows end at their only anchor.
    shuffle_ties
        Draw the order among rows of the same user and second anew for every epoch.

    Raises
    ------
    ConfigurationError
        ``shuffle_ties`` with rows whose order means something.
    """

    def __init__(
        self,
        sequences: Sequences,
        is_example: npt.NDArray[np.bool_],
        *,
        history_len: int,
        examples: int,
        stride: int,
        every_prefix: bool = True,
        shuffle_ties: bool = False,
    ) -> None:
        self._data = sequences
        self._is_example = is_example
        self._slots = history_len
        self._examples = examples
        self._stride = stride
        self._every_prefix = every_prefix
        self._shuffle = shuffle_ties
        self._ends = _history_ends(sequences)
        if shuffle_ties:
            places = np.arange(len(sequences)) - sequences.offsets[sequences.user]
            if bool(np.any(sequences.actions == 0)) or bool(np.any(sequences.seen != places)):
                raise ConfigurationError(
                    "shuffle_ties is true, must be false for data with posts that were only shown or requests of "
                    "several posts: their order means something"
                )

    def epoch(self, rng: np.random.Generator, batch_size: int) -> Iterator[WindowBatch]:
        """All examples once, in batches of random windows; the last one is filled up with empty windows."""
        rows = np.arange(len(self._data))
        if self._shuffle:
            rows = np.lexsort((rng.random(len(rows)), self._data.time_s, self._data.user))
        windows = [w for user in range(len(self._data.users)) for w in self._cut(user, rows, rng)]
        order = rng.permutation(len(windows))
        for start in range(0, len(windows), batch_size):
            yield self._pack([windows[i] for i in order[start : start + batch_size]], batch_size)

    def _cut(
        self, user: int, rows: I64, rng: np.random.Generator
    ) -> Iterator[tuple[int, I64, I64, npt.NDArray[np.int64]]]:
        low, high = self._data.offsets[user : user + 2]
        own = rows[low:high]
        if not len(own):
            return
        tokens = own[self._data.actions[own] != 0]
        # After shuffling, a row takes the view of the place it moved to (`seen` is then the place, see __init__).
        seen = self._data.seen[low:high]
        predicted = self._is_example[own]
        examples, anchors = own[predicted], seen[predicted].astype(np.int64)
        if not len(examples):
            return
        if not self._every_prefix:
            for anchor in np.unique(anchors):
                yield from self._chunks(user, tokens, anchor, examples[anchors == anchor], anchors[anchors == anchor])
            return
        end = int(anchors.max())
        # The random phase moves the borders of a long history from epoch to epoch.
        phase = int(rng.integers(0, self._stride)) if end > self._slots else 0
        while end >= 0:
            start = max(0, end - self._slots)
            floor = 0 if start == 0 else end - (self._stride - phase if phase else self._stride) + 1
            phase = 0
            inside = (anchors >= floor) & (anchors <= end)
            if inside.any():
                yield from self._chunks(user, tokens, end, examples[inside], anchors[inside])
            end = floor - 1

    def _chunks(
        self, user: int, tokens: I64, end: int, examples: I64, anchors: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, I64, I64, npt.NDArray[np.int64]]]:
        start = max(0, end - self._slots)
        for at in range(0, len(examples), self._examples):
            part = slice(at, at + self._examples)
            yield user, tokens[start:end], examples[part], anchors[part] - start

    def _pack(self, windows: list[tuple[int, I64, I64, npt.NDArray[np.int64]]], size: int) -> WindowBatch:
        user = np.full(size, -1, np.int32)
        history = np.full((size, self._slots), -1, np.int64)
        examples = np.full((size, self._examples), -1, np.int64)
        anchors = np.zeros((size, self._examples), np.int32)
        for i, (who, tokens, wanted, seen) in enumerate(windows):
            user[i] = who
            history[i, : len(tokens)] = tokens
            examples[i, : len(wanted)] = wanted
            anchors[i, : len(wanted)] = seen
        return WindowBatch(user, history, examples, anchors)

    def at(self, rows: I64, batch_size: int) -> Iterator[tuple[I64, WindowBatch]]:
        """Each of ``rows`` as the only example of a window with the newest history it may see, as when serving.

        Yields the rows of a batch and the batch; the last one is filled up.
        """
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            windows = []
            for row in part:
                user = int(self._data.user[row])
                tokens = self.history(user, int(self._data.seen[row]))
                windows.append((user, tokens, np.array([row]), np.array([len(tokens)])))
            yield part, self._pack(windows, batch_size)

    def history(self, user: int, seen: int) -> I64:
        """The newest acted rows of a user among the first ``seen``, at most S, oldest first."""
        low, high = self._ends[0][user : user + 2]
        return self._ends[1][low:high][max(0, seen - self._slots) : seen]


def _history_ends(sequences: Sequences) -> tuple[I64, I64]:
    """Acted rows of all users, and where each user's begin."""
    acted = sequences.actions != 0
    counts = np.bincount(sequences.user[acted], minlength=len(sequences.users))
    return np.r_[0, np.cumsum(counts)].astype(np.int64), np.flatnonzero(acted).astype(np.int64)

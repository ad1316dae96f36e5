"""Digests of what an encoded context depends on: the viewer's inputs, token by token, and the model."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import xfast
from xfast.errors import ParameterError

if TYPE_CHECKING:
    from xfast.phoenix.config import PhoenixConfig
    from xfast.phoenix.features import Engagements, Keep
    from xfast.phoenix.tower import Tower

__all__ = ["DIGEST_BYTES", "InputDigest", "model_version"]

DIGEST_BYTES = 32
#: Tables of a tower up to this size enter the model version with every byte, larger ones with sampled rows.
WHOLE_TABLES_BYTES = 64 << 20
SAMPLED_ROWS = 4096


def _hasher(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES)


def _bytes_of(column: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Rows of a column [n] or [n, w] as bytes [n, width]."""
    rows = np.ascontiguousarray(column if column.ndim == 2 else column[:, None])
    return rows.view(np.uint8).reshape(len(rows), rows.shape[1] * rows.itemsize)


class InputDigest:
    """Digests of a viewer's inputs and of their prefixes.

    Covers every field of :class:`~xfast.phoenix.features.Engagements` as the ranker uses it: cut to the model's
    history, action columns beyond the model's left out, empty slots left out with the others' RoPE positions kept. A
    viewer without user and without any post has no tokens; all their slots are digested as one, since only then can an
    empty slot's content show.

    A causal context of the first n tokens is the same function of the same bits whatever follows, so equal prefix
    digests mean equal keys and values. Positions are part of every token: where an appended engagement moves the others
    (right-anchored RoPE, a full window under ``keep="newest"``), the prefix digests differ.

    Parameters
    ----------
    config
        The ranker's configuration.
    engagements, keep
        What :meth:`Ranker.encode <xfast.phoenix.ranker.Ranker.encode>` would get.
    """

    def __init__(self, config: PhoenixConfig, engagements: Engagements, keep: Keep) -> None:
        history = engagements.cut(config.history_seq_len, keep)
        if history.actions.shape[1] < config.num_actions:
            raise ParameterError(
                f"actions has {history.actions.shape[1]} columns, the model needs num_actions ({config.num_actions})"
            )
        slots = np.flatnonzero(history.post_ids)
        nothing = len(slots) == 0 and history.user_id == 0
        if config.right_anchored_rope:
            positions = 1 + config.history_seq_len - len(slots) + slots
        else:
            positions = 1 + slots
        if nothing:
            slots = positions = np.arange(len(history))
        self.slots: npt.NDArray[np.intp] = slots
        """[n] slots of the tokens in the cut history"""
        self.positions: npt.NDArray[np.int32] = positions.astype(np.int32)
        """[n] RoPE positions of the tokens"""
        optional = (history.product_surface, history.continuous)
        columns: list[npt.NDArray[Any]] = [
            self.positions, history.post_ids[slots], history.author_ids[slots],
            history.actions[slots, : config.num_actions], *(c[slots] for c in optional if c is not None),
        ]  # fmt: skip
        rows = np.hstack([_bytes_of(column) for column in columns])
        self._rows = rows[:0] if nothing else rows
        # Whatever the rows' layout and the user token depend on.
        layout = [-1 if c is None else 0 if c.ndim == 1 else c.shape[1] for c in optional]
        self._head = _hasher(struct.pack("<Q?iii", history.user_id, nothing, config.num_actions, *layout))
        for array in (history.ip_embeddings, history.ip_hashes):
            self._head.update(b"-" if array is None else repr(array.shape).encode() + array.tobytes())
        if nothing:
            self._head.update(rows.tobytes())

    def __len__(self) -> int:
        """Tokens of the history."""
        return len(self._rows)

    def prefixes(self, dropped: int) -> list[bytes]:
        """Digests without the last 0, 1, … ``dropped`` tokens (as many as there are)."""
        count = len(self)
        first = max(count - dropped, 0)
        running = self._head.copy()
        running.update(self._rows[:first].tobytes())
        digests = [running.digest()]
        for row in self._rows[first:]:
            running.update(row.tobytes())
            digests.append(running.digest())
        return digests[::-1]

    @property
    def whole(self) -> bytes:
        """Digest of everything."""
        return self.prefixes(0)[0]


def model_version(tower: Tower, identity: str, precision: str, *, deterministic: bool) -> bytes:
    """Digest of what a context's bits depend on besides the viewer.

    That is the configuration, every dense parameter, precision, engine and instruction set (``identity``), this
    package's version, and the embedding tables: completely up to 64 MB per tower, by 4,096 evenly spaced rows each
    beyond that, because reading all of a mapped table would cost more than the cache saves.
    """
    document = {
        "xfast": xfast.__version__,
        "engine": identity,
        "precision": precision,
        "deterministic": deterministic,
        "config": tower.config.to_json(),
    }
    digest = _hasher(json.dumps(document, sort_keys=True).encode())

    def add(name: str, array: npt.NDArray[Any]) -> None:
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)

    for key in sorted(tower.params):
        add(key, np.atleast_1d(tower.params[key]))
    tables = {kind: getattr(tower.tables, kind) for kind in ("user", "item", "author")}
    whole = sum(table.nbytes for table in tables.values()) <= WHOLE_TABLES_BYTES
    for kind, table in tables.items():
        rows = np.arange(len(table)) if whole else np.linspace(0, len(table) - 1, SAMPLED_ROWS).astype(np.int64)
        digest.update(repr(table.shape).encode())
        add(kind, np.asarray(table[rows], np.float32))
    return digest.digest()

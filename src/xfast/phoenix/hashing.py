"""Ids to embedding rows (PHOENIX §1): several hash functions per entity, row 0 for "no entity"."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.ids import as_int64
from xfast.phoenix import _native
from xfast.phoenix.config import HashFamily, PhoenixConfig

__all__ = ["UNIFIED_PADDING", "Kind", "hash_ids", "rows_of", "unified_rows"]

Kind = Literal["user", "item", "author"]
#: Zero rows in front of the published unified table.
UNIFIED_PADDING = 65


def hash_ids(
    ids: npt.ArrayLike, family: HashFamily, vocab: int, num_hashes: int | None = None
) -> npt.NDArray[np.int32]:
    """Rows of the embedding table for each id and hash function.

    Parameters
    ----------
    ids : integer array [...]
        Signed or unsigned 64-bit ids; unsigned ones are reinterpreted. Id 0 means "no entity".
    family
        The hash constants.
    vocab
        Rows of the table; results lie in ``1 .. vocab - 1``, and are 0 for id 0.
    num_hashes
        How many of the family's functions to use (the first ones); all by default.

    Returns
    -------
    int32 array [..., num_hashes]
    """
    count = len(family.scales) if num_hashes is None else num_hashes
    if not 1 <= count <= len(family.scales):
        raise ParameterError(f"num_hashes is {count}, must be in 1 .. {len(family.scales)}")
    array = as_int64(ids)
    flat = np.ascontiguousarray(array).reshape(-1)
    rows = _native.hash_ids(flat, list(family.scales[:count]), list(family.biases[:count]), family.modulus, vocab)
    return rows.reshape(*array.shape, count)


def rows_of(ids: npt.ArrayLike, kind: Kind, config: PhoenixConfig) -> npt.NDArray[np.int32]:
    """Rows of the ``kind`` table of a model for ids [...]: int32 [..., number of hashes of that kind]."""
    family: HashFamily = getattr(config, f"{kind}_hash")
    return hash_ids(ids, family, getattr(config, f"{kind}_vocab_size"), getattr(config, f"num_{kind}_hashes"))


def unified_rows(rows: npt.NDArray[np.int32], kind: Kind, config: PhoenixConfig) -> npt.NDArray[np.int32]:
    """Renumber split-table rows into the published unified table: 65 zero rows, then user, item, author; 0 stays 0."""
    offset = UNIFIED_PADDING
    if kind in ("item", "author"):
        offset += config.user_vocab_size
    if kind == "author":
        offset += config.item_vocab_size
    return np.where(rows == 0, 0, rows + np.int32(offset)).astype(np.int32)

"""Eight-bit model files: int8 matrices with a scale per output column or per row.

Needs no calibration data: a scale is the largest magnitude of its column or row over 127. Weights are rounded to the
nearest, rows of hash tables so that their products with the projections that read them stay close. Activations are
quantised by the engine per token as they come (docs/int8.md). What calibration data can add is in
:mod:`xfast.phoenix.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError
from xfast.phoenix.layout import RANKER, RETRIEVAL, TOWER_1
from xfast.phoenix.stored import Int8Matrix, StoredParams
from xfast.phoenix.tower import Corpus, EmbeddingTables, Tower

__all__ = [
    "CorpusStorage",
    "HeadStorage",
    "PartSize",
    "ScaleStorage",
    "check_finite",
    "compensated",
    "compensated_rows",
    "corpus_size",
    "quantize_columns",
    "quantize_corpus",
    "quantize_params",
    "quantize_rows",
    "quantize_tables",
    "quantize_tower",
    "tower_sizes",
]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]
CorpusStorage = Literal["float32", "float16", "int8"]
ScaleStorage = Literal["float32", "float16"]
HeadStorage = Literal["float16", "int8"]
_SMALLEST_HALF, _LARGEST_HALF = 2.0**-14, 65504.0  # where float16 has all its digits
_DAMPING = 0.01  # of the mean diagonal, added to it: keeps inputs that hardly vary from being trusted
_BLOCK_COLUMNS = 4096  # of a table that is compensated: what stays in the second-level cache
_BLOCK_ROWS = 1 << 16  # rows that are in memory as float32 at once


def _scales(largest: F32, storage: ScaleStorage) -> Array:
    """Scales for these largest magnitudes; float16 ones are rounded up, so that nothing exceeds 127 steps."""
    scale = largest / np.float32(127)
    if storage == "float32" or not scale.size:
        return scale
    used = scale[scale > 0]
    if used.size and not (float(used.min()) >= _SMALLEST_HALF and float(used.max()) <= _LARGEST_HALF):
        return scale
    short = scale.astype(np.float16)
    return np.where(short.astype(np.float32) < scale, np.nextafter(short, np.float16(np.inf)), short)


def _quantize(matrix: Array, axis: int, storage: ScaleStorage) -> Int8Matrix:
    blocks = [slice(at, at + _BLOCK_ROWS) for at in range(0, max(len(matrix), 1), _BLOCK_ROWS)]
    largest = []
    for block in blocks:
        dense = np.asarray(matrix[block], np.float32)
        if not np.isfinite(dense).all():
            raise ParameterError("matrix holds values that are not finite, must be finite to be quantised")
        largest.append(np.abs(dense).max(axis=axis, keepdims=True, initial=0.0))
    top = np.concatenate(largest) if axis == 1 else np.max(largest, axis=0)
    scale = _scales(top, storage)
    # A magnitude below 127 times the smallest float has no usable scale; it is 0 in eight bits.
    wide = scale.astype(np.float32)
    inverse = np.divide(1, wide, out=np.zeros_like(wide), where=wide >= np.finfo(np.float32).tiny)
    values = np.empty(matrix.shape, np.int8)
    for block in blocks:
        by = inverse[block] if axis == 1 else inverse
        values[block] = np.clip(np.rint(np.asarray(matrix[block], np.float32) * by), -127, 127)
    return Int8Matrix(values, scale)


def quantize_columns(matrix: Array, *, scales: ScaleStorage = "float32") -> Int8Matrix:
    """Quantise a matrix [R, C] with a scale per column; the error is at most max|column| / 254 per value.

    With ``scales="float16"`` they are kept so where their range allows, and the error may be 0.1 % larger.
    """
    return _quantize(matrix, 0, scales)


def quantize_rows(matrix: Array, *, scales: ScaleStorage = "float32") -> Int8Matrix:
    """Quantise a matrix [R, C] with a scale per row, in blocks of rows; otherwise as :func:`quantize_columns`."""
    return _quantize(matrix, 1, scales)


def compensated(matrix: Array, gram: npt.NDArray[np.float64]) -> Int8Matrix:
    """Quantise a matrix [R, C] per column so that products with inputs of this ``gram`` [R, R] stay close.

    Rows are rounded one by one, and each one's error is spread over the rows still to come, weighted by how their
    inputs go together: the optimal-brain-surgeon step of Hassibi and Stork (1993), in the order and with the damping
    of Frantar et al. (GPTQ, arXiv:2210.17323).

    The scales are those of :func:`quantize_columns` in float16, and every column keeps a value of magnitude 127, so
    that quantising the result again finds the same integers.
    """
    scale = quantize_columns(matrix, scales="float16").scale
    upper, order = _compensation(gram)
    return Int8Matrix(_compensate(np.asarray(matrix, np.float64), scale[0].astype(np.float64), upper, order), scale)


def compensated_rows(table: Array, gram: npt.NDArray[np.float64]) -> Int8Matrix:
    """Quantise a table [V, D] per row so that products of rows with matrices whose outer products sum to ``gram`` stay
    close; otherwise as :func:`compensated`.
    """
    scale = quantize_rows(table, scales="float16").scale
    upper, order = _compensation(gram)
    values = np.empty(table.shape, np.int8)
    upper = upper.astype(np.float32)
    for at in range(0, len(table), _BLOCK_COLUMNS):
        block = slice(at, at + _BLOCK_COLUMNS)
        columns = np.ascontiguousarray(np.asarray(table[block], np.float32).T)
        values[block] = _compensate(columns, scale[block, 0].astype(np.float32), upper, order).T
    return Int8Matrix(values, scale)


def _compensation(gram: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """What spreads errors (upper triangle), and the order of the rows."""
    diagonal = np.diag(gram)
    order = np.argsort(-diagonal, kind="stable")  # the inputs that matter most are rounded while all others can help
    damped = gram[np.ix_(order, order)] + np.eye(len(gram)) * (_DAMPING * diagonal.mean() + 1e-12)
    return np.linalg.cholesky(np.linalg.inv(damped)).T, order


def _compensate(weights: Array, scale: Array, upper: Array, order: Array) -> npt.NDArray[np.int8]:
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale >= np.finfo(np.float32).tiny)
    left = weights[order]
    values = np.zeros(left.shape, np.int8)
    for i in range(len(left)):
        rounded = np.clip(np.rint(left[i] * inverse), -127, 127)
        values[i] = rounded
        error = (left[i] - rounded * scale) / upper[i, i]
        left[i + 1 :] -= upper[i, i + 1 :, None] * error
    restored = np.empty_like(values)
    restored[order] = values
    largest = np.abs(weights).argmax(axis=0)
    columns = np.flatnonzero((np.abs(restored).max(axis=0, initial=0) < 127) & (inverse > 0))
    restored[largest[columns], columns] = 127 * np.sign(weights[largest[columns], columns])
    return restored


def check_finite(values: Array, label: str) -> None:
    """Raise a :class:`ParameterError` that names the first value of an array that is not finite."""
    for at in range(0, len(values), _BLOCK_ROWS) if values.ndim else [None]:
        part = np.asarray(values if at is None else values[at : at + _BLOCK_ROWS], np.float32)
        bad = np.argwhere(~np.isfinite(part))
        if len(bad):
            place = [int(i) for i in bad[0]]
            value = part[tuple(bad[0])]
            if at is not None:
                place[0] += at
            raise ParameterError(f"{label} holds {value} at {place}, must be finite to be quantised")


def quantize_tower(tower: Tower, *, heads: HeadStorage = "float16") -> Tower:
    """A tower with int8 weights and tables: :func:`quantize_params` and :func:`quantize_tables`."""
    return replace(tower, params=quantize_params(tower, heads=heads), tables=quantize_tables(tower))


def quantize_params(
    tower: Tower, *, matrices: Mapping[str, Int8Matrix] | None = None, heads: HeadStorage = "float16"
) -> StoredParams:
    """Dense parameters in eight bits.

    Matrices that activations are multiplied with get a scale per output column, the small tables of actions, surfaces
    and ages a scale per row. Output heads become float16 unless ``heads`` says otherwise: every probability passes
    through them, and they are half a per cent of the parameters of a large model. Norm scales and vectors stay float32.

    Parameters
    ----------
    tower
        The model.
    matrices
        Matrices that are rounded already (:mod:`xfast.phoenix.calibration`), by key.
    heads
        How output heads are kept; int8 ones have a scale per column like any other matrix.

    Raises
    ------
    ParameterError
        A parameter holds a value that is not finite, or an output head one beyond float16; it is named.
    """
    if heads not in ("float16", "int8"):
        raise ParameterError(f"heads is {heads!r}, must be float16 or int8")
    stored: dict[str, Array | Int8Matrix] = {}
    for key, value in tower.params.items():
        check_finite(value, f"{tower.name}: {key!r}")
        if matrices is not None and key in matrices:
            stored[key] = matrices[key]
        elif value.ndim != 2 or min(value.shape) < 2:
            stored[key] = value
        elif "unembeddings" in key and heads == "float16":
            stored[key] = _half(key, value)
        elif key.endswith(("embedding_table", "action_projection")):
            stored[key] = quantize_rows(value, scales="float16")
        else:
            stored[key] = quantize_columns(value, scales="float16")
    return StoredParams(stored)


def quantize_tables(tower: Tower) -> EmbeddingTables:
    """Hash tables in eight bits, rounded for the projections that read them.

    Raises
    ------
    ParameterError
        A table holds a value that is not finite; it is named.
    """
    tables: dict[str, Any] = {}
    for kind, gram in _readers_of_tables(tower).items():
        table = np.asanyarray(getattr(tower.tables, kind))
        check_finite(table, f"{tower.name}: '{kind}_embeddings'")
        tables[kind] = compensated_rows(table, gram)
    return replace(tower.tables, **tables)


def quantize_corpus(corpus: Corpus, storage: CorpusStorage) -> Corpus:
    """A corpus with its vectors in another form; the search's own int8 rows are built from these when it starts."""
    if storage not in ("float32", "float16", "int8"):
        raise ParameterError(f"corpus storage is {storage!r}, must be float32, float16 or int8")
    vectors = corpus.representations
    check_finite(np.asanyarray(vectors), "corpus: 'candidate_representations'")
    if storage == "int8":
        return replace(corpus, representations=quantize_rows(np.asanyarray(vectors)))
    dense = np.asarray(vectors, np.float32)
    return replace(corpus, representations=dense if storage == "float32" else _half("corpus", dense))


def _readers_of_tables(tower: Tower) -> dict[str, npt.NDArray[np.float64]]:
    """For each hash table the sum of W W^T over the blocks W [D, out] of projections that its rows are multiplied with.

    Rows reach the model through these products alone (PHOENIX §2.1, §2.6, §5).
    """
    config = tower.config
    size, items, authors = config.emb_size, config.num_item_hashes, config.num_author_hashes
    grams = {kind: np.zeros((size, size)) for kind in ("user", "item", "author")}

    def read(key: str, kinds: dict[str, int]) -> None:
        blocks = np.asarray(tower.params[key], np.float64)
        at = 0
        for kind, count in kinds.items():
            for _ in range(count):
                block = blocks[at : at + size]
                grams[kind] += block @ block.T
                at += size

    posts = {"item": items, "author": authors}
    prefix = RANKER if tower.name == "ranker" else RETRIEVAL
    read(prefix + "proj_mat_1", {"user": config.num_user_hashes})
    read(prefix + "proj_mat_3", posts)
    if tower.name == "ranker":
        read(prefix + "proj_mat_2", posts)
    elif config.enable_linear_proj:
        read(TOWER_1, posts)
    else:
        for kind in posts:
            grams[kind] += np.eye(size)
    return grams


def _half(key: str, value: F32) -> Array:
    largest = float(np.abs(value).max(initial=0.0))
    if not largest <= 65504:
        raise ParameterError(f"{key!r} holds {largest:g}, must be at most 65504 to be kept in float16")
    return value.astype(np.float16)


@dataclass(frozen=True)
class PartSize:
    """Memory of a part of a model, and what storing it so costs."""

    part: str
    numbers: int
    float32_bytes: int
    bytes: int
    rms_error: float
    """Root mean square of the difference to the original over the original's root mean square."""

    @property
    def saved(self) -> float:
        """Share of the float32 bytes that is saved."""
        return 1 - self.bytes / self.float32_bytes if self.float32_bytes else 0.0


def _size(part: str, pairs: list[tuple[Any, Any]]) -> PartSize:
    error = power = 0.0
    numbers = size = 0
    for original, stored in pairs:
        for at in range(0, max(len(original), 1), _BLOCK_ROWS) if original.ndim else [None]:
            rows: Any = () if at is None else slice(at, at + _BLOCK_ROWS)
            exact = np.asarray(original[rows], np.float64)
            error += float(np.square(np.asarray(stored[rows], np.float64) - exact).sum())
            power += float(np.square(exact).sum())
            numbers += exact.size
        size += stored.nbytes
    return PartSize(part, numbers, 4 * numbers, size, (error / power) ** 0.5 if power else 0.0)


def tower_sizes(original: Tower, quantized: Tower) -> list[PartSize]:
    """Memory by part: dense parameters, and each hash table."""
    stored = quantized.params.stored if isinstance(quantized.params, StoredParams) else quantized.params
    parts = [_size("dense", [(value, stored[key]) for key, value in original.params.items()])]
    for kind in ("user", "item", "author"):
        table = np.asanyarray(getattr(original.tables, kind))
        parts.append(_size(f"{kind} table", [(table, getattr(quantized.tables, kind))]))
    return parts


def corpus_size(original: Corpus, quantized: Corpus) -> PartSize:
    """Memory of the corpus vectors."""
    return _size("corpus", [(original.representations, quantized.representations)])

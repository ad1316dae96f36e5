"""What a model consists of: configuration, parameters, tables, and the posts that retrieval finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import ArtifactError, ParameterError
from xfast.phoenix.config import PhoenixConfig
from xfast.phoenix.hashing import Kind, rows_of
from xfast.phoenix.layout import TowerName, param_shapes
from xfast.phoenix.npz import as_float32, native_order, read_ahead
from xfast.phoenix.stored import Int8Matrix

__all__ = ["Corpus", "EmbeddingRows", "EmbeddingTables", "Tower", "check_corpus", "check_params", "topic_text"]

Array = npt.NDArray[Any]
F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class EmbeddingTables:
    """The split embedding tables of a tower, each [V, D] of a floating dtype or int8, possibly memory-mapped."""

    user: Array | Int8Matrix
    item: Array | Int8Matrix
    author: Array | Int8Matrix

    def gather(self, kind: Kind, rows: npt.NDArray[np.int32]) -> F32:
        """Rows of a table as float32 [..., D]; row 0 is the zero vector ("no entity"), whatever the file holds."""
        table: Array | Int8Matrix = getattr(self, kind)
        taken = as_float32(table[rows])
        taken[rows == 0] = 0
        return taken

    def read_ahead(self, kind: Kind, rows: npt.NDArray[np.int32]) -> None:
        """Have the system fetch these rows of a mapped table, because :meth:`gather` will take them soon."""
        table: Array | Int8Matrix = getattr(self, kind)
        read_ahead(table.values if isinstance(table, Int8Matrix) else table, rows)


class EmbeddingRows:
    """Rows of a table [n, hashes, D], gathered when somebody looks at them; an engine may gather for itself."""

    def __init__(self, tables: EmbeddingTables, kind: Kind, rows: npt.NDArray[np.int32]) -> None:
        self._tables, self._kind, self._rows = tables, kind, rows

    @cached_property
    def values(self) -> F32:
        """The rows, float32."""
        return self._tables.gather(self._kind, self._rows)

    @property
    def source(self) -> tuple[F32, npt.NDArray[np.int32]] | None:
        """A float32 table in one piece and the numbers [n, hashes] of its rows; None for a table of another form."""
        table = getattr(self._tables, self._kind)
        if (
            isinstance(table, np.ndarray)
            and table.dtype == np.float32
            and table.flags.c_contiguous
            and table.flags.aligned
        ):
            return table, self._rows
        return None

    def __getitem__(self, part: Any) -> EmbeddingRows:
        """Some of them."""
        return EmbeddingRows(self._tables, self._kind, np.ascontiguousarray(self._rows[part]))


@dataclass(frozen=True, eq=False)
class Tower:
    """One model: configuration, dense parameters by published key (float32), embedding tables."""

    name: TowerName
    config: PhoenixConfig
    params: Mapping[str, F32]
    tables: EmbeddingTables

    def __post_init__(self) -> None:
        check_params(self.params, self.config, self.name, f"{self.name}/model_params.npz")
        file = f"{self.name}/embedding_tables.npz"
        for kind in ("user", "item", "author"):
            table = getattr(self.tables, kind)
            wanted = (getattr(self.config, f"{kind}_vocab_size"), self.config.emb_size)
            _check_shape(file, f"{kind}_embeddings", table.shape, wanted)

    def read_ahead(self, kind: Kind, ids: npt.NDArray[np.uint64]) -> None:
        """Have the system fetch the table rows of these ids, for a process that has just begun."""
        self.tables.read_ahead(kind, rows_of(ids, kind, self.config))

    def override(self, overrides: Mapping[str, Any] | None) -> Tower:
        """The tower under a changed configuration (:meth:`PhoenixConfig.replace`); shapes are checked again."""
        return replace(self, config=self.config.replace(**overrides)) if overrides else self


@dataclass(frozen=True, eq=False)
class Corpus:
    """Posts that retrieval can find.

    Parameters
    ----------
    post_ids, author_ids : u64 [N]
    representations : [N, D]
        Unit vectors of the candidate tower; float32, float16, bfloat16 or int8 with a scale per row.
    topics : [N] str, optional
        What the table of ``xfast rank`` shows.
    topic_ids : i64 [N] or [N, M], optional
        Numeric topics of a post, 0 for none; what a topic filter reads.
    name : str
        What errors call it; the file, where it came from one.
    """

    post_ids: npt.NDArray[np.uint64]
    author_ids: npt.NDArray[np.uint64]
    representations: Array | Int8Matrix
    topics: Array | None = None
    topic_ids: npt.NDArray[np.int64] | None = None
    name: str = "corpus"

    def __post_init__(self) -> None:
        size = len(self.post_ids)
        for key in ("author_ids", "representations", "topics", "topic_ids"):
            value = getattr(self, key)
            if value is not None and len(value) != size:
                raise ParameterError(f"{key} has {len(value)} rows, post_ids has {size}")
        if self.representations.ndim != 2:
            raise ParameterError(f"representations has shape {self.representations.shape}, must be (N, D)")
        if isinstance(self.representations, np.ndarray):
            object.__setattr__(self, "representations", native_order(self.representations))

    def __len__(self) -> int:
        return len(self.post_ids)

    @classmethod
    def empty(cls, width: int) -> Corpus:
        """No posts yet, vectors of this width, topics possible: what a corpus that is filled later starts as."""
        ids = np.zeros(0, np.uint64)
        return cls(ids, ids, np.zeros((0, width), np.float32), topic_ids=np.zeros((0, 1), np.int64))


def check_params(params: Mapping[str, Array], config: PhoenixConfig, tower: TowerName, file: str) -> None:
    """Raise :class:`ArtifactError` naming ``file`` and the first parameter that is missing or of another shape."""
    for key, wanted in param_shapes(config, tower).items():
        if key not in params:
            raise ArtifactError(f"{file}: {key!r} is missing")
        _check_shape(file, key, params[key].shape, wanted)


def _check_shape(file: str, key: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise ArtifactError(f"{file}: {key!r} has shape {shape}, config asks for {wanted}")


def topic_text(topic: object) -> str:
    """A corpus's topic as text; none is empty."""
    if isinstance(topic, bytes):
        return topic.decode("utf-8", "replace")
    return "" if topic is None else str(topic)


def check_corpus(corpus: Corpus, tower: Tower, file: str) -> None:
    """Raise :class:`ArtifactError` if the corpus vectors are not as wide as the model's."""
    wanted = (len(corpus), tower.config.emb_size)
    _check_shape(file, "candidate_representations", corpus.representations.shape, wanted)

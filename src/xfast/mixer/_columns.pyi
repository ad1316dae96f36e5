"""Signatures of the Cython module; see ``_columns.pyx``."""

from typing import Any

import numpy as np
import numpy.typing as npt

def present(cells: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]: ...
def distinct(ids: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]: ...
def last_rows(ids: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]: ...
def by_score(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]: ...
def gather(
    matrix: npt.NDArray[np.floating[Any]],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    out: npt.NDArray[np.float64],
    places: npt.NDArray[np.int64],
) -> None: ...

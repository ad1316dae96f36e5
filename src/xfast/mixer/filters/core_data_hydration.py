"""CoreDataHydration: posts about which the essentials are missing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.mixer.quirks import Quirks
from xfast.pipeline import Filter, Mask


class CoreDataHydrationFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts without an author (HOME_MIXER §7.2).

    In fixed mode a post whose core data could not be had goes too, since muted words cannot be looked for in it.
    """

    def __init__(self, quirks: Quirks = "fixed") -> None:
        self.quirks = quirks

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        mask: Mask = batch.author_id != 0
        if self.quirks == "fixed":
            mask &= ~batch.is_true("core_data_failed")
        return mask

    def reasons(self, query: ScoredPostsQuery, batch: CandidateBatch, removed: npt.NDArray[np.int64]) -> list[str]:
        return ["no author" if author == 0 else "no core data" for author in batch.author_id[removed]]

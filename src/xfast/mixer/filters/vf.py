"""VF: what visibility filtering hides."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import Filter, Mask


class VFFilter(Filter[ScoredPostsQuery, CandidateBatch]):
    """Drop posts with a hiding reason (HOME_MIXER §7.15).

    A safety result hides only with the action Drop; every other kind of reason hides.
    """

    def keep(self, query: ScoredPostsQuery, batch: CandidateBatch) -> Mask:
        reasons = batch.column("visibility_reason")
        if not reasons.mask().any():
            return np.ones(len(batch), np.bool_)
        return np.array([reason is None or not reason.drops for reason in reasons.filled(None)], np.bool_)

    def reasons(self, query: ScoredPostsQuery, batch: CandidateBatch, removed: npt.NDArray[np.int64]) -> list[str]:
        values = batch.values("visibility_reason")[removed]
        return [" ".join(part for part in (reason.kind, reason.action, reason.detail) if part) for reason in values]

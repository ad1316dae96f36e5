"""ScoredStats: distributions of scores, and where the top posts came from."""

from __future__ import annotations

import numpy as np

from xfast.mixer.candidates import CandidateBatch
from xfast.mixer.deciders import sampled
from xfast.mixer.enums import ServedType
from xfast.mixer.heads import HEAD_INDEX
from xfast.mixer.query import ScoredPostsQuery
from xfast.pipeline import SideEffect, SideEffectInput, descending

_SHARE = 0.05
_SALT = 0x5C0FED
#: Seven heads, chosen by us: the release names none.
_HEADS = ("favorite", "reply", "retweet", "click", "dwell", "share", "not_interested")
_TOPS = (1, 10, 35)
_SOURCES = (ServedType.FOR_YOU_PHOENIX_RETRIEVAL, ServedType.FOR_YOU_PHOENIX_RETRIEVAL_MOE)


class ScoredStatsSideEffect(SideEffect[ScoredPostsQuery, CandidateBatch]):
    """Histograms of nine series for 5 % of requests, or all of an experiment's; ranks per source of fresh requests."""

    def run(self, data: SideEffectInput[ScoredPostsQuery, CandidateBatch]) -> None:
        query, batch, metrics = data.query, data.selected, self.metrics
        if metrics is None or not len(batch):
            return
        in_experiment = query.params.enable_phoenix_retrieval_stats_experiment_bucket
        if not in_experiment and not sampled(query.request_id, _SHARE, _SALT):
            return
        heads = batch.values("phoenix_scores")
        series = {name: heads[:, HEAD_INDEX[name]] for name in _HEADS}
        series["weightedScore"] = batch.column("weighted_score").filled(np.nan)
        series["finalScore"] = batch.column("score").filled(np.nan)
        for name, values in series.items():
            present = values[~np.isnan(values)]
            metrics.count("ScoredStats.scores", len(present), series=name, cells="present")
            metrics.count("ScoredStats.scores", len(values) - len(present), series=name, cells="missing")
            for value in present.tolist():
                metrics.observe("ScoredStats.scores", value, series=name)
        if not query.has_cached_posts:
            self._sources(batch)

    def _sources(self, batch: CandidateBatch) -> None:
        assert self.metrics is not None
        order = descending(batch.column("weighted_score").filled(-np.inf))
        served = batch.column("served_type").filled(int(ServedType.UNDEFINED))
        for source in _SOURCES:
            hit = served == int(source)
            self.metrics.count("ScoredStats.Served", int(hit.sum()), source=source.pascal)
            for top in _TOPS:
                self.metrics.count(f"ScoredStats.RankedTop{top}", int(hit[order[:top]].sum()), source=source.pascal)

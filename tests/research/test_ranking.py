"""The ranker study: lists, measures, the pairwise loss against a loop, the published split."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xfast.phoenix import Candidates, Engagements
from xfast.phoenix.training import default_model_config
from xfast.phoenix.training.towers import Rates
from xfast.research import ranking
from xfast.research.experiments import ranker


def a_case(history: int) -> ranking.Case:
    posts = np.arange(1, history + 1, dtype=np.uint64)
    films = np.arange(100, 108, dtype=np.uint64)
    return ranking.Case(Engagements(5, posts, posts, np.ones((history, 49), np.float32)), Candidates(films, films))


def test_measures_by_hand() -> None:
    scores = np.array([[3.0, 1, 1, 1, 1, 1, 1, 1], [2.0, 9, 1, 1, 1, 1, 1, 1], [0.0, 0, 0, 1, 1, -1, -1, -1]])
    assert ranking.ndcg3(scores).tolist() == pytest.approx([1.0, 1 / np.log2(3), 0.0])
    assert ranking.ndcg3(np.zeros((1, 8)))[0] == 0.0  # a constant model wins nothing
    rng = np.random.default_rng(0)
    assert ranking.ndcg3(rng.random((20_000, 8))).mean() == pytest.approx(ranker.chance(), abs=0.01)
    assert ranking.overlap3(scores[:1], scores[:1]).tolist() == [1.0]
    assert ranking.overlap3(np.arange(8.0)[None], -np.arange(8.0)[None]).tolist() == [0.0]
    changed, tau = ranking.order_changes(np.arange(8.0)[None], np.arange(8.0)[None][:, ::-1])
    assert (changed, tau) == (1.0, pytest.approx(-1.0))


def test_shorter_and_longer_histories() -> None:
    case = a_case(10)
    assert ranking.without(case, 0.5).viewer.post_ids.tolist() == [1, 2, 3, 4, 5]
    assert len(ranking.without(case, 0.0).viewer.post_ids) == 0
    after = ranking.engage(case, 3).viewer
    assert after.post_ids[-1] == 103
    assert np.flatnonzero(after.actions[-1]).tolist() == [ranking.FAVORITE]


def test_pairwise_loss_is_a_loop_over_pairs_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    shown, windows = 6, 3
    size = (windows, shown + ranking.NEGATIVES)
    scores, valid = rng.normal(size=size), rng.random(size) < 0.8
    anchors, labels = rng.integers(0, 4, size), np.zeros((*size, ranking.FAVORITE + 1))
    labels[:, :shown, ranking.FAVORITE] = rng.random((windows, shown)) < 0.5
    logits = np.zeros((*size, ranking.FAVORITE + 1))
    logits[..., ranking.FAVORITE] = scores
    monkeypatch.setattr(ranking, "candidate_inputs", lambda rows, arrays: SimpleNamespace(valid=valid))
    monkeypatch.setattr(ranking, "context_inputs", lambda rows, arrays: None)
    monkeypatch.setattr(ranking, "ranker_at_anchors", lambda *arguments: SimpleNamespace(logits=logits))
    loss = ranking.Bpr(default_model_config("ranker"), Rates())({}, {}, {"anchors": anchors, "labels": labels}, None)  # type: ignore[arg-type]
    total, count = 0.0, 0
    for window, i, j in product(range(windows), range(shown), range(shown, size[1])):
        if labels[window, i, ranking.FAVORITE] and valid[window, j] and anchors[window, i] == anchors[window, j]:
            total += np.log1p(np.exp(scores[window, j] - scores[window, i]))
            count += 1
    assert count > 20
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_published_split_and_lists(shared: Path) -> None:
    data = ranking.split(shared / "data" / "ml-100k")
    assert (data.train.sum(), data.validation.sum(), data.test.sum()) == (81_513, 9_057, 9_430)
    lists = ranking.cases(data, data.test, limit=20)
    assert len(lists) == 20
    for case in lists:
        assert len(np.unique(case.candidates.post_ids)) == ranking.LIST
        known = data.rows.user_id == np.uint64(case.viewer.user_id)
        rated = set(data.rows.post_id[known].tolist())
        assert int(case.candidates.post_ids[0]) in rated
        assert not rated & set(case.candidates.post_ids[1:].tolist())
        trained = set(data.rows.post_id[known & data.train].tolist())
        assert set(case.viewer.post_ids.tolist()) <= trained

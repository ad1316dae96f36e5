"""The baselines against the obvious version of each, one pair of posts at a time."""

from __future__ import annotations

import numpy as np
import pytest

from xfast.errors import ParameterError
from xfast.phoenix.training import Sequences, baselines


@pytest.fixture(scope="module")
def acted(sequences: Sequences) -> list[set[int]]:
    """For every post, who acted on it."""
    sets: list[set[int]] = [set() for _ in sequences.posts]
    for user, post, actions in zip(sequences.user, sequences.post, sequences.actions):
        if actions:
            sets[post].add(int(user))
    return sets


def histories(sequences: Sequences, users: list[int]) -> list[np.ndarray]:
    own = [np.arange(sequences.offsets[user], sequences.offsets[user + 1]) for user in users]
    return [rows[sequences.actions[rows] != 0] for rows in own]


def cosine(acted: list[set[int]], k: int) -> np.ndarray:
    """Binary cosine with each post's k nearest, ties to the lower row."""
    count = len(acted)
    table = np.zeros((count, count))
    for a in range(count):
        near = []
        for b in range(count):
            both = len(acted[a] & acted[b])
            if a != b and both:
                near.append((-both / np.sqrt(len(acted[a]) * len(acted[b])), b))
        for negative, b in sorted(near)[:k]:
            table[a, b] = -negative
    return table


@pytest.mark.parametrize("k", [3, 200])
def test_item_knn(sequences: Sequences, acted: list[set[int]], k: int) -> None:
    users = [0, 3, 11]
    rows = histories(sequences, users)
    knn = baselines.ItemKnn.fit(sequences, k=k)
    table = cosine(acted, k)
    posts = [sequences.post[own] for own in rows]
    whole = [sum(table[post] for post in own) for own in posts]
    number = np.array(users, np.int32)
    np.testing.assert_allclose(knn.scores(sequences, number, rows), whole, rtol=1e-4, atol=1e-6)
    recent = [sum(0.9**age * table[post] for age, post in enumerate(own[::-1][:3])) for own in posts]
    found = baselines.RecentItemKnn(knn).scores(sequences, number, rows)
    np.testing.assert_allclose(found, recent, rtol=1e-4, atol=1e-6)
    short = baselines.RecentItemKnn(knn).scores(sequences, number[:1], [rows[0][:1]])
    np.testing.assert_allclose(short[0], table[posts[0][0]], rtol=1e-4, atol=1e-6)


def test_popularity(sequences: Sequences, acted: list[set[int]]) -> None:
    scores = baselines.Popularity.fit(sequences).scores(sequences, np.zeros(2, np.int32), [])
    assert scores.tolist() == [[len(users) for users in acted]] * 2


def test_ease_minimises_its_objective(sequences: Sequences) -> None:
    """Each column is the ridge regression of that post on all others: solved one by one."""
    matrix = np.zeros((len(sequences.users), len(sequences.posts)))
    matrix[sequences.user[sequences.actions != 0], sequences.post[sequences.actions != 0]] = 1
    weights = baselines.Ease.fit(sequences, l2=7.0).weights
    for post in (0, 17, 59):
        others = np.delete(np.arange(len(sequences.posts)), post)
        x = matrix[:, others]
        solved = np.linalg.solve(x.T @ x + 7.0 * np.eye(len(others)), x.T @ matrix[:, post])
        np.testing.assert_allclose(weights[others, post], solved, atol=1e-5)
        assert weights[post, post] == 0
    rows = histories(sequences, [5])
    expected = matrix[5] @ weights if len(set(sequences.post[rows[0]])) == len(rows[0]) else None
    scores = baselines.Ease(weights).scores(sequences, np.array([5], np.int32), rows)[0]
    np.testing.assert_allclose(scores, weights[sequences.post[rows[0]]].sum(0), rtol=1e-5)
    if expected is not None:
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_online_bias_predicts_before_it_learns() -> None:
    rng = np.random.default_rng(0)
    users, posts = rng.integers(0, 6, 300), rng.integers(0, 9, 300)
    stars = rng.integers(1, 6, 300).astype(float)
    model = baselines.OnlineBias(6, 9).fit(users[:200], posts[:200], stars[:200])
    # At the fixed point each bias is the shrunk mean of what the other one leaves.
    item = np.array([model._bias(entry, 1) for entry in model._posts])
    for user in range(6):
        mine = users[:200] == user
        rest = stars[:200][mine] - model.mean - item[posts[:200][mine]]
        assert model._bias(model._users[user], 0) == pytest.approx(rest.sum() / (mine.sum() + 5), abs=2e-3)
    before = [model.predict(user, post) for user, post in zip(users[200:], posts[200:])]
    online = model.run(users[200:], posts[200:], stars[200:])
    assert online[0] == before[0]
    assert not np.allclose(online, before)
    changed = baselines.OnlineBias(6, 9).fit(users[:200], posts[:200], stars[:200])
    future = stars[200:].copy()
    future[50:] = 6 - future[50:]
    assert np.array_equal(changed.run(users[200:], posts[200:], future)[:51], online[:51])


def test_a_catalogue_that_is_too_large_is_refused(sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MAX_CATALOGUE", 59)
    with pytest.raises(ParameterError, match="the catalogue has 60 posts, item models take up to 59"):
        baselines.ItemKnn.fit(sequences)

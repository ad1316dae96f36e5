"""What the two tasks put into a batch, and what a step does with it, against the rule written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xfast.actions import NEGATIVE
from xfast.phoenix import PhoenixConfig
from xfast.phoenix.config import ContinuousActionConfig
from xfast.phoenix.training import Sequences, TrainConfig, losses
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.loop import KINDS, Trainer
from xfast.phoenix.training.ranker import RankerTask
from xfast.phoenix.training.retrieval import RetrievalTask, train_retrieval


def test_negatives_say_nothing_about_negative_feedback(
    sequences: Sequences, ranker_config: PhoenixConfig, run: TrainConfig
) -> None:
    labels = np.zeros((3, 49), np.float32)
    labels[1, 1] = 1  # a favorite
    labels[2, 17] = 1  # not interested
    heads = ranker_config.vocabulary.heads(49)
    feedback = {heads[name] for name in NEGATIVE}
    for masked in (True, False):
        model = ranker_config.replace(mask_neg_feedback_on_negatives=masked)
        loss = RankerTask(sequences, model, replace(run, action_weights={"dwell": 0.5})).loss
        weights = np.asarray(loss.column_weights(jnp.asarray(labels)))
        for row, negative in enumerate([True, False, False]):
            for column in range(49):
                expected = 0.5 if column == 11 else float(column in heads.values())
                if masked and negative and column in feedback:
                    expected = 0.0
                assert weights[row, column] == expected, (masked, row, column)


def test_random_negatives_are_unknown_to_the_user_and_labelled_with_nothing(
    sequences: Sequences, ranker_config: PhoenixConfig, run: TrainConfig
) -> None:
    task = RankerTask(sequences, ranker_config, replace(run, random_negatives=4))
    windows = next(task.epoch(np.random.default_rng(0)))
    posts, moments, anchors = task._draw(windows, np.random.default_rng(1))
    assert (posts >= 0).any()
    for window, user in enumerate(windows.user):
        own = set(sequences.post[sequences.user == user].tolist())
        assert own.isdisjoint(posts[window].tolist()) or user < 0
        real = set(zip(windows.examples[window].tolist(), windows.anchors[window].tolist()))
        assert set(zip(moments[window].tolist(), anchors[window].tolist())) <= real or user < 0
    batch = task.batch(windows, np.random.default_rng(1))
    assert batch.arrays["labels"].shape[1] == windows.examples.shape[1] + 4
    assert not batch.arrays["labels"][:, -4:].any()
    assert not batch.arrays["dwell_time"][:, -4:].any()


def test_hard_negatives_were_shown_and_passed_over(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig
) -> None:
    task = RetrievalTask(sequences, retrieval_config, replace(run, hard_negatives=3))
    users = np.array([0, 5, 39, -1], np.int32)
    hard = task._draw_hard(users, np.random.default_rng(0))
    assert hard.shape == (4, 3) and (hard[3] == -1).all()
    for user, drawn in zip(users[:3], hard):
        passed = sequences.post[(sequences.user == user) & (sequences.actions == 0)]
        assert set(drawn[drawn >= 0].tolist()) <= set(passed.tolist())
        assert (drawn >= 0).sum() == min(3, len(passed))


@pytest.mark.parametrize("shared", [6, 512])
def test_in_batch_pool_counts_what_was_drawn(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig, shared: int
) -> None:
    """A post that comes up c times in n draws of probability q weighs c / (n q); one that does not, nothing."""
    targets = np.array([4, 9, 9, 2, 9, 30, 2, 7], np.int32)
    for corrected in (True, False):
        config = replace(run, shared_negatives=shared, log_q_correction=corrected)
        task = RetrievalTask(sequences, retrieval_config, config)
        pool, correction = task._draw(targets, np.random.default_rng(3))
        drawn = targets if shared > 8 else np.random.default_rng(3).choice(targets, shared)
        assert pool[pool >= 0].tolist() == [2, 4, 7, 9, 30] and len(pool) % 256 == 0
        wanted = (sequences.actions & np.uint64(~(1 << 17) & 2**64 - 1)) != 0
        for post, log in zip(pool, correction):
            count = int((drawn == post).sum()) if post >= 0 else 0
            q = (sequences.post[wanted] == post).sum() / wanted.sum()
            expected = count / (len(drawn) * q) if count and corrected else float(count)
            assert np.exp(-np.float64(log)) == pytest.approx(expected, rel=1e-5)


def test_known_posts_are_no_negatives(sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig) -> None:
    task = RetrievalTask(sequences, retrieval_config, replace(run, negatives="catalogue"))
    windows = next(task.epoch(np.random.default_rng(0)))
    arrays = task.batch(windows, np.random.default_rng(0)).arrays
    for window, user in enumerate(windows.user):
        for row, anchor in zip(windows.examples[window], windows.anchors[window]):
            if row < 0 or user < 0:
                continue
            own = np.arange(sequences.offsets[user], row)
            acted = own[sequences.actions[own] != 0]
            before = windows.history[window][:anchor]
            if len(before):  # what the window shows, and all that came earlier
                known = set(sequences.post[acted[acted <= before[-1]]].tolist())
                shown = set(sequences.post[own[own < windows.history[window][0]]].tolist())
                marked = set(np.flatnonzero(arrays["known_from"][window] <= anchor).tolist())
                assert known <= marked <= known | shown


def test_a_step_on_gathered_rows_is_the_step_on_whole_tables(
    sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig
) -> None:
    """Two sparse steps equal row-wise Adagrad over whole tables, gradients and all, written out in NumPy."""
    task = RetrievalTask(sequences, retrieval_config, run)
    tower = fresh_tower("retrieval", retrieval_config, run, 0)
    trainer = Trainer(task, tower, seed=0)
    tables = {kind: np.array(getattr(tower.tables, kind), np.float64) for kind in KINDS}
    squares = {kind: np.zeros(len(tables[kind])) for kind in KINDS}
    touched: dict[Any, set[int]] = {kind: set() for kind in KINDS}
    epoch = task.epoch(np.random.default_rng(0))

    @jax.jit
    @jax.grad
    def gradient_of(whole: Any, params: Any, index: Any, arrays: Any, key: Any) -> Any:
        rows = {kind: whole[kind].at[0].set(0)[places] for kind, places in index.items()}
        return task.loss(params, rows, arrays, key)

    for step, windows in enumerate([next(epoch), next(epoch)]):
        batch = task.batch(windows, np.random.default_rng([0, 2, step]))
        rate = run.table_learning_rate * [0, 1 / 4][step]  # the second step of a warm-up of four
        whole = {kind: jnp.asarray(table, jnp.float32) for kind, table in tables.items()}
        gradient = gradient_of(
            whole, dict(trainer._params), dict(batch.rows), dict(batch.arrays), jax.random.fold_in(trainer._key, step)
        )
        for kind in KINDS:
            g = np.asarray(gradient[kind], np.float64)
            squares[kind] += (g**2).mean(1)
            scale = np.divide(rate, np.sqrt(squares[kind]), out=np.zeros(len(g)), where=squares[kind] > 0)
            tables[kind] -= scale[:, None] * g
            touched[kind] |= set(np.unique(batch.rows[kind]).tolist()) - {0}
        trainer.train_batch(windows)
    for kind in KINDS:
        got = getattr(trainer.tower().tables, kind)
        np.testing.assert_allclose(got, tables[kind], atol=2e-5)
        moved = set(np.flatnonzero((got != getattr(tower.tables, kind)).any(1)).tolist())
        assert moved and moved <= touched[kind]


def test_the_seed_decides_everything(sequences: Sequences, retrieval_config: PhoenixConfig, run: TrainConfig) -> None:
    one, again, other = (train_retrieval(sequences, run, retrieval_config, seed=s, stop_after=3) for s in (1, 1, 2))
    assert one.losses == again.losses != other.losses
    assert all(np.array_equal(one.tower.params[key], again.tower.params[key]) for key in one.tower.params)
    for kind in KINDS:
        assert np.array_equal(getattr(one.tower.tables, kind), getattr(again.tower.tables, kind))
    assert not np.array_equal(one.tower.tables.item, other.tower.tables.item)


def test_tweedie_is_half_the_deviance_of_scikit_learn_up_to_a_constant() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    target, power = np.where(rng.random(50) < 0.4, 0, rng.random(50)), 1.4
    one, other = rng.uniform(0.05, 0.95, (2, 50))
    ours = [float(jnp.mean(losses.tweedie(jnp.asarray(p), jnp.asarray(target), power))) for p in (one, other)]
    theirs = [sklearn.mean_tweedie_deviance(target, p, power=power) / 2 for p in (one, other)]
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1], rel=1e-4)


def test_mae_and_tweedie_heads_pull_towards_median_and_mean() -> None:
    """What each loss is for: the best constant is the median for one, the mean for the other."""
    target = jnp.asarray([0.0, 0.0, 0.0, 0.2, 0.9])
    grid = np.linspace(0.001, 0.999, 999)
    best = {}
    for kind in ("mae", "tweedie"):
        config = ContinuousActionConfig(loss_weight=1.0, loss_type=kind)  # type: ignore[arg-type]
        value = jax.vmap(lambda p, c=config: losses.continuous_loss(jnp.full(5, p), target, jnp.ones(5), c))
        best[kind] = grid[int(np.argmin(value(jnp.asarray(grid))))]
    assert best["mae"] == pytest.approx(0.0, abs=2e-3)
    assert best["tweedie"] == pytest.approx(0.22, abs=2e-3)

"""A trained ranker's own feed against the truth of the synthetic network, and the studies of the engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xfast.actions import RESEARCH18
from xfast.errors import ParameterError
from xfast.feed.demo import MODELS
from xfast.mixer.params import Params
from xfast.phoenix import load_artifacts
from xfast.research import phoenix_feed, space
from xfast.research.experiments import Context, optimisations, phoenix_world
from xfast.research.phoenix_feed import PAGE, Observed, Served
from xfast.world.truth import HEADS


@pytest.fixture(scope="module")
def observed() -> Observed:
    return phoenix_world.observed(phoenix_world.VIEWERS[1])


@pytest.fixture(scope="module")
def served(observed: Observed) -> Served:
    return phoenix_feed.serve(observed.world, observed.pools)


def made(ranks: list[int], utility: list[float]) -> tuple[Served, np.ndarray]:
    nothing, rank = np.zeros(len(ranks), np.int64), np.array(ranks)
    probabilities = np.zeros((len(ranks), 18))
    return Served(nothing, nothing, rank, -rank * 1.0, probabilities, probabilities, {}, {}, rank % 4), np.array(
        utility
    )


def test_order_of_a_pool_is_the_page_of_the_assembled_feed(observed: Observed) -> None:
    assert len(observed.pools) == phoenix_world.VIEWERS[1]
    for pool in observed.pools[:3]:
        for mixer in ({}, phoenix_feed.params(space.HAND_WEIGHTS)):
            assert phoenix_feed.agrees(observed.feed, pool, mixer)
    # The check can fail: the page is not the order of predictions that belong to other posts.
    first = observed.pools[0]
    other = replace(first, prediction=replace(first.prediction, post_ids=first.prediction.post_ids[::-1]))
    assert not phoenix_feed.agrees(observed.feed, other)


def test_the_same_ranker_predicts_the_same_again(observed: Observed) -> None:
    pool = observed.pools[1]
    again = pool.ranked_by(load_artifacts(MODELS).ranker)
    assert again.order().tweet_id.tolist() == pool.order().tweet_id.tolist()


def test_served_rows_are_what_the_world_knows(observed: Observed, served: Served) -> None:
    world = observed.world
    row = int(np.flatnonzero(served.rank == 3)[2])
    now = int(world.events().time_ms.max())
    true = world.truth.probabilities([served.viewer[row]], [served.post[row]], [now])[0]
    column = RESEARCH18.column("favorite")
    assert served.true[row, column] == true[HEADS.index("favorite")]
    gain = sum(served.true[row, RESEARCH18.column(name)] for name in space.POSITIVE)
    harm = sum(served.true[row, RESEARCH18.column(name)] for name in space.NEGATIVE)
    assert served.utility["society"][row] == pytest.approx(gain - 4.0 * harm)
    assert set(served.predicted_utility) == {"user", "platform", "society", "small_authors"}
    first = np.flatnonzero(served.rank == 0)
    for start, end in zip(first, np.append(first[1:], len(served.rank)), strict=True):
        assert (np.diff(served.score[start:end]) <= 0).all()


def test_the_feed_helps_who_it_is_said_to_help(served: Served) -> None:
    rng = np.random.default_rng(0)
    verdict = phoenix_feed.predict(served, served.predicted_utility["user"], rng=rng)
    gain = phoenix_feed.gain(served, served.utility["user"], rng=rng)
    assert verdict.verdict == "gains"
    assert gain.interval[0] > 0
    promised = phoenix_feed.gain(served, served.predicted_utility["user"], rng=rng)
    assert promised.value > gain.value  # the winner's curse: pages are picked by the same predictions


def test_gain_and_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    falling = [float(PAGE * 2 - i) for i in range(PAGE * 2)]
    served, utility = made([*range(PAGE * 2)] * 2, [*falling, *falling])
    assert phoenix_feed.gain(served, utility, rng=rng).value == PAGE / 2
    found = phoenix_feed.predict(served, utility, rng=rng)
    assert (found.correlation, found.verdict) == (pytest.approx(1.0), "gains")
    assert phoenix_feed.predict(served, -utility, rng=rng).verdict == "loses"
    opposed = np.concatenate([utility[: PAGE * 2], -utility[PAGE * 2 :]])
    assert phoenix_feed.predict(served, opposed, rng=rng).verdict == "abstain"
    assert phoenix_feed.variety(served) == 4
    near, kept = phoenix_feed.best(served, utility, 3)
    assert near.rank.tolist() == [0, 1, 2, 0, 1, 2]
    assert kept.tolist() == [20.0, 19.0, 18.0] * 2


def test_weights_become_mixer_parameters() -> None:
    params = Params().override(phoenix_feed.params(space.HAND_WEIGHTS))
    assert (params.report_weight, params.retweet_weight, params.not_dwelled_weight) == (-2.0, 0.8, 0.0)
    assert params.oon_weight_factor == Params().oon_weight_factor


def test_nobody_to_serve_is_an_error(observed: Observed) -> None:
    with pytest.raises(ParameterError, match="none of the viewers"):
        phoenix_feed.serve(observed.world, [])


def test_small_size_of_the_feed_study() -> None:
    found = phoenix_world.run_weights(Context({}, "small"))
    feeds = found.detail["feeds"]
    assert found.detail["pages_as_assembled"] == "4/4"
    assert set(found.detail["refused_by_the_mixer"]) == {"engagement", "outrage"}  # they reward harm
    assert feeds["outrage"]["judges"]["society"]["verdict"]["verdict"] == "loses"
    assert feeds["outrage"]["judges"]["society"]["true_gain"]["value"] < 0
    assert feeds["2026-08"]["judges"]["care"]["true_gain"]["value"] > 0.5
    assert "verdict" not in feeds["2026-08"]["judges"]["care"]  # nobody can predict what nobody can see
    assert found.detail["audits"]["true"]["verdict"] == "works for"
    data = phoenix_world.run_data(Context({}, "small"))
    untrained, shipped = data.detail["predicted_gain"].values()
    assert shipped["user"] > 10 * untrained["user"]  # a ranker that learned nothing promises nothing
    assert set(data.values) == {f"ours.phoenix_feed.data.{who}.change" for who in phoenix_world.JUDGES}


def test_parts_of_the_engine_study() -> None:
    small = {"emb_size": 16, "key_size": 8, "num_heads": 2, "num_layers": 1, "num_actions": 19}
    found = optimisations.cached_against_full(small, history=9, candidates=3, rounds=1, engines=("native",))
    assert found["native"]["difference"] < 1e-6
    assert found["native"]["full"] > 0
    sizes = optimisations.eight_bits(optimisations.SMALL)
    assert sizes["attention only"] < sizes["layers only"] < sizes["every matrix"]
    assert sizes["every matrix"] > 0.74


def test_alternating_calls_every_way_the_same_number_of_times() -> None:
    calls: list[str] = []
    taken = optimisations.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert set(taken) == {"a", "b"}

"""Published numbers of ML-100K, the experiments in their small size, the runner and the scoreboard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.research.test_datasets import write_mind
from xfast.cli import main
from xfast.errors import DataError, ParameterError
from xfast.research import directions, loso, network, runner, scoreboard, synthetic, training
from xfast.research.environment import Environment
from xfast.research.experiments import EXPERIMENTS, Context, noise_study, scalarization
from xfast.research.experiments.base import Experiment, Part, Result, with_error
from xfast.research.experiments.goodhart import one_more, over_pools, tag_entropy
from xfast.research.experiments.plural_study import population
from xfast.research.scoreboard import Target, within

# Softmax T = 1 and hard top-10 changes from 25 to 2,000 pairs (RESEARCH §7).
CHANGES = {
    ("user", "platform"): (2.601228, 0.108275),
    ("user", "diversity"): (-0.78464, -0.134205),
    ("platform", "user"): (1.935083, 0.142601),
    ("platform", "diversity"): (-0.801596, -0.148874),
    ("diversity", "user"): (-0.045502, -0.152367),
    ("diversity", "platform"): (-0.120491, -0.448261),
}


def test_ml100k_softmax_and_top10_changes(ml100k: Environment) -> None:
    learned = directions.goodhart_pairs(ml100k, schedule=training.PUBLISHED)
    for (target, hidden), (soft, hard) in CHANGES.items():
        moved = directions.softmax_change(ml100k, learned, target, hidden, 1.0).mean()
        assert moved == pytest.approx(soft, abs=5e-4)
        assert directions.top_change(ml100k, learned, target, hidden).mean() == pytest.approx(hard, abs=5e-4)
    assert directions.frontier_change(ml100k, learned, "user")["diversity"] == pytest.approx(-36.8, abs=0.05)


@pytest.mark.parametrize(("hidden", "n50", "n80"), [("platform", 45, 445), ("diversity", 34, 136)])
def test_ml100k_data_budget(ml100k: Environment, hidden: str, n50: float, n80: float) -> None:
    found = loso.data_budget(ml100k, hidden)
    assert (round(found.n50), round(found.n80)) == (n50, n80)


def test_ml100k_user_never_recovers(ml100k: Environment) -> None:
    assert loso.data_budget(ml100k, "user").n50 == np.inf


def test_geometric_regrets_of_ml100k_and_what_rounding_may_do(ml100k: Environment) -> None:
    scorer = ml100k.stakeholders["platform"]
    for hidden, regret in (("user", 3.5326), ("platform", 5.1078), ("diversity", 5.4693)):
        found = loso.geometric(ml100k, scorer, hidden)
        assert found.published == pytest.approx(regret, abs=5e-5)
        assert found.lowest - 1e-5 <= found.published <= found.highest + 1e-5
        assert found.lowest <= found.distinct <= found.highest
    with pytest.raises(ParameterError, match="hidden is 'nobody'"):
        loso.geometric(ml100k, scorer, "nobody")


def test_fronts_of_ml100k_by_the_way_of_adding(ml100k: Environment) -> None:
    weights = scalarization.study(ml100k, np.empty((0, 3)), 2_000, None)[scalarization.DEFAULT]
    found = scalarization.front_sizes(ml100k, weights)
    naive = found["scalarization.movielens.n_naive_pareto"].tried
    assert naive["a dot per item in float32"] == 13  # published
    assert len(set(found["scalarization.movielens.n_composition_pareto"].tried.values())) > 1


def test_slates_are_added_like_plain_numpy_code_adds(small: Environment) -> None:
    rng = np.random.default_rng(0)
    slates = np.stack([rng.permutation(60)[:10] for _ in range(6)]).reshape(2, 3, 10)
    weights = rng.normal(size=18)
    features, narrow = small.features.astype(np.float32), weights.astype(np.float32)
    each = np.array([np.dot(row, narrow) for row in features])
    expected = [[each[slate].sum() for slate in block] for block in slates]
    found = loso.slate_sums(small.features, weights, slates)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, (small.features @ weights)[slates].sum(axis=-1), rtol=1e-5, atol=1e-6)


def test_crossing_interpolates_and_never_means_infinity() -> None:
    grid, values = np.array([0.0, 10.0, 20.0]), np.array([4.0, 3.0, 1.0])
    assert loso.crossing(grid, values, 2.0) == 15.0
    assert loso.crossing(grid, values, 0.5) == np.inf


def test_society_of_a_slate_by_hand() -> None:
    net = network.build(60, 60, seed=1)
    rows = np.array([np.flatnonzero(net.topics == t)[0] for t in (0, 1, 2, 2, 3)])
    worth = network.society(net, np.repeat(rows[None], 6, axis=0))
    assert worth[0] == pytest.approx(4 / 6)
    assert worth[network.LEFT] == pytest.approx(4 / 6 - 2 / 3)
    assert worth[network.RIGHT] == pytest.approx(4 / 6 - 1 / 3)


def test_networks_of_other_settings() -> None:
    half = network.build(3_000, politics=0.5, seed=1)
    political = np.isin(half.archetypes, (network.LEFT, network.RIGHT)).mean()
    assert political == pytest.approx(0.5, abs=0.03)
    net = network.build(60, 60, alike=True, seed=1)
    for topic in range(6):
        assert np.ptp(net.items[net.topics == topic], axis=0).max() == 0.0
    own = network.build(60, 60, seed=1)
    assert net.items.mean() == pytest.approx(own.items.mean())
    assert (net.archetypes == own.archetypes).all()
    people = population(net, history=20, count=4, seed=0)
    assert np.abs(people.differences).max(axis=2).min() > 0  # items of every pair differ
    with pytest.raises(ParameterError, match="politics is 2"):
        network.build(politics=2.0)


def test_mixed_labels_follow_the_mixture() -> None:
    utilities = np.stack([np.arange(40.0), -np.arange(40.0)])
    for drawing in scalarization.DRAWINGS.values():
        rows = drawing(utilities, np.array([0.75, 0.25]), 800, 3)
        assert rows.shape == (800, 2)
        assert (rows[:, 0] != rows[:, 1]).all()
        assert (rows[:, 0] > rows[:, 1]).mean() == pytest.approx(0.75, abs=0.07)


def test_noise_on_labels_and_errors_of_proxies(small: Environment) -> None:
    found = noise_study.invariance(small, (42,))
    cosines = [found[str(sigma)]["cosine"] for sigma in noise_study.SIGMAS]
    assert 1.0 > cosines[0] > cosines[-1]
    assert all(1.0 <= each["items_shown"]["many"] < each["items_shown"]["few"] <= 60 for each in found.values())
    within, match = noise_study.convergence_and_match(small, 0.05, n=200, seeds=(42,))["user"]
    assert 0.5 < within <= 1.0
    assert match in (0.0, 0.5, 1.0)


def test_entropy_counts_every_tag() -> None:
    features = np.array([[0.5, 0.5, 0.0], [0.0, 0.7, 0.0]])
    assert tag_entropy(features, np.array([0, 1])) == pytest.approx(-(1 / 3 * np.log2(1 / 3) + 2 / 3 * np.log2(2 / 3)))


SYNTHETIC = [(e.name, p.name) for e in EXPERIMENTS.values() for p in e.parts if p.dataset is None]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every data-free part and the MIND-shaped ones, in the small size."""
    out = tmp_path_factory.mktemp("results")
    folder = tmp_path_factory.mktemp("data")
    write_mind(folder)
    context = Context({"mind-truncated": folder}, "small")
    chosen = [EXPERIMENTS[name] for name in ("audit", "train", "foundation", "partial-observation", "closed-forms")]
    work, waiting = runner.runnable(chosen, context)
    assert "ml-100k" in waiting
    assert all(not outcome.cached for outcome in runner.run(work, context, out))
    again = list(runner.run(work, context, out))
    assert all(outcome.cached for outcome in again)
    # An interrupted run leaves some records: only what is missing is computed.
    (out / "train" / "synthetic.json").unlink()
    resumed = [outcome for outcome in runner.run(work, context, out) if not outcome.cached]
    assert [(outcome.experiment, outcome.part) for outcome in resumed] == [("train", "synthetic")]
    return out


def test_records_hold_values_and_plots(results: Path) -> None:
    records = runner.load_records(results)
    assert records["audit/closed-form"]["values"]["audit.exact_threshold_negative_weight"] == 0.3125
    assert (results / "audit" / "audit-threshold.png").stat().st_size > 5_000
    assert len(records["closed-forms/mind-truncated"]["detail"]["pool_correlation_all"]) == 20


@pytest.mark.parametrize("name", ["geometry", "alpha", "verification"])
def test_small_size_of_other_experiments(tmp_path: Path, name: str) -> None:
    context = Context({}, "small")
    work, _ = runner.runnable([EXPERIMENTS[name]], context)
    for outcome in runner.run(work, context, tmp_path):
        assert outcome.record["values"]
        assert outcome.record["whys"]


def test_keys_are_those_of_the_code_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def part(name: str) -> Part:
        return Part(name, lambda context: calls.append(f"run {name}") or Result({}))  # type: ignore[func-returns-value]

    def key(experiment: str, part: Part, context: Context) -> str:
        calls.append(f"key {part.name}")
        return part.name

    monkeypatch.setattr(runner, "content_key", key)
    study = Experiment("study", "", (part("a"), part("b")))
    list(runner.run([(study, each) for each in study.parts], Context({}), tmp_path))
    assert calls == ["key a", "key b", "run a", "run b"]


def test_changed_data_is_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write_mind(folder)
    context = Context({"mind-truncated": folder}, "small")
    part = next(part for part in EXPERIMENTS["foundation"].parts if part.dataset == "mind-truncated")
    before = runner.content_key("foundation", part, context)
    assert before == runner.content_key("foundation", part, context)
    (folder / "behaviors.tsv").write_text((folder / "behaviors.tsv").read_text() + "41\tU\tt\t\tN1-1\n")
    runner._folder_digest.cache_clear()
    assert before != runner.content_key("foundation", part, context)


@pytest.mark.parametrize(
    ("ours", "published", "tolerance", "close"),
    [
        (0.509, 0.50, "abs 0.01", True),
        (0.52, 0.50, "abs 0.01", False),
        ("45.3/445.1", "45/445", "5%", True),
        (">500/>500", ">500/>500", "5%", True),
        ("400.0/>500", ">500/>500", "5%", False),
        ("17/18", "16/18", "+-2", True),
        ({"value": 3.2, "se": 0.1}, 3.05, "2 SE", True),
        ({"value": 3.3, "se": 0.1}, 3.05, "2 SE", False),
        ({"value": 0.10, "se": 0.02}, "+0.093 SE 0.046 (40 seeds)", "see", True),
        ([1.0, 2.0], [1.0, 2.1], "abs 0.05", False),
        ({"a": 1.0, "b": 2.0}, {"a": 1.01, "b": 2.0}, "2%", True),
        (0.1, -0.0057, "|rho|<.2", True),
        (13.4190, 13.4, "exact", True),
        (1305, 1305, "exact", True),
        (1304, 1305, "exact", False),
        ("nan", 0.5, "abs 1", False),
        (17.0, 10.33, ">=10x at same shape (eager baseline)", True),
        (9.9, 10.33, ">=10x at same shape (eager baseline)", False),
        (0.1, 0.2, "<= 0.15", True),
    ],
)
def test_tolerances(ours: object, published: object, tolerance: str, close: bool) -> None:
    assert within(ours, published, tolerance)[0] is close


def why(**tried: object) -> dict[str, object]:
    return {"open": "something is open", "tried": tried}


def test_statuses_and_page() -> None:
    targets = [
        Target("a.one", 1.0, "abs 0.1", "synthetic"),
        Target("a.two", 1.0, "abs 0.1", "synthetic"),
        Target("a.three", 1.0, "abs 0.1", "synthetic"),
        Target("a.four", 1.0, "abs 0.1", "synthetic"),
        Target("b", 1.0, "exact", "ml-1m"),
        Target("c", 1.0, "exact", "none"),
        Target("d", 0.9, "external API", "none"),
    ]
    record = {
        "values": {"a.one": 1.05, "a.two": 2.0, "a.three": 3.0, "a.four": 3.0},
        "whys": {"a.three": why(few=3.0, many=0.5), "a.four": why(few=3.0, many=2.0)},
        "tier": "full",
    }
    rows = scoreboard.compare(targets, {"x/y": record}, set())
    statuses = ["reproduced", "differs", "inside", "beyond", "waiting", "missing", "external"]
    assert [row.status for row in rows] == statuses
    page = scoreboard.markdown(rows)
    assert "Of 6 targets whose data is here 1 (16.7%) are within tolerance; 3 (50.0%) are settled" in page
    assert "few: 3; many: 0.5. Nearest: many" in page
    assert "few: 3; many: 2. Nearest: many; none reaches the published number" in page
    timed = scoreboard.timings({"x/y": record | {"seconds": 2.0}, "x/ml-100k": record | {"seconds": 3.0}})
    assert "no data files: 2 s together; all parts here: 5 s" in timed


def test_values_over_several_data_sets() -> None:
    names = scoreboard.ALL_FOUR
    records = {}
    for number, name in enumerate(names):
        signs = {"T=1.0": [3 + number, 4 + number], "top-10": [1, 4]}
        detail = {"strong_matches": signs, "method_B_strong_raw": [10 + number, 12]}
        records[f"directions/{name}"] = {"values": {}, "whys": {}, "detail": detail}
        budget = {f"budget.{name}.hide_a.N50": f"{10.0 * number}", f"budget.{name}.hide_a.N80": ">500"}
        records[f"data-budget/{name}"] = {"values": budget, "whys": {}, "detail": {}}
    targets = [
        Target("direction.strong_match_softmax_T1", "18/22", "exact", "all four"),
        Target("direction.strong_match_top-10", "5/16", "+-1", "all four"),
        Target("direction.method_B_strong_raw", "21/24", "exact", "ml-100k, ml-1m"),
        Target("budget.median_N50_16_configs", 15.0, "exact", "all four"),
        Target("budget.median_N80_16_configs", 137.0, "25%", "all four"),
    ]
    rows = scoreboard.compare(targets, records, set(names))
    assert [row.status for row in rows] == ["reproduced"] * 4 + ["differs"]
    del records["directions/mind-small"]
    rows = scoreboard.compare(targets, records, set(names) - {"mind-small"})
    assert [row.status for row in rows[:3]] == ["waiting", "waiting", "reproduced"]


@pytest.mark.parametrize(
    ("explanation", "published", "status"),
    [
        (None, 1.0, "differs"),
        (why(), 1.0, "differs"),  # words alone
        (why(only=3.0), 1.0, "differs"),  # one number shows no cause
        (why(one=3.0, other=3.0), 1.0, "differs"),  # a factor that moves nothing
        (why(one="inf", other=3.0), 1.0, "differs"),
        (why(one={"a": 3.0}, other={"a": 4.0}), {"a": 1.0, "b": 2.0}, "differs"),  # of another shape
        (why(one=3.0, other={"value": 0.9, "se": 0.1}), 1.0, "inside"),
        (why(one=3.0, other=1.05), 1.0, "inside"),  # outside of the range, within tolerance of a setting
        (why(one=3.0, other=1.2), 1.0, "beyond"),
        (why(one={"a": 0.0, "b": 3.0}, other={"a": 2.0, "b": 4.0}), {"a": 1.0, "b": 2.0}, "beyond"),
        (why(one="33/36", other="35/36"), "34/36", "inside"),
    ],
)
def test_an_explanation_must_measure(explanation: dict[str, object] | None, published: object, status: str) -> None:
    assert scoreboard.explain(explanation, Target("t", published, "abs 0.1", "none"))[0] == status


def test_small_results_are_not_compared_silently(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = tmp_path / "targets.json"
    targets.write_text(json.dumps({"targets": []}))
    assert main(["research", "scoreboard", "--targets", str(targets), "--out", str(results)]) == 0
    assert "computed in the small size" in capsys.readouterr().out


def test_command_line(tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = tmp_path / "targets.json"
    rows = [{"name": "audit.cos.user-platform", "value": 0.8927, "tolerance": "abs 0.0001", "dataset": "none"}]
    targets.write_text(json.dumps({"targets": rows}))
    table = tmp_path / "rows.json"
    arguments = ["research", "scoreboard", "--targets", str(targets), "--out", str(results), "--json", str(table)]
    assert main(arguments) == 0
    assert json.loads(table.read_text())[0]["status"] == "reproduced"
    assert main([*arguments, "--require", "1.0"]) == 0
    targets.write_text(json.dumps({"targets": [{**rows[0], "value": 0.9}]}))
    assert main([*arguments, "--require", "0.95"]) == 1
    assert "0.0% settled, --require asks for 95.0%" in capsys.readouterr().err
    assert main(["research", "list"]) == 0
    assert "protocol" in capsys.readouterr().out
    assert main(["research", "run", "nothing"]) == 2
    assert "experiment is 'nothing'" in capsys.readouterr().err
    targets.write_text("[]")
    with pytest.raises(DataError, match="not a targets file"):
        scoreboard.read_targets(targets)


def test_editing_a_study_leaves_others_cached() -> None:
    def names(module: str) -> set[str]:
        return {path.name for path in runner._reachable(f"xfast.research.experiments.{module}")}

    assert {"audit_table.py", "threshold.py", "base.py", "actions.py"} <= names("audit_table")
    assert "network_study.py" not in names("audit_table")
    assert {"pareto.py", "geometry.py"} <= names("geometry")
    assert "feed.py" in names("phoenix_world")
    assert not {"plots.py", "runner.py", "scoreboard.py"} & names("geometry")


def test_every_experiment_has_parts_and_a_summary() -> None:
    assert len(SYNTHETIC) >= 10
    for experiment in EXPERIMENTS.values():
        assert experiment.summary
        assert len({part.name for part in experiment.parts}) == len(experiment.parts)


def test_a_prediction_is_less_sure_than_a_mean() -> None:
    samples = np.array([1.0, 2.0, 3.0, 6.0])
    found = one_more(samples)
    assert found["value"] == 3.0
    assert found["se"] == pytest.approx(samples.std(ddof=1) * np.sqrt(1.25))


def test_pools_trained_together_are_pools_trained_alone() -> None:
    worlds = synthetic.environments(60, 2)
    together = over_pools(worlds, (42, 43))
    assert together.shape == (2, 7, 2, 21, 3)
    alone = over_pools(worlds[1:], (42, 43))[0]
    np.testing.assert_allclose(alone.mean(axis=2), together[1].mean(axis=2), atol=1e-4)
    assert not np.allclose(worlds[0].features, worlds[1].features)


def test_with_error_and_pools_of_two() -> None:
    assert with_error(np.array([1.0, 3.0])) == {"value": 2.0, "se": pytest.approx(1.0)}
    with pytest.raises(ParameterError, match="items is 1"):
        synthetic.environment(1)

"""Stage order, contracts, failure rules and returned sets; deadlines, hedges, breakers; trace and side effects."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.toys import Best, Drop, DropLater, Give, GiveOther, Numbers, Query, Remember, Score, Set, Write
from xfast.errors import ConfigurationError, ParameterError
from xfast.pipeline import Hydration, Metrics, Pipeline, PipelineResult, Policy, Selector, descending, prometheus_name

QUIET = Policy(log_level=logging.DEBUG)


def ids(batch: Numbers) -> list[int]:
    shown: list[int] = batch.values("id").tolist()
    return shown


def build(**stages: Any) -> Pipeline[Query, Numbers]:
    stages.setdefault("sources", [Give([1, 2, 3, 4, 5])])
    stages.setdefault("scorers", [Score()])
    stages.setdefault("selector", Best())
    return Pipeline(Numbers, **stages)


async def test_returned_sets() -> None:
    remember = Remember()
    pipeline = build(
        filters=[Drop(2)],
        selector=Best(3),
        post_selection_filters=[DropLater(5)],
        result_size=1,
        side_effects=[remember],
    )
    result = await pipeline.execute(Query())
    assert ids(result.retrieved) == [1, 2, 3, 4, 5]
    assert ids(result.filtered) == [2, 5]
    assert ids(result.selected) == [4]
    assert ids(result.non_selected) == [1, 3]
    await pipeline.drain()
    assert remember.seen == [([4], [1, 3])]


async def test_dependent_query_hydrators_see_the_first_stage_and_the_caller_s_query_stays() -> None:
    query = Query()
    pipeline = build(
        query_hydrators=[Set("a", 1), Set("b", 1, when="a")], dependent_query_hydrators=[Set("c", 1, when="a")]
    )
    result = await pipeline.execute(query)
    assert result.query.flags == {"a": 1, "c": 1}
    assert query.flags == {}


async def test_hydrators_see_the_batch_before_the_stage_and_the_last_writer_wins() -> None:
    def first(batch: Numbers) -> Hydration:
        return Hydration({"name": np.array(["first"] * len(batch), np.object_)})

    def second(batch: Numbers) -> Hydration:
        assert not batch.has("name")
        return Hydration({"name": np.array(["second"] * len(batch), np.object_)}, ok=batch.values("id") > 2)

    result = await build(hydrators=[Write(first), Write(second)]).execute(Query())
    assert result.retrieved.values("name").tolist() == ["first"] * 2 + ["second"] * 3
    assert not result.failures


async def test_dependent_hydrators_see_the_first_wave() -> None:
    def first(batch: Numbers) -> Hydration:
        return Hydration({"name": np.array(["x"] * len(batch), np.object_)})

    def second(batch: Numbers) -> Hydration:
        return Hydration({"tags": [[len(name)] for name in batch.values("name")]})

    result = await build(hydrators=[Write(first)], dependent_hydrators=[Write(second)]).execute(Query())
    assert result.retrieved.ragged("tags").item(0) == [1]


async def test_a_result_of_the_wrong_length_is_discarded_whole() -> None:
    pipeline = build(hydrators=[Write(lambda batch: Hydration({"name": np.array(["x"], np.object_)}))])
    result = await pipeline.execute(Query())
    assert not result.retrieved.has("name")
    (failure,) = result.failures
    assert failure.name == "Write" and "returned [1] rows for 5 candidates" in str(failure.error)


def failing_stages(where: str) -> dict[str, Any]:
    boom = "boom"
    return {
        "query_hydrators": [Set("a", 1, error=boom if where == "QueryHydrator" else "")],
        "sources": [Give([1, 2, 3]), GiveOther([4, 5], error=boom if where == "Source" else "")],
        "hydrators": [Write(lambda batch: 1 / 0 if where == "Hydrator" else Hydration({}))],  # type: ignore[arg-type,return-value]
        "filters": [Drop(1, error=boom if where == "Filter" else "")],
        "scorers": [Score(error=boom if where == "Scorer" else "")],
    }


@pytest.mark.parametrize("where", ["QueryHydrator", "Source", "Hydrator", "Filter", "Scorer"])
async def test_a_failing_component_never_fails_the_request(where: str) -> None:
    metrics = Metrics()
    pipeline = Pipeline(Numbers, selector=Best(), metrics=metrics, **failing_stages(where))
    result = await pipeline.execute(Query(), explain=True)
    assert result.selected
    (failure,) = result.failures
    assert failure.stage == where
    assert result.trace is not None and result.trace.failures() == [failure]
    assert sum(v for (_, labels), v in metrics.counters().items() if ("result", "error") in labels) == 1
    strict = {failure.name: Policy(on_error="fail")}
    with pytest.raises((RuntimeError, ZeroDivisionError)) as caught:
        await Pipeline(Numbers, selector=Best(), policies=strict, **failing_stages(where)).execute(Query())
    assert f"in {where} {failure.name} of Pipeline" in caught.value.__notes__


async def test_a_switch_that_raises_counts_as_failure() -> None:
    class Broken(Give):
        def enable(self, query: Query) -> bool:
            raise KeyError("flag")

    result = await build(sources=[Broken([1]), Give([2])]).execute(Query())
    assert ids(result.selected) == [2]
    assert result.failures[0].name == "Broken"


async def test_a_source_of_the_wrong_type_is_a_failure() -> None:
    class Wrong(Give):
        async def source(self, query: Query) -> Any:
            return [1, 2]

    result = await build(sources=[Wrong([]), Give([2])]).execute(Query())
    assert ids(result.selected) == [2]
    assert "must be Numbers" in str(result.failures[0].error)


@settings(max_examples=15)
@given(st.permutations([0.0, 0.001, 0.002, 0.003]))
def test_completion_order_of_sources_changes_nothing(delays: list[float]) -> None:
    sources = [Give([10 * at + 1, 10 * at + 2], delay=delay) for at, delay in enumerate(delays)]
    result = asyncio.run(build(sources=sources, scorers=[Score(lambda i: np.zeros(len(i)))]).execute(Query()))
    assert ids(result.selected) == [1, 2, 11, 12, 21, 22, 31, 32]


async def test_sources_run_concurrently_with_plain_and_threaded_ones() -> None:
    class Slow(Give):
        policy = Policy(threaded=True)

        def source(self, query: Query) -> Numbers:  # type: ignore[override]
            time.sleep(0.05)
            return Numbers({"id": np.array(self.ids)})

    threads = [Slow([1]), Slow([2])]
    for source in threads:
        source.policy = Policy(threaded=True)
    pipeline = build(sources=[Give([3], delay=0.05), *threads, Give([4], delay=0.05)])
    began = time.perf_counter()
    result = await pipeline.execute(Query())
    assert time.perf_counter() - began < 0.15
    assert ids(result.retrieved) == [3, 1, 2, 4]
    pipeline.close()


async def test_deadline_of_a_component_and_of_the_request() -> None:
    slow = Give([1], delay=5, policy=Policy(deadline_ms=20))
    result = await build(sources=[slow, Give([2])]).execute(Query())
    assert ids(result.selected) == [2]
    assert "DeadlineError: Give exceeded 20 ms" in str(result.failures[0].error)
    late = build(sources=[Give([1], delay=5), Give([2])], filters=[Drop(2)])
    result = await late.execute(Query(), deadline_ms=20)
    assert ids(result.selected) == []
    assert ids(result.filtered) == [2]
    assert [run.name for run in result.failures] == ["Give", "Score"]


async def test_a_hedge_takes_the_faster_attempt() -> None:
    slow_once = Give([1], policy=Policy(hedge_after_ms=10))
    slow_once.delay = lambda attempt: 5 if attempt == 1 else 0  # type: ignore[assignment]
    began = time.perf_counter()
    result = await build(sources=[slow_once]).execute(Query())
    assert ids(result.selected) == [1]
    assert slow_once.attempts == 2
    assert time.perf_counter() - began < 1


async def test_a_breaker_opens_and_closes() -> None:
    now = [0.0]
    flaky = Give([1], error="down", policy=Policy(breaker_failures=2, breaker_reset_ms=1_000))
    pipeline = build(sources=[flaky], timer=lambda: now[0])
    for _ in range(4):
        result = await pipeline.execute(Query())
    assert flaky.attempts == 2
    assert "CircuitOpenError" in str(result.failures[0].error)
    flaky.error = ""
    now[0] = 2.0
    assert ids((await pipeline.execute(Query())).selected) == [1]
    assert ids((await pipeline.execute(Query())).selected) == [1]
    assert flaky.attempts == 4


async def test_backfill_replaces_what_post_filters_removed_in_order() -> None:
    stages: dict[str, Any] = {
        "sources": [Give(range(1, 11))],
        "selector": Best(4),
        "post_selection_filters": [Drop(10, 9, 6)],
        "post_selection_hydrators": [
            Write(lambda batch: Hydration({"name": np.array(["checked"] * len(batch), np.object_)}))
        ],
        "result_size": 4,
    }
    plain = await build(**stages).execute(Query())
    assert ids(plain.selected) == [8, 7]
    full = await build(**stages, backfill=True).execute(Query(), explain=True)
    assert ids(full.selected) == [8, 7, 5, 4]
    assert ids(full.non_selected) == [3, 2, 1]
    assert set(full.selected.values("name")) == {"checked"}
    assert full.trace is not None
    rows = {number: row for row, number in enumerate(ids(full.retrieved))}
    assert full.trace.candidate(rows[6]).removed_by == "Drop"
    assert full.trace.candidate(rows[5]).final_rank == 2


async def test_the_trace_answers_for_every_candidate() -> None:
    def partly(batch: Numbers) -> Hydration:
        ok = batch.values("id") != 3
        return Hydration({"name": np.array(["n"] * len(batch), np.object_)}, ok, {2: "no name"})

    pipeline = build(
        sources=[Give([1, 2]), GiveOther([3, 4])], hydrators=[Write(partly)], filters=[Drop(2)], selector=Best(2)
    )
    trace = (await pipeline.execute(Query(), explain=True)).trace
    assert trace is not None
    removed = trace.candidate(1)
    assert (removed.source, removed.removed_by, removed.reason) == ("Give", "Drop", "2 is unwanted")
    assert removed.final_rank is None and removed.scores == ()
    third = trace.candidate(2)
    assert third.source == "GiveOther"
    assert third.errors == (("Write", "no name"),)
    assert third.scores == (("Score", {"half": 1.5}),)
    assert dict(third.ranks) == {"Source": 2, "Score": 1, "Selector": 1, "Result": 1}
    assert trace.candidate(0).final_rank is None
    assert {run.name for run in trace.runs} == {"Give", "GiveOther", "Write", "Drop", "Score", "Best"}
    assert (await pipeline.execute(Query())).trace is None


async def test_the_trace_shows_where_a_scorer_changed_the_order() -> None:
    class Same(Score):
        """Changes no order."""

    class Turn(Score):
        def score(self, query: Query, batch: Numbers) -> Hydration:
            return Hydration({"score": -batch.values("score")})

    pipeline = build(sources=[Give([1, 2, 3])], scorers=[Score(), Same(), Turn()], selector=Best(2))
    trace = (await pipeline.execute(Query(), explain=True)).trace
    assert trace is not None
    assert trace.candidate(0).ranks == (("Source", 0), ("Score", 2), ("Turn", 0), ("Selector", 0), ("Result", 0))
    assert trace.candidate(2).ranks == (("Source", 2), ("Score", 0), ("Turn", 2))


async def test_side_effects_drain_are_bounded_and_keep_their_errors_to_themselves() -> None:
    slow, broken = Remember(delay=0.02), Remember(error="sink is down")
    metrics = Metrics()
    pipeline = build(side_effects=[broken, slow], side_effect_limit=2, metrics=metrics)
    results = [await pipeline.execute(Query()) for _ in range(4)]
    assert all(not result.failures for result in results)
    assert slow.seen == []
    await pipeline.drain()
    assert len(slow.seen) == 2
    assert metrics.counter("Pipeline.side_effects", result="dropped") == 2
    assert metrics.counter("Remember.run", result="error", error="RuntimeError") == 2


def test_run_without_a_loop_and_close_drains() -> None:
    remember = Remember(delay=0.02)
    pipeline = build(side_effects=[remember])
    assert ids(pipeline.run(Query()).selected) == [5, 4, 3, 2, 1]
    pipeline.close()
    assert len(remember.seen) == 1


def test_threads_share_one_loop() -> None:
    before = set(threading.enumerate())
    pipeline = build(side_effects=[Remember()])
    with ThreadPoolExecutor(8) as pool:
        pages = [ids(result.selected) for result in pool.map(lambda _: pipeline.run(Query()), range(40))]
    assert pages == [[5, 4, 3, 2, 1]] * 40
    assert sum(thread.name == "xfast-pipeline-loop" for thread in set(threading.enumerate()) - before) == 1
    pipeline.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_gets_its_own_loop() -> None:
    pipeline = build()
    pipeline.run(Query())
    child = os.fork()
    if child == 0:
        os._exit(0 if ids(pipeline.run(Query()).selected) == [5, 4, 3, 2, 1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pipeline.close()


async def test_waiting_for_itself_is_an_error() -> None:
    class Nested(Give):
        async def source(self, query: Query) -> Numbers:
            return pipeline.run(query).selected

    pipeline: Pipeline[Query, Numbers] = build(sources=[Nested([])])
    result = await asyncio.to_thread(pipeline.run, Query())
    assert "cannot wait for itself" in str(result.failures[0].error)
    pipeline.close()


def test_components_and_configuration() -> None:
    pipeline = build(filters=[Drop(1), DropLater(2)])
    assert pipeline.components()["Filter"] == ["Drop", "DropLater"]
    with pytest.raises(ConfigurationError, match=r"policies name \['Nope'\]"):
        build(policies={"Nope": Policy()})
    with pytest.raises(ParameterError, match="on_error is 'ignore'"):
        Policy(on_error="ignore")
    with pytest.raises(ParameterError, match="deadline_ms is 0"):
        Policy(deadline_ms=0)


def test_descending_is_stable_and_has_a_rule_for_nan() -> None:
    assert descending(np.array([1.0, 3.0, 3.0, 2.0])).tolist() == [1, 2, 3, 0]
    assert descending(np.array([1.0, np.nan, 2.0])).tolist() == [0, 1, 2]
    assert descending(np.array([-np.inf, 0.0, -0.0])).tolist() == [1, 2, 0]


def test_selector_without_scores_is_abstract() -> None:
    with pytest.raises(NotImplementedError):
        Selector[Query, Numbers]().scores(Query(), Numbers())


def test_metrics_have_prometheus_forms() -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    metrics = Metrics()
    metrics.count("PartitionOrganic.enforcement", action="drop")
    metrics.observe("VFHydrator.run", 3.0, series="latency_ms")
    registry = CollectorRegistry()
    metrics.register(registry)
    text = generate_latest(registry).decode()
    assert 'xfast_partition_organic_enforcement_total{action="drop"} 1.0' in text
    assert 'xfast_vf_hydrator_run_bucket{le="5",series="latency_ms"} 1.0' in text
    assert prometheus_name("PhoenixMOESource.run") == "xfast_phoenix_moe_source_run"


def test_an_empty_result_has_no_candidates() -> None:
    query = Query()
    result = PipelineResult.empty(Numbers, query)
    assert result.query is query and not result.failures
    assert [len(part) for part in (result.retrieved, result.filtered, result.selected, result.non_selected)] == [0] * 4

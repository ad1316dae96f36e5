"""``phoenix-feed``: a trained ranker's own feed on the synthetic network, against the truth the network hides."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from xfast.feed.demo import MODELS
from xfast.mixer.params import PRESETS
from xfast.phoenix.artifacts import Tower, load_artifacts
from xfast.phoenix.training import Sequences, TrainConfig
from xfast.phoenix.training.initialise import fresh_tower
from xfast.phoenix.training.loop import Trainer
from xfast.phoenix.training.ranker import RankerTask
from xfast.research import audit, phoenix_feed, space
from xfast.research.audit.inputs import FeedWeights
from xfast.research.environment import F64
from xfast.research.experiments.base import (
    Context,
    Experiment,
    Figure,
    Part,
    Result,
    Series,
    Value,
    with_error,
)
from xfast.research.phoenix_feed import Observed, Served
from xfast.world import SyntheticConfig, generate

SHARES = (0.0, 0.01, 0.1, 1.0)
SEEDS = (0, 1, 2)
STEPS = 400
VIEWERS = (300, 12)  # full and small size
DATA_VIEWERS = (100, 12)
NEAR = 5 * phoenix_feed.PAGE
AUDITED_ROWS = 2_000
JUDGES = (*phoenix_feed.LINEAR, *phoenix_feed.OTHER)


def feeds() -> dict[str, dict[str, float]]:
    """Weights that a platform might serve with; "outrage" is there so that a verdict can be bad."""
    preset = next(iter(PRESETS))
    published = space.vector(audit.PRESETS[preset])
    outrage = np.where(space.NEGATIVE_MASK, 1.0, 0.001)
    return {
        preset: {},
        "without penalties": phoenix_feed.params(np.maximum(published, 0.0)),
        "hand": phoenix_feed.params(space.HAND_WEIGHTS),
        "engagement": phoenix_feed.params(np.ones(len(space.ACTIONS))),
        "society": phoenix_feed.params(space.alpha_weights(space.ALPHA["society"])),
        "outrage": phoenix_feed.params(outrage),
    }


def judged(served: Served, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Every judge: true and predicted gain of the first page, the verdict beforehand, and whether it was right."""
    out: dict[str, dict[str, Any]] = {}
    for name in JUDGES:
        utility = served.utility[name]
        true = phoenix_feed.gain(served, utility, rng=rng)
        entry: dict[str, Any] = {"true_gain": asdict(true), "spread": float(utility.std())}
        seen = served.predicted_utility.get(name)
        if seen is not None:
            verdict = phoenix_feed.predict(served, seen, rng=rng)
            entry |= {
                "predicted_gain": asdict(phoenix_feed.gain(served, seen, rng=rng)),
                "verdict": asdict(verdict),
                "verdict_right": None if verdict.verdict == "abstain" else verdict.correlation * true.value > 0,
                "near_the_page": asdict(phoenix_feed.predict(*phoenix_feed.best(served, seen, NEAR), rng=rng)),
            }
        entry["correlation_with_truth"] = phoenix_feed.predict(served, utility, rng=rng).correlation
        out[name] = entry
    return out


@functools.lru_cache(maxsize=1)
def observed(viewers: int) -> Observed:
    """The demo's network and the shipped ranker's candidates for viewers drawn by chance; kept for both parts."""
    world = generate(SyntheticConfig(), 0)
    shipped = load_artifacts(MODELS)
    chosen = np.random.default_rng(0).permutation(len(world.users))[:viewers]
    return phoenix_feed.observe(world, shipped.ranker, shipped.retrieval, np.sort(chosen))


def run_weights(context: Context) -> Result:
    """The shipped ranker under six sets of weights: what each stakeholder was promised, and what it got."""
    seen = observed(context.count(*VIEWERS))
    checked = seen.pools[: context.count(5, 1)]
    rng = np.random.default_rng(1)
    found: dict[str, dict[str, Any]] = {}
    served, agreeing = {}, []
    refusals: dict[str, str | None] = {}
    for name, mixer in feeds().items():
        served[name] = phoenix_feed.serve(seen.world, seen.pools, mixer=mixer)
        refusals[name] = phoenix_feed.refused(mixer)
        if refusals[name] is None:
            agreeing += [phoenix_feed.agrees(seen.feed, pool, mixer) for pool in checked]
        found[name] = {"judges": judged(served[name], rng), "topics_in_page": phoenix_feed.variety(served[name])}
    told = [entry for each in found.values() for entry in each["judges"].values() if "verdict" in entry]
    right = [entry["verdict_right"] for entry in told if entry["verdict_right"] is not None]
    promised = [entry["predicted_gain"]["value"] for entry in told]
    got = [entry["true_gain"]["value"] for entry in told]
    preset = next(iter(found))
    values: dict[str, Value] = {
        "ours.phoenix_feed.verdicts_right": f"{sum(right)}/{len(right)}",
        "ours.phoenix_feed.abstained": len(told) - len(right),
        **{
            f"ours.phoenix_feed.{preset}.{who}.gain": entry["true_gain"]["value"]
            for who, entry in found[preset]["judges"].items()
        },
    }
    return Result(
        values,
        detail={
            "viewers": len(seen.pools),
            "pages_as_assembled": f"{sum(agreeing)}/{len(agreeing)}",
            "refused_by_the_mixer": {name: reason for name, reason in refusals.items() if reason},
            "candidates": len(served[preset].rank),
            "feeds": found,
            "promise_over_truth": float(np.dot(promised, got) / np.dot(got, got)),
            "audits": _audits(served[preset], context),
        },
        figures={"phoenix-feed": _figure(found)},
    )


def _audits(served: Served, context: Context) -> dict[str, Any]:
    """The ordinary audit on what a platform can hand in (predicted probabilities), and on the truth."""
    rng = np.random.default_rng(2)
    rows = rng.permutation(len(served.rank))[: context.count(AUDITED_ROWS, 200)]
    preset = next(iter(PRESETS))
    feed = FeedWeights(preset, space.vector(audit.PRESETS[preset]))
    out = {}
    for name, features in (("predicted", served.predicted), ("true", served.true)):
        report = audit.audit(
            feed,
            audit.read_society(None),
            features[rows],
            rng=rng,
            items_from=f"{name} probabilities",
            seeds=context.count(5, 1),
            resamples=context.count(1_000, 100),
        )
        judges = report.numbers["judges"]
        out[name] = {
            "verdict": report.verdict,
            "correlations": {who: judge["correlation"] for who, judge in judges.items()},
            "sentences": report.sentences,
        }
    return out


def _figure(found: Mapping[str, Any]) -> Figure:
    """Promised against real gain, in units of the judge's spread over candidates."""
    points: dict[str, list[tuple[float, float]]] = {}
    for each in found.values():
        for who, entry in each["judges"].items():
            if "verdict" in entry:
                pair = (entry["predicted_gain"]["value"], entry["true_gain"]["value"])
                points.setdefault(who, []).append((pair[0] / entry["spread"], pair[1] / entry["spread"]))
    series = [Series(who, [x for x, _ in pairs], [y for _, y in pairs], kind="points") for who, pairs in points.items()]
    ends = [-2.0, 2.5]
    return Figure(
        "The feed's first page: what the ranker promised and what the network's truth says (six sets of weights)",
        "predicted gain over a random page, in standard deviations over candidates",
        "true gain",
        [*series, Series("as promised", ends, ends)],
    )


def train(sequences: Sequences, model: Tower, share: float, *, steps: int, seed: int) -> Tower:
    """A ranker of the shape of `model` that learned from a random `share` of the impressions, in about `steps` steps.

    Fewer labels with the same number of steps: the amount of data moves, the amount of optimisation does not.
    """
    chosen = np.random.default_rng(seed).random(len(sequences)) < share
    config = TrainConfig(batch_size=32)
    tower = fresh_tower("ranker", model.config, config, seed)
    if not chosen.any():
        return tower
    each = RankerTask(sequences, model.config, config, examples=chosen).steps_per_epoch()
    config = TrainConfig(batch_size=32, epochs=max(1, round(steps / each)))
    task = RankerTask(sequences, model.config, config, examples=chosen)
    return Trainer(task, tower, seed=seed).run().tower


def run_data(context: Context) -> Result:
    """The same feed with rankers that learned from more and more impressions: who gains from the ranker's data?"""
    seen = observed(context.count(*VIEWERS))
    pools = seen.pools[:: max(1, len(seen.pools) // context.count(*DATA_VIEWERS))]
    shipped = load_artifacts(MODELS)
    rng = np.random.default_rng(3)
    sequences = Sequences.from_events(seen.world.events())
    # The small size trains nothing: an untrained ranker and the shipped one stand for the two ends.
    full = context.tier == "full"
    found: dict[int, list[dict[str, dict[str, Any]]]] = {}
    for share in SHARES if full else (SHARES[0], SHARES[-1]):
        for seed in SEEDS if full else SEEDS[:1]:
            if full or share == 0:
                tower = train(sequences, shipped.ranker, share, steps=STEPS, seed=seed)
                served = phoenix_feed.serve(seen.world, [pool.ranked_by(tower) for pool in pools])
            else:
                served = phoenix_feed.serve(seen.world, pools)
            found.setdefault(round(share * len(sequences)), []).append(judged(served, rng))
    gains = {
        count: {who: np.array([run[who]["true_gain"]["value"] for run in runs]) for who in JUDGES}
        for count, runs in found.items()
    }
    few, most = list(gains.values())[-2:]
    unit = {who: next(iter(found.values()))[0][who]["spread"] for who in JUDGES}
    return Result(
        {f"ours.phoenix_feed.data.{who}.change": with_error(most[who] - few[who]) for who in JUDGES},
        detail={
            "impressions": found,
            "steps": STEPS,
            "predicted_gain": {
                str(count): {
                    who: float(np.mean([run[who]["predicted_gain"]["value"] for run in runs])) / unit[who]
                    for who in JUDGES
                    if "predicted_gain" in runs[0][who]
                }
                for count, runs in found.items()
            },
        },
        figures={"phoenix-feed-data": _curve(gains, unit)},
    )


def _curve(gains: Mapping[int, Mapping[str, F64]], unit: Mapping[str, float]) -> Figure:
    """Mean over rankers trained from different seeds, with the range of the seeds."""
    places = [float(i) for i in range(len(gains))]
    series = []
    for who in JUDGES:
        runs = [each[who] / unit[who] for each in gains.values()]
        mean, low, high = ([float(end(run)) for run in runs] for end in (np.mean, np.min, np.max))
        series.append(Series(who, places, mean, low, high))
    return Figure(
        "True gain of the feed when its ranker learns from more impressions, equal steps (preset 2026-08; band: seeds)",
        ", ".join(f"{i}: {count:,}" for i, count in enumerate(gains)) + " impressions",
        "gain over a random page, in standard deviations",
        series,
    )


EXPERIMENT = Experiment(
    "phoenix-feed",
    "a trained ranker's own feed on the synthetic network, judged by its hidden truth",
    (Part("weights", run_weights), Part("data", run_data)),
)

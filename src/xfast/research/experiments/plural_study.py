"""``pluralistic``: recover six value systems from histories, from pairs, or from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from xfast.research import network, pairs, pluralism, space
from xfast.research.environment import F64
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series, Value, explanations
from xfast.research.network import Network
from xfast.research.pluralism import Population, Recovery

SYSTEMS = 6
VIEWS = ("actions", "topics", "rich")
SHOWN = f"tilted systems, items alike in a topic, noise {pairs.LABEL_NOISE:g}"
# (items of a topic alike, value systems, label noise)
SETTINGS = tuple(
    (alike, kind, noise)
    for alike in (True, False)
    for kind in ("tilted", "unrelated", "averse")
    for noise in (pairs.LABEL_NOISE, 0.0)
    if (alike, kind, noise) != (True, "tilted", pairs.LABEL_NOISE)
)


def tilted(rng: np.random.Generator) -> F64:
    """Six value systems ``[6, 18]``: the hand weights, each with its own tastes and its own aversion to harm."""
    out = np.tile(space.HAND_WEIGHTS, (SYSTEMS, 1)) * (1.0 + rng.normal(0.0, 0.5, (SYSTEMS, len(space.ACTIONS))))
    harm = np.geomspace(0.3, 4.0, SYSTEMS)[:, None]
    return np.where(space.NEGATIVE_MASK, out * harm, out)


def unrelated(rng: np.random.Generator) -> F64:
    """Six value systems ``[6, 18]`` that have nothing in common."""
    return rng.normal(size=(SYSTEMS, len(space.ACTIONS)))


def averse(rng: np.random.Generator) -> F64:
    """Six value systems ``[6, 18]`` of utility set B that differ in the aversion to harm alone."""
    return np.stack([space.alpha_weights(alpha) for alpha in np.geomspace(0.3, 6.0, SYSTEMS)])


KINDS: Mapping[str, Callable[[np.random.Generator], F64]] = {"tilted": tilted, "unrelated": unrelated, "averse": averse}


def population(
    net: Network,
    *,
    history: int,
    count: int,
    seed: int,
    systems: Callable[[np.random.Generator], F64] = tilted,
    noise: float = pairs.LABEL_NOISE,
) -> Population:
    """Users of a network with sampled histories and labelled pairs; an archetype is a value system.

    Histories are counts of sampled actions: per action (18), per topic (6), per topic and action (108). Items of a pair
    differ: where items of a topic are alike, they are of two topics.
    """
    rng = np.random.default_rng(seed)
    users, items = len(net.archetypes), len(net.topics)
    truth = systems(rng)
    rich = np.zeros((users, 6, len(space.ACTIONS)))
    for user, kind in enumerate(net.archetypes):
        seen = rng.integers(0, items, history)
        acted = rng.random((history, len(space.ACTIONS))) < net.kinds[kind][seen]
        np.add.at(rich[user], net.topics[seen], acted)
    rich /= history
    first = rng.integers(0, items, (users, count))
    second = (first + rng.integers(1, items, (users, count))) % items
    kinds = net.archetypes[:, None]
    x = net.kinds[kinds, first] - net.kinds[kinds, second]
    while (same := ~x.any(axis=2)).any():
        second[same] = rng.integers(0, items, int(same.sum()))
        x = net.kinds[kinds, first] - net.kinds[kinds, second]
    gap = np.einsum("und,ud->un", x, truth[net.archetypes]) + rng.normal(0.0, noise, (users, count))
    views = {"actions": rich.sum(axis=1), "topics": rich.sum(axis=2), "rich": rich.reshape(users, -1)}
    return Population(views, x * np.sign(gap)[:, :, None], net.archetypes, truth)


def run(context: Context) -> Result:
    """Two-stage, Gaussian mixture, EM, hybrid and gated mixture on the same population; other systems and items beside.

    Six topics whose items are alike span five directions of the eighteen: pairs then say nothing of the other thirteen,
    and weights can order nearly every pair while hardly correlating with the truth.
    """
    users = context.count(600, 60)
    draw = partial(population, history=context.count(200, 60), count=context.count(20, 8), seed=0)
    net = network.build(users, boost=3.0, alike=True)
    people = draw(net)
    found = {
        **{f"two_stage_{view}": pluralism.two_stage(people, view, SYSTEMS) for view in VIEWS},
        "gmm_topics": pluralism.two_stage(people, "topics", SYSTEMS, soft=True),
        "em": pluralism.expectation_maximisation(
            people, SYSTEMS, restarts=context.count(10, 1), steps=context.count(20, 3)
        ),
        "gated": pluralism.gated_mixture(people, "rich", SYSTEMS, steps=context.count(400, 20)),
        "gated_auxiliary": pluralism.gated_mixture(
            people, "rich", SYSTEMS, steps=context.count(400, 20), auxiliary=0.5
        ),
    }
    found["hybrid"] = pluralism.expectation_maximisation(
        people, SYSTEMS, steps=context.count(20, 3), start=0.9 * found["two_stage_rich"][1] + 0.1 / SYSTEMS
    )
    judged = {name: pluralism.judge(people, *result) for name, result in found.items()}
    names = list(judged)
    tried = {f"{SHOWN}; {name}": recovery for name, recovery in judged.items()}
    for alike, kind, noise in SETTINGS if context.tier == "full" else SETTINGS[:1]:
        other = draw(network.build(users, boost=3.0, alike=alike), systems=KINDS[kind], noise=noise)
        name = (
            f"{kind} systems, items {'alike in a topic' if alike else 'of their own'}, noise {noise:g}; two_stage_rich"
        )
        tried[name] = pluralism.judge(other, *pluralism.two_stage(other, "rich", SYSTEMS))
    values = {name: _published(recovery) for name, recovery in tried.items()}
    rank = int(np.linalg.matrix_rank(people.differences[people.truth == 0].reshape(-1, len(space.ACTIONS))))
    return Result(
        values[f"{SHOWN}; two_stage_rich"],
        whys=explanations(
            values,
            "the six published value systems, their items and label noise are not stated; items alike in a topic span "
            f"{rank} of {len(space.ACTIONS)} directions, so pairs can be ordered without weights being found (shown: "
            f"{SHOWN})",
        ),
        detail={name: {**vars(r), "passes": r.passes} for name, r in judged.items()},
        figures={
            "pluralistic": Figure(
                ", ".join(f"{i}: {name}" for i, name in enumerate(names)),
                "method",
                "share or correlation",
                [
                    Series(field, list(range(len(names))), [getattr(r, field) for r in judged.values()], kind="bars")
                    for field in ("accuracy", "assignment", "pearson")
                ],
            )
        },
    )


def _published(recovery: Recovery) -> dict[str, Value]:
    return {
        "pluralistic.two_stage.accuracy": recovery.accuracy,
        "pluralistic.two_stage.purity_rich": recovery.purity,
        "pluralistic.two_stage.pearson": recovery.pearson,
    }


EXPERIMENT = Experiment("pluralistic", "recovering several value systems", (Part("synthetic", run),))

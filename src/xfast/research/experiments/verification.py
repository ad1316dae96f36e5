"""``verification``: does a trained scorer behave like the network it learned from? Causal checks and trajectories."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import kendalltau
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from xfast.actions import RESEARCH18
from xfast.research import network, scorer, space
from xfast.research.environment import F64, I64
from xfast.research.experiments.base import Context, Experiment, Part, Result, Value, explanations
from xfast.research.network import Network
from xfast.research.scorer import Scorer

TOLERANCE = 0.15
# (archetype, action, topic, topic to compare with): the first must be clearly likelier.
RATIOS = (
    (0, "favorite", 0, 1),
    (1, "reply", 1, 0),
    (2, "repost", 2, 5),
    (3, "repost", 3, 5),
    (2, "block_author", 3, 2),
    (4, "share", 4, 1),
)


def value(probabilities: F64) -> F64:
    """Hand-weighted score of action probabilities ``[..., 18]``."""
    return np.asarray(probabilities @ space.HAND_WEIGHTS)


def inject(history: F64, topic: int, action: str, amount: float) -> F64:
    """A history ``[108]`` with more of one action on one topic."""
    out = history.reshape(6, -1).copy()
    out[topic, RESEARCH18.column(action)] += amount
    return out.ravel()


def swap_topics(history: F64, first: int, second: int) -> F64:
    """A history whose behaviour on two topics is exchanged."""
    out = history.reshape(6, -1).copy()
    out[[first, second]] = out[[second, first]]
    return out.ravel()


def suites(net: Network, model: Scorer, *, per_kind: int, seed: int = 1) -> dict[str, float]:
    """The verification suite: separation of users, behaviour, action ratios, blocks, archetype flips."""
    rng = np.random.default_rng(seed)
    kinds: I64 = np.repeat(np.arange(6), per_kind)
    histories = np.stack([scorer.sample_history(net, int(kind), 60, rng) for kind in kinds])
    known, predicted = scorer.truth(net), model.predict(histories)
    by_kind = np.stack([predicted[kinds == kind].mean(axis=0) for kind in range(6)])
    ratios = [
        by_kind[kind, topic, RESEARCH18.column(action)] > by_kind[kind, other, RESEARCH18.column(action)]
        for kind, action, topic, other in RATIOS
    ]
    users = model.embed(histories)
    clusters = KMeans(6, n_init=10, random_state=0).fit_predict(users)
    topics = by_kind.transpose(1, 0, 2).reshape(6, -1)
    return {
        "silhouette_user": float(silhouette_score(users, kinds)),
        "silhouette_user_kmeans": float(silhouette_score(users, clusters)),
        "topic_distance": float(np.mean([np.linalg.norm(a - b) for a, b in combinations(topics, 2)])),
        "behavioural": float((np.abs(by_kind - known) <= TOLERANCE).mean()),
        "action_ratios": float(np.mean(ratios)),
        "block_effect": _blocks(model, histories, kinds, rng),
        "archetype_flip": _flips(model, histories, kinds, known),
    }


def _blocks(model: Scorer, histories: F64, kinds: I64, rng: np.random.Generator, tests: int = 50) -> float:
    """Share of tests in which blocking an author of a topic lowers the topic's score."""
    rows = rng.integers(0, len(histories), tests)
    topics = rng.integers(0, 6, tests)
    after = np.stack([inject(histories[row], int(t), "block_author", 0.1) for row, t in zip(rows, topics, strict=True)])
    change = value(model.predict(after)) - value(model.predict(histories[rows]))
    return float(np.mean(change[np.arange(tests), topics] < 0))


def _flips(model: Scorer, histories: F64, kinds: I64, known: F64, tests: int = 30) -> float:
    """Share of archetype swaps after which the new archetype's topic scores higher than it did."""
    hits: list[bool] = []
    for source in range(6):
        for target in range(6):
            if source != target and len(hits) < tests:
                history = histories[kinds == source][0]
                replaced = histories[kinds == target][0]
                wanted = value(known[target]) - value(known[source])
                got = value(model.predict(replaced[None])[0]) - value(model.predict(history[None])[0])
                hits.append(bool(np.corrcoef(wanted, got)[0, 1] > 0.5))
    return float(np.mean(hits))


def causal(model: Scorer, histories: F64) -> dict[str, float]:
    """Seven stress tests: share of histories that react the right way."""
    base = value(model.predict(histories))

    def reacts(topic: int, action: str, sign: float, amount: float = 0.1) -> float:
        after = np.stack([inject(history, topic, action, amount) for history in histories])
        return float(np.mean(sign * (value(model.predict(after)) - base)[:, topic] > 0))

    swapped = value(model.predict(np.stack([swap_topics(history, 0, 4) for history in histories])))
    doubled = value(model.predict(histories * 2.0))
    return {
        "block_lowers": reacts(2, "block_author", -1.0),
        "mute_lowers": reacts(2, "mute_author", -1.0),
        "report_lowers": reacts(3, "report", -1.0),
        "follow_raises": reacts(1, "follow_author", 1.0),
        "favorite_raises": reacts(0, "favorite", 1.0),
        "topic_swap_moves_order": float(np.mean((base[:, 0] > base[:, 4]) == (swapped[:, 4] > swapped[:, 0]))),
        "longer_history_keeps_order": float(np.mean(base.argmax(axis=1) == doubled.argmax(axis=1))),
    }


def trajectory(net: Network, model: Scorer, kind: int, *, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """Follow one user: serve the best topics, let them act, score again.

    Returns stability of the ranking (Kendall tau of consecutive ones), Gini and coverage of what was shown, how often
    the first choice was predicted, and how much the order changes without the history.
    """
    length = 20.0
    history = scorer.sample_history(net, kind, int(length), rng)
    shown, taus, right = np.zeros(6), [], []
    ranking = value(model.predict(history[None])[0])
    preferred = int(value(scorer.truth(net)[kind]).argmax())
    for _ in range(steps):
        topic = int(ranking.argmax())
        shown[topic] += 1
        right.append(topic == preferred)
        item = rng.choice(np.flatnonzero(net.topics == topic))
        acted = (rng.random(len(space.ACTIONS)) < net.kinds[kind][item]).astype(np.float64)
        grown = history.reshape(6, -1) * length
        grown[topic] += acted
        length += 1.0
        history = (grown / length).ravel()
        following = value(model.predict(history[None])[0])
        taus.append(kendalltau(ranking, following).statistic)
        ranking = following
    blank = value(model.predict(np.zeros((1, scorer.RICH)))[0])
    order = np.sort(shown)
    gini = float((2 * np.arange(1, 7) - 7) @ order / (6 * order.sum()))
    return {
        "tau": float(np.mean(taus)),
        "gini": gini,
        "coverage": float((shown > 0).mean()),
        "first_choice": float(np.mean(right)),
        "history_matters": 1.0 - float(kendalltau(ranking, blank).statistic),
    }


# (histories, steps) of the scorer's training; the last one is shown.
TRAININGS = ((30, 20), (100, 50), (100, 600), (300, 100), (1_200, 100), (1_200, 600))


def run(context: Context) -> Result:
    """Train the small scorer, run every suite, follow trajectories; the suites again on scorers trained less."""
    net = network.build(600, boost=3.0)
    tried = {}
    for count, steps in TRAININGS if context.tier == "full" else TRAININGS[:2]:
        model = scorer.train(net, histories=count, steps=steps)
        found = suites(net, model, per_kind=context.count(40, 5))
        name = f"{count} histories, {steps} steps"
        tried[name] = found
    rng = np.random.default_rng(3)
    histories = np.stack([scorer.sample_history(net, kind % 6, 60, rng) for kind in range(context.count(60, 12))])
    paths = [trajectory(net, model, kind, steps=context.count(30, 4), rng=rng) for kind in range(6)]
    walked = {key: float(np.mean([path[key] for path in paths])) for key in paths[0]}
    published = ("block_effect", "archetype_flip", "behavioural", "silhouette_user")
    values: dict[str, dict[str, Value]] = {
        name: {f"twitter.{key}": each[key] for key in published} for name, each in tried.items()
    }
    return Result(
        dict(values[name]),
        whys=explanations(
            values,
            "the published numbers belong to a trained ranker whose checkpoint is not public; here a scorer with one "
            f"hidden layer on the synthetic network, by how long it trained on how much (shown: {name})",
        ),
        detail={
            "suites": found,
            "suites_by_training": tried,
            "causal": causal(model, histories),
            "trajectories": walked,
        },
    )


EXPERIMENT = Experiment(
    "verification", "causal checks, behaviour and trajectories of a trained scorer", (Part("synthetic", run),)
)

"""``noise``: label noise and proxy error — does the direction condition need training that agrees with itself?"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from xfast.research import directions, policies, training
from xfast.research.environment import Environment
from xfast.research.experiments.base import Context, Experiment, Figure, Result, Series, Value, per_dataset
from xfast.research.experiments.labels import MEMBERS

# Published range .05 to 1.5 in six levels; the ones between are not stated.
LEVELS = (0.05, 0.1, 0.3, 0.5, 1.0, 1.5)
SIGMAS = (0.1, 0.3, 0.5)
# Published ids say "mind" for MIND-small.
STEMS = {"mind-small": "mind"}


def convergence_and_match(
    environment: Environment, noise: float, *, n: int, seeds: tuple[int, ...]
) -> dict[str, tuple[float, float]]:
    """Per stakeholder: mean cosine of its weights across three losses, and share of hidden ones of the predicted sign.

    The prediction is the sign of the cosine of trained weights, the outcome that of the softmax change at T = 1.
    """
    plain, _ = directions.unperturbed(environment, MEMBERS, n=n, seeds=seeds, noise=noise)
    learned = directions.goodhart_pairs(environment, seeds=seeds, schedule=training.PUBLISHED, noise=noise)
    out = {}
    for who in environment.names:
        within = [directions.mean_cosine(plain[a.name, who], plain[b.name, who]) for a, b in combinations(MEMBERS, 2)]
        hits = []
        for hidden in environment.names:
            if hidden != who:
                cosine = directions.mean_cosine(plain[MEMBERS[0].name, who], plain[MEMBERS[0].name, hidden])
                moved = directions.softmax_change(environment, learned, who, hidden, 1.0).mean()
                hits.append(float(np.sign(moved) == np.sign(cosine)))
        out[who] = float(np.mean(within)), float(np.mean(hits))
    return out


def invariance(environment: Environment, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Learned direction and selection under proxies of growing error.

    Returns
    -------
    Sigma -> ``cosine`` to the direction learned without proxy error and ``same_sign`` (share of ordered pairs whose
    softmax change keeps its sign), both at 2,000 pairs; and for few and many pairs ``items_shown``, the effective
    number of items of the softmax feed at T = 1.
    """
    exact = directions.goodhart_pairs(environment, seeds=seeds, schedule=training.PUBLISHED, sigma=0.0)
    pairs = list(permutations(environment.names, 2))

    def signs(learned: directions.Pairs) -> list[float]:
        return [float(np.sign(directions.softmax_change(environment, learned, a, b, 1.0).mean())) for a, b in pairs]

    reference = signs(exact)
    out: dict[str, Any] = {}
    for sigma in SIGMAS:
        learned = directions.goodhart_pairs(environment, seeds=seeds, schedule=training.PUBLISHED, sigma=sigma)
        cosines = [directions.mean_cosine(learned.many[who], exact.many[who]) for who in environment.names]
        shown = {}
        for key, weights in (("few", learned.few), ("many", learned.many)):
            scores = np.concatenate(list(weights.values())) @ environment.features.T
            shown[key] = float(policies.effective_items(policies.softmax(scores, 1.0)).mean())
        same = np.mean([a == b for a, b in zip(signs(learned), reference, strict=True)])
        out[str(sigma)] = {"cosine": float(np.mean(cosines)), "same_sign": float(same), "items_shown": shown}
    return out


def run(context: Context, name: str) -> Result:
    """Convergence against match over six noise levels; invariance and concentration over three proxy errors."""
    environment = context.environment(name)
    seeds = directions.PAIR_SEEDS[: context.count(5, 2)]
    levels = LEVELS[:: context.count(1, 5)]
    found = {
        noise: convergence_and_match(environment, noise, n=context.count(2_500, 250), seeds=seeds) for noise in levels
    }
    points = np.array([point for each in found.values() for point in each.values()])
    varies = np.ptp(points, axis=0).min() > 0
    rho = float(spearmanr(points[:, 0], points[:, 1]).statistic) if varies else 0.0
    values: dict[str, Value] = {f"ablation.{STEMS.get(name, name)}.withinloss_vs_match_spearman": rho}
    return Result(
        values,
        detail={
            "within_loss_and_match": {str(noise): each for noise, each in found.items()},
            "invariance": invariance(environment, seeds),
        },
        figures={
            f"noise-{name}": Figure(
                f"{name}: agreement across losses does not decide whether the sign is right (six noise levels)",
                "mean cosine across losses",
                "share of hidden stakeholders with the predicted sign",
                [
                    Series(
                        f"noise {noise:g}",
                        [within for within, _ in each.values()],
                        [match for _, match in each.values()],
                        kind="points",
                    )
                    for noise, each in found.items()
                ],
            )
        },
    )


EXPERIMENT = Experiment(
    "noise", "label noise and proxy error: convergence, invariance, concentration", per_dataset(run)
)

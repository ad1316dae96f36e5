"""``labels``: same labels with different losses, or the same loss with different labels — which moves the weights?"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from xfast.research import directions, losses
from xfast.research.experiments.base import Context, Experiment, Result, Value, per_dataset

MEMBERS = (losses.bradley_terry(), losses.margin(), losses.calibrated())


def run(context: Context, name: str) -> Result:
    """Cosines within a stakeholder across losses and across stakeholders within a loss; accuracies."""
    environment = context.environment(name)
    seeds = directions.PAIR_SEEDS[: context.count(5, 2)]
    weights, accuracies = directions.unperturbed(environment, MEMBERS, n=context.count(2_500, 250), seeds=seeds)
    values: dict[str, Value] = {}
    for who in environment.names:
        pairs_of_losses = [
            directions.mean_cosine(weights[a.name, who], weights[b.name, who]) for a, b in combinations(MEMBERS, 2)
        ]
        values[f"labels_not_loss.{name}.{who}.within_loss_cos"] = float(np.mean(pairs_of_losses))
    for member in MEMBERS:
        for a, b in combinations(environment.names, 2):
            cosine = directions.mean_cosine(weights[member.name, a], weights[member.name, b])
            values[f"labels_not_loss.{name}.{member.name}.{a}-{b}.cos"] = cosine
    values[f"labels_not_loss.{name}.train_mean"] = float(np.mean(accuracies["train"]))
    values[f"labels_not_loss.{name}.eval_mean"] = float(np.mean(accuracies["eval"]))
    values[f"labels_not_loss.{name}.eval_min"] = float(np.min(accuracies["eval"]))
    return Result(values)


EXPERIMENT = Experiment("labels", "labels, not losses, decide the learned direction", per_dataset(run))

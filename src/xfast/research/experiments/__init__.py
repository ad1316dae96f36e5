"""Every experiment by name, in the order in which `xfast research run all` runs them."""

from xfast.research.experiments import (
    budget,
    direction,
    foundation,
    goodhart,
    labels,
    loss_study,
    observation,
    scalarization,
)
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (foundation, labels, direction, goodhart, budget, observation, scalarization, loss_study)
}

__all__ = ["EXPERIMENTS", "Context", "Experiment", "Figure", "Part", "Result", "Series"]

"""Every experiment by name, in the order in which `xfast research run all` runs them."""

from xfast.research.experiments import (
    audit_table,
    budget,
    closed_forms,
    direction,
    foundation,
    goodhart,
    labels,
    loss_study,
    observation,
    protocol,
    scalarization,
)
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        foundation,
        audit_table,
        labels,
        direction,
        goodhart,
        budget,
        observation,
        scalarization,
        loss_study,
        closed_forms,
        protocol,
    )
}

__all__ = ["EXPERIMENTS", "Context", "Experiment", "Figure", "Part", "Result", "Series"]

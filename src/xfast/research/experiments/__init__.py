"""Every experiment by name, in the order in which `xfast research run all` runs them."""

from xfast.research.experiments import (
    audit_table,
    budget,
    closed_forms,
    direction,
    foundation,
    geometry,
    goodhart,
    labels,
    loss_study,
    network_study,
    observation,
    plural_study,
    protocol,
    recovery,
    scalarization,
    training_basics,
    verification,
)
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (
        foundation,
        audit_table,
        training_basics,
        labels,
        direction,
        goodhart,
        budget,
        observation,
        scalarization,
        loss_study,
        recovery,
        geometry,
        network_study,
        plural_study,
        verification,
        closed_forms,
        protocol,
    )
}

__all__ = ["EXPERIMENTS", "Context", "Experiment", "Figure", "Part", "Result", "Series"]

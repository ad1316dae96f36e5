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
    noise_study,
    observation,
    optimisations,
    phoenix_world,
    plural_study,
    protocol,
    ranker,
    recovery,
    scalarization,
    training_basics,
    verification,
)
from xfast.research.experiments.base import Context, Experiment, Figure, Part, Result, Series

_MODULES = (
    foundation,
    audit_table,
    training_basics,
    labels,
    direction,
    goodhart,
    noise_study,
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
    phoenix_world,
    optimisations,
    ranker,
)
EXPERIMENTS: dict[str, Experiment] = {module.EXPERIMENT.name: module.EXPERIMENT for module in _MODULES}
# Experiment -> the module whose code it depends on.
HOMES: dict[str, str] = {module.EXPERIMENT.name: module.__name__ for module in _MODULES}

__all__ = ["EXPERIMENTS", "HOMES", "Context", "Experiment", "Figure", "Part", "Result", "Series"]

"""Models by cluster id, as the mixer's parameters name them (HOME_MIXER §5, §8.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from xfast.errors import ConfigurationError
from xfast.phoenix.features import Engagements

__all__ = ["fit_sequence", "model_of"]

M = TypeVar("M")


def model_of(models: Mapping[str, M], cluster: str) -> M:
    """The model of a cluster; an entry ``"*"`` serves every cluster without its own.

    Raises
    ------
    ConfigurationError
        No model serves the cluster.
    """
    model = models.get(cluster, models.get("*"))
    if model is None:
        raise ConfigurationError(f"no model serves cluster {cluster!r}, models exist for {sorted(models)}")
    return model


def fit_sequence(sequence: Engagements, num_actions: int) -> Engagements:
    """A history cut to the action columns that a model has."""
    if sequence.actions.shape[1] <= num_actions:
        return sequence
    return replace(sequence, actions=np.ascontiguousarray(sequence.actions[:, :num_actions]))

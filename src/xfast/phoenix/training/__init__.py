"""Training of both Phoenix towers, and the measures of what was trained (docs/training.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Progress": "loop",
    "Sequences": "sequences",
    "TrainConfig": "config",
    "TrainResult": "loop",
    "default_model_config": "config",
    "train_ranker": "ranker",
    "train_retrieval": "retrieval",
}

__all__ = [
    "Progress",
    "Sequences",
    "TrainConfig",
    "TrainResult",
    "default_model_config",
    "train_ranker",
    "train_retrieval",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"xfast.phoenix.training.{_HOME[name]}"), name)
    raise AttributeError(f"module 'xfast.phoenix.training' has no attribute {name!r}")


if TYPE_CHECKING:
    from xfast.phoenix.training.config import TrainConfig, default_model_config
    from xfast.phoenix.training.loop import Progress, TrainResult
    from xfast.phoenix.training.ranker import train_ranker
    from xfast.phoenix.training.retrieval import train_retrieval
    from xfast.phoenix.training.sequences import Sequences

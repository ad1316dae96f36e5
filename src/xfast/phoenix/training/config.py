"""What a training run is told: one TOML file, or the same as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xfast.actions import canonical
from xfast.errors import ConfigurationError
from xfast.phoenix.config import HashFamily, PhoenixConfig
from xfast.phoenix.layout import TowerName

__all__ = ["TrainConfig", "default_model_config"]

# PHOENIX §1: the constants of the public drop.
_USER = HashFamily((196742702, 1852108266), (1935840681, 167407236), 2859568897)
_ITEM = HashFamily((2161410491, 1754358832), (1935840681, 167407236), 2361375383)
_AUTHOR = HashFamily((371965780, 328930218), (139686260, 37755056), 631860353)


def default_model_config(tower: TowerName, **overrides: Any) -> PhoenixConfig:
    """Return our own model: ``proto`` actions (49), right-anchored RoPE in the ranker, small sizes.

    ``overrides`` are fields of :class:`~xfast.phoenix.PhoenixConfig`.
    """
    base = PhoenixConfig(
        emb_size=64, key_size=32, num_heads=2, num_layers=2, num_actions=49, history_seq_len=64, candidate_seq_len=32,
        num_user_hashes=2, num_item_hashes=2, num_author_hashes=2,
        user_vocab_size=20_000, item_vocab_size=20_000, author_vocab_size=5_000,
        user_hash=_USER, item_hash=_ITEM, author_hash=_AUTHOR, right_anchored_rope=tower == "ranker",
    )  # fmt: skip
    return base.replace(**overrides)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run, beside the model's own.

    Attributes
    ----------
    epochs, batch_size
        Passes over the data; windows per step.
    window_stride
        New history tokens per window of a long history; 0: the model's history length, so windows do not overlap.
    examples_per_window
        Slots for rows to predict; 0: ``history_seq_len + 1``. More rows in a window make another window.
    shuffle_ties
        Draw the order of rows with the same user and second anew in every epoch; for data where it means nothing.
    dense_learning_rate, warmup_steps, final_fraction, weight_decay, adam_b2, clip_norm
        AdamW on the dense parameters: peak of the cosine, linear warm-up, share of the peak that is left at the end.
    table_learning_rate
        Row-wise Adagrad on the embedding tables; follows the same schedule.
    table_init, embedding_dropout, residual_dropout, user_dropout
        Standard deviation of fresh rows; rates. ``user_dropout`` empties the user's embedding of a whole window, which
        is what a user looks like whom the tables do not know.
    validation_rows, validation_users, validate_every, patience
        Last rows of a user kept for validation, for at most so many users; steps between looks (0: once per epoch);
        looks without improvement before the run stops (0: never).
    checkpoint_every
        Steps between checkpoints, where a path is given.
    negatives
        ``in_batch`` (with logQ correction) or ``catalogue`` (every post; exact, for catalogues up to some thousands).
    shared_negatives
        Targets of the batch that serve as negatives of all others (``in_batch``).
    hard_negatives
        Per window: posts that the user was shown and did not act on.
    log_q_correction
        Whether ``in_batch`` negatives are corrected for how often their post comes up.
    initial_temperature
        Of the retrieval softmax; the logarithm is learnt.
    positive_actions
        Actions that make a row a retrieval target; empty: any action that is not negative feedback.
    random_negatives
        Per window, for the ranker: posts drawn by popularity ** ``negative_power``, labelled "nothing happened".
    negative_power
        See ``random_negatives``.
    action_weights
        Loss weights of action columns by name, for the ranker; 1 where absent.
    post_age
        Whether the ranker sees the age of candidates.
    """

    epochs: int = 10
    batch_size: int = 32
    window_stride: int = 0
    examples_per_window: int = 0
    shuffle_ties: bool = False
    dense_learning_rate: float = 3e-3
    warmup_steps: int = 50
    final_fraction: float = 0.02
    weight_decay: float = 0.01
    adam_b2: float = 0.98
    clip_norm: float = 1.0
    table_learning_rate: float = 0.1
    table_init: float = 0.05
    embedding_dropout: float = 0.2
    residual_dropout: float = 0.1
    user_dropout: float = 0.5
    validation_rows: int = 0
    validation_users: int = 1000
    validate_every: int = 0
    patience: int = 3
    checkpoint_every: int = 200
    negatives: Literal["in_batch", "catalogue"] = "in_batch"
    shared_negatives: int = 512
    hard_negatives: int = 0
    log_q_correction: bool = True
    initial_temperature: float = 0.07
    positive_actions: tuple[str, ...] = ()
    random_negatives: int = 0
    negative_power: float = 0.75
    action_weights: Mapping[str, float] = field(default_factory=dict)
    post_age: bool = True

    def __post_init__(self) -> None:
        def check(key: str, good: bool, allowed: str) -> None:
            if not good:
                raise ConfigurationError(f"{key} is {getattr(self, key)!r}, must be {allowed}")

        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.type == "int":
                check(f.name, isinstance(value, int) and not isinstance(value, bool) and value >= 0, "an integer >= 0")
            elif f.type == "float":
                check(f.name, isinstance(value, (int, float)) and 0 <= value < 1e6, "a number >= 0")
            elif f.type == "bool":
                check(f.name, isinstance(value, bool), "true or false")
        for key in ("epochs", "batch_size", "checkpoint_every", "shared_negatives"):
            check(key, getattr(self, key) >= 1, "at least 1")
        for key in ("embedding_dropout", "residual_dropout", "user_dropout"):
            check(key, getattr(self, key) < 1, "in [0, 1)")
        for key in ("dense_learning_rate", "table_learning_rate", "initial_temperature", "clip_norm"):
            check(key, getattr(self, key) > 0, "positive")
        check("adam_b2", 0 < self.adam_b2 < 1, "between 0 and 1 (exclusive)")
        check("negatives", self.negatives in ("in_batch", "catalogue"), "'in_batch' or 'catalogue'")
        object.__setattr__(self, "positive_actions", tuple(canonical(name) for name in self.positive_actions))
        object.__setattr__(self, "action_weights", {canonical(k): float(v) for k, v in self.action_weights.items()})

    @classmethod
    def load(cls, path: str | Path, tower: TowerName) -> tuple[TrainConfig, PhoenixConfig]:
        """Read a TOML file: ``[train]`` has the fields of this class, ``[model]`` those of the model.

        Raises
        ------
        ConfigurationError
            The file cannot be read, or has an unknown key or a value out of range.
        """
        try:
            document = tomllib.loads(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{path}: cannot be read: {error}") from error
        try:
            if unknown := sorted(set(document) - {"train", "model"}):
                raise ConfigurationError(f"table {unknown[0]!r} is unknown, must be 'train' or 'model'")
            return cls.from_mapping(document.get("train", {})), default_model_config(tower, **document.get("model", {}))
        except ConfigurationError as error:
            error.add_note(f"in {path}")
            raise

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from plain values; an unknown key is an error that lists the known ones."""
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigurationError(f"train.{key} is unknown, must be one of {', '.join(sorted(known))}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values, fit for JSON and TOML."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

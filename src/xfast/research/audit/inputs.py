"""What an audit reads: the weights of a feed, what society wants, and the items both judge."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import yaml

from xfast.actions import RESEARCH18, canonical
from xfast.errors import ConfigurationError, DataError, ParameterError
from xfast.mixer.heads import HEADS
from xfast.mixer.params import CONTINUOUS_WEIGHTS, NEGATIVE_WEIGHTS, POSITIVE_WEIGHTS, Params
from xfast.mixer.params import PRESETS as FEED_PRESETS
from xfast.research import space
from xfast.research.environment import F64

_FIELDS: Final = dict(zip((*POSITIVE_WEIGHTS, *NEGATIVE_WEIGHTS, *CONTINUOUS_WEIGHTS), HEADS, strict=True))
_SPELLINGS: Final = {
    key: head
    for field_name, head in _FIELDS.items()
    for key in (field_name, str(Params.__dataclass_fields__[field_name].metadata["public"]))
}
# The mixer's scoring parameters by both of their names -> the action that each one weighs.
PARAMETERS: Final[Mapping[str, str]] = {key: head for key, head in _SPELLINGS.items() if head in RESEARCH18}
# Those without a column among the 18 actions: read, reported, left out.
OUTSIDE: Final = frozenset(_SPELLINGS) - frozenset(PARAMETERS)


def _mixer_preset(name: str) -> dict[str, float]:
    params = Params.preset(name)
    return {head: float(getattr(params, field_name)) for field_name, head in _FIELDS.items() if head in RESEARCH18}


# The feed's own presets come from the mixer: there is no second copy to go stale.
PRESETS: Final[Mapping[str, Mapping[str, float]]] = {
    **{name: _mixer_preset(name) for name in FEED_PRESETS},
    "hand": dict(zip(space.ACTIONS, space.HAND_WEIGHTS.tolist(), strict=True)),
    "engagement": dict.fromkeys(space.ACTIONS, 1.0),
}


@dataclass(frozen=True)
class FeedWeights:
    """Weights of a feed over the 18 actions.

    Attributes
    ----------
    name
        Preset or file the weights come from.
    weights
        ``[18]``.
    ignored
        Scoring parameters that have no column among the 18 actions.
    """

    name: str
    weights: F64
    ignored: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Society:
    """Utilities that judge the feed: name -> ``[18]`` weights. The first one is the one the audit is about."""

    judges: Mapping[str, F64]

    @property
    def first(self) -> str:
        return next(iter(self.judges))


def preset(name: str) -> FeedWeights:
    """Weights of a named preset."""
    if name not in PRESETS:
        raise ParameterError(f"preset is {name!r}; known are {', '.join(PRESETS)}")
    return FeedWeights(f"preset {name}", space.vector(PRESETS[name]))


def read_weights(source: str) -> FeedWeights:
    """Weights from a preset name or a feed's TOML file.

    The file may name a preset (``params = "2026-08"`` or ``preset = …``) and change single weights, by action
    (``favorite = 1.0``) or by parameter (``FavoriteWeight = 1.0``), at the top or in tables ``[weights]`` or
    ``[params]``. Other keys belong to other parts of the feed and are left alone; a file that `Params.load` reads means
    here what it means there.

    Raises
    ------
    ConfigurationError
        The file names an unknown preset, gives a weight that is not a finite number, or gives none at all.
    """
    if source in PRESETS:
        return preset(source)
    path = Path(source)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(
            f"--weights {source} is neither a preset ({', '.join(PRESETS)}) nor TOML: {error}"
        ) from error
    named = document.get("preset", document.get("params"))
    if isinstance(named, dict):
        named = next(iter(FEED_PRESETS))  # a mixer's file that names no preset differs from the first one
    weights: dict[str, float] = {}
    if isinstance(named, str):
        if named not in PRESETS:
            raise ConfigurationError(f"{path}: preset is {named!r}; known are {', '.join(PRESETS)}")
        weights |= PRESETS[named]
    ignored: dict[str, float] = {}
    tables = [document, *(document[key] for key in ("weights", "params") if isinstance(document.get(key), dict))]
    for table in tables:
        for key, value in table.items():
            action = _action(PARAMETERS.get(key, key))
            if key in OUTSIDE:
                ignored[key] = _number(path, key, value)
            elif action is not None:
                weights[action] = _number(path, key, value)
            elif table is document.get("weights"):
                raise ConfigurationError(f"{path}: [weights] has {key!r}; known are {', '.join(space.ACTIONS)}")
    if not weights:
        raise ConfigurationError(f"{path} names no preset and no action weight")
    return FeedWeights(path.name, space.vector(weights), ignored)


def read_society(path: Path | None) -> Society:
    """Judges from a YAML file, or the published ones (society alpha 4, user alpha 1).

    The file maps names to either ``alpha: 4`` (utility set B) or ``weights: {action: value}``;
    the first is the subject.
    """
    if path is None:
        return Society({"society": space.alpha_weights(4.0), "user": space.alpha_weights(1.0)})
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"--society {path}: {error}") from error
    if not isinstance(document, dict) or not document:
        raise ConfigurationError(f"--society {path}: a mapping of names to alpha or weights is needed")
    judges: dict[str, F64] = {}
    for name, entry in document.items():
        if not isinstance(entry, dict) or set(entry) not in ({"alpha"}, {"weights"}):
            raise ConfigurationError(f"{path}: {name!r} needs exactly one of alpha or weights")
        if "alpha" in entry:
            judges[str(name)] = space.alpha_weights(_number(path, f"{name}.alpha", entry["alpha"]))
        elif isinstance(entry["weights"], dict):
            pairs = {str(k): _number(path, f"{name}.weights.{k}", v) for k, v in entry["weights"].items()}
            unknown = [key for key in pairs if _action(key) is None]
            if unknown:
                raise ConfigurationError(
                    f"{path}: {name}.weights has {unknown[0]!r}; known are {', '.join(space.ACTIONS)}"
                )
            judges[str(name)] = space.vector(pairs)
        else:
            raise ConfigurationError(f"{path}: {name}.weights is not a mapping of actions to numbers")
    return Society(judges)


def read_items(path: Path) -> F64:
    """Action probabilities ``[I, 18]`` from a Parquet file with one column per action; missing actions count as 0.

    Raises
    ------
    DataError
        No action column, one action twice, fewer than 3 items, or a value outside [0, 1].
    """
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"--items {path}: {error}") from error
    present: dict[str, str] = {}
    for column in table.columns:
        action = _action(column)
        if action is not None:
            if action in present:
                raise DataError(f"--items {path}: columns {present[action]!r} and {column!r} are both {action}")
            present[action] = column
    if not present or table.height < 3:
        raise DataError(f"--items {path}: {table.height} rows, {len(present)} action columns; 3 rows, 1 column needed")
    out = np.zeros((table.height, len(space.ACTIONS)))
    for action, column in present.items():
        kind = table[column].dtype
        if not kind.is_numeric():
            raise DataError(f"--items {path}: column {column!r} holds {kind}; numbers in [0, 1] are needed")
        values = table[column].cast(pl.Float64).to_numpy()
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(wrong):
            found = values[wrong[0]]
            raise DataError(f"--items {path}: column {column!r}, row {wrong[0]} is {found:g}, must lie in [0, 1]")
        out[:, space.ACTIONS.index(action)] = values
    return out


def _action(name: str) -> str | None:
    """The canonical action behind a key, or None for keys that are something else."""
    try:
        return canonical(name) if name in RESEARCH18 else None
    except ParameterError:
        return None


def _number(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise ConfigurationError(f"{path}: {key} is {value!r}; a finite number is needed")
    return float(value)

"""FeedConfig: what a feed.toml says, read and checked as a whole."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, get_args

from xfast.errors import ConfigurationError, ParameterError
from xfast.feed.network import Retention
from xfast.mixer.deciders import Decider
from xfast.mixer.embedded.simple import TextPrompt
from xfast.mixer.params import Params
from xfast.mixer.quirks import Quirks

__all__ = ["FeedConfig", "LogOptions", "ThunderOptions"]

#: What a file may be called when a folder is given.
FILE_NAME = "feed.toml"
_PROMPT_KINDS = ("INLINE_PROMPT", "FULL_COVER", "HALF_COVER", "RELEVANCE_PROMPT")


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How the event log is kept; see :class:`xfast.thunder.EventLog`."""

    fsync: Literal["always", "interval", "never"] = "interval"
    segment_bytes: int = 64 << 20


@dataclass(frozen=True, kw_only=True)
class ThunderOptions:
    """Limits of the in-network store; see :class:`xfast.thunder.PostStore`. Its retention is ``MAX_POST_AGE``."""

    max_original_per_author: int = 20
    max_secondary_per_author: int = 10
    max_scan_per_author: int = 100


@dataclass(frozen=True, kw_only=True)
class FeedConfig:
    """A validated feed.toml; paths are absolute or relative to the file.

    Attributes
    ----------
    models
        Folder or zip with ``ranker/`` and ``retrieval/``.
    clusters
        Cluster id of the parameters (``PhoenixInferenceClusterId`` and the like) -> folder or zip with the ``ranker/``
        or ``retrieval/`` that serves it; ``models`` serves all others.
    directory
        Where log, snapshots and, unless ``store`` says otherwise, the SQLite store live. ``None``: in memory only.
    store
        ``sqlite:///…`` or ``postgresql://…``; empty: ``feed.db`` in the directory.
    store_timeout_ms
        Deadline of a statement.
    campaigns
        TOML file of ads (:class:`xfast.mixer.embedded.CampaignAds`).
    preset, params
        Named parameters and what differs from them, by public or attribute name.
    deciders
        Decider -> share of requests, 0 to 1, for which it is on.
    quirks
        ``fixed``, or ``reference`` for every oddity of the release.
    clock
        ``system``, or ``replay``: the time of the newest event.
    engine, precision
        Of both models.
    index
        How retrieval searches: ``exact``, or ``faiss:…``.
    deadline_ms
        Per request; 0: none.
    call_deadline_ms
        Per call to a store; 0: none.
    save_seconds
        Between two snapshots while events come in.
    """

    models: Path
    clusters: Mapping[str, Path] = field(default_factory=dict)
    directory: Path | None = None
    store: str = ""
    store_timeout_ms: int = 5_000
    campaigns: Path | None = None
    preset: str = "2026-08"
    params: Mapping[str, Any] = field(default_factory=dict)
    deciders: Mapping[str, float] = field(default_factory=dict)
    quirks: Quirks = "fixed"
    clock: Literal["system", "replay"] = "system"
    engine: Literal["auto", "native", "xla", "pallas"] = "auto"
    precision: Literal["float32", "bfloat16", "int8"] = "float32"
    index: str = "exact"
    deadline_ms: int = 0
    call_deadline_ms: int = 5_000
    save_seconds: float = 300.0
    log: LogOptions = field(default_factory=LogOptions)
    thunder: ThunderOptions = field(default_factory=ThunderOptions)
    retention: Retention = field(default_factory=Retention)
    prompts: tuple[TextPrompt, ...] = ()

    def parameters(self) -> Params:
        """The mixer's parameters.

        Raises
        ------
        ConfigurationError
            An unknown name, a bad value, or a combination that cannot work.
        """
        return Params.preset(self.preset).override(self.params).check()

    @property
    def store_url(self) -> str:
        """Where the store is."""
        if self.store:
            return self.store
        return f"sqlite:///{self.directory / 'feed.db'}" if self.directory else "sqlite://"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file, or ``feed.toml`` in a folder.

        Raises
        ------
        ConfigurationError
            No such file, malformed TOML, an unknown key (with the nearest known one), a wrong type or value; names the
            file.
        """
        file = Path(path)
        file = file / FILE_NAME if file.is_dir() else file
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigurationError(f"{file}: no such file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: {error}") from None
        try:
            return cls.from_mapping(document, base=file.parent)
        except ConfigurationError as error:
            raise type(error)(f"{file}: {error}") from None

    @classmethod
    def from_mapping(cls, document: Mapping[str, Any], *, base: Path | None = None) -> Self:
        """Build from parsed TOML; relative paths start at ``base``."""
        values = _checked(cls, document, "")
        if "models" not in values:
            raise ConfigurationError("models is missing: the folder or zip with ranker/ and retrieval/")
        base = base or Path()
        for name in ("models", "directory", "campaigns"):
            if name in values:
                values[name] = (base / Path(values[name]).expanduser()).resolve()
        values["clusters"] = {
            name: (base / Path(_value("clusters", name, path, "str")).expanduser()).resolve()
            for name, path in values.get("clusters", {}).items()
        }
        for name, share in values.get("deciders", {}).items():
            _value("deciders", name, share, "float")
        try:
            Decider(values.get("deciders", {}))
        except ParameterError as error:
            raise ConfigurationError(str(error)) from None
        store = values.get("store", "")
        if store.startswith("sqlite:///") and not store.startswith("sqlite:////"):
            values["store"] = f"sqlite:///{(base / store.removeprefix('sqlite:///')).resolve()}"
        config = cls(**values)
        config.parameters()
        return config


_TABLES: dict[str, type[Any]] = {"log": LogOptions, "thunder": ThunderOptions, "retention": Retention}
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "quirks"): get_args(Quirks),
    ("", "clock"): ("system", "replay"),
    ("", "engine"): ("auto", "native", "xla", "pallas"),
    ("", "precision"): ("float32", "bfloat16", "int8"),
    ("log", "fsync"): ("always", "interval", "never"),
}


def _checked(kind: type[Any], document: Mapping[str, Any], table: str) -> dict[str, Any]:
    known = {item.name: item for item in fields(kind)}
    where = f"{table}." if table else ""
    values: dict[str, Any] = {}
    for key, value in document.items():
        if key == "prompt" and not table:
            values["prompts"] = tuple(_prompt(each) for each in _list_of_tables(value))
            continue
        if key not in known or key == "prompts":
            names = [name for name in known if name != "prompts"] + ([] if table else ["prompt"])
            close = get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f", did you mean {where}{close[0]}?" if close else f", known are {', '.join(sorted(names))}"
            raise ConfigurationError(f"unknown key {where}{key}{hint}")
        if key in _TABLES and not table:
            if not isinstance(value, Mapping):
                raise ConfigurationError(f"{key} is {value!r}, must be a table")
            values[key] = _TABLES[key](**_checked(_TABLES[key], value, key))
        else:
            values[key] = _value(table, key, value, str(known[key].type))
    return values


def _value(table: str, key: str, value: Any, declared: str) -> Any:
    name = f"{table}.{key}" if table else key
    if declared.startswith("Mapping"):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{name} is {value!r}, must be a table")
        return dict(value)
    if declared in ("int", "float"):
        right = isinstance(value, int) or (declared == "float" and isinstance(value, float))
        if isinstance(value, bool) or not right:
            raise ConfigurationError(
                f"{name} is {value!r}, must be {'an integer' if declared == 'int' else 'a number'}"
            )
        if not 0 <= value < 2**53:
            raise ConfigurationError(f"{name} is {value!r}, must be 0 or more")
        return float(value) if declared == "float" else value
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is {value!r}, must be a string")
    allowed = _CHOICES.get((table, key))
    if allowed is not None and value not in allowed:
        raise ConfigurationError(f"{name} is {value!r}, must be one of {', '.join(allowed)}")
    return value


def _list_of_tables(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ConfigurationError("prompt must be written as [[prompt]] tables")
    return value


def _prompt(table: Mapping[str, Any]) -> TextPrompt:
    known = [item.name for item in fields(TextPrompt)]
    for key in table:
        if key not in known:
            close = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f", did you mean {close[0]}?" if close else f", known are {', '.join(known)}"
            raise ConfigurationError(f"unknown key prompt.{key}{hint}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if "text" not in values:
        raise ConfigurationError("prompt.text is missing")
    prompt = TextPrompt(**values)
    if not isinstance(prompt.text, str) or not prompt.text:
        raise ConfigurationError(f"prompt.text is {prompt.text!r}, must be a text")
    if prompt.kind not in _PROMPT_KINDS:
        raise ConfigurationError(f"prompt.kind is {prompt.kind!r}, must be one of {', '.join(_PROMPT_KINDS)}")
    return prompt

"""The model configuration: the published ``config.json`` keys, plus the ones that our own models need.

The published file leaves out what the published pipeline hard-codes; the defaults here are those hard-coded values
(PHOENIX §7), so an untouched published file means the published model.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from xfast.actions import Vocabulary, vocabulary
from xfast.errors import ConfigurationError

__all__ = ["ContinuousActionConfig", "HashFamily", "NormConfig", "PhoenixConfig"]

MAX_POST_AGE_MINUTES = 4800  # PHOENIX §2.5


def _check(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigurationError(f"{key} is {value!r}, must be {allowed}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


@dataclass(frozen=True)
class HashFamily:
    """The hash functions of one entity kind: row = floormod(wrap64(id * scale + bias), modulus) mod (vocab - 1) + 1."""

    scales: tuple[int, ...]
    biases: tuple[int, ...]
    modulus: int

    def __post_init__(self) -> None:
        for key in ("scales", "biases"):
            values = getattr(self, key)
            good = len(values) > 0 and all(_is_int(v) and -(2**63) <= v < 2**63 for v in values)
            _check(good, key, values, "a list of 64-bit integers")
        _check(len(self.scales) == len(self.biases), "biases", self.biases, f"as many as scales ({len(self.scales)})")
        _check(_is_int(self.modulus) and 1 <= self.modulus < 2**63, "modulus", self.modulus, "in 1 .. 2**63 - 1")


@dataclass(frozen=True)
class NormConfig:
    """How a continuous value becomes a number in [0, 1]: clip to ``[0, norm_scale]``, divide, or the same in log1p."""

    norm_scale: float = 30.0
    use_log: bool = False

    def __post_init__(self) -> None:
        _check(_is_number(self.norm_scale) and self.norm_scale > 0, "norm_scale", self.norm_scale, "a positive number")
        _check(isinstance(self.use_log, bool), "use_log", self.use_log, "true or false")


@dataclass(frozen=True)
class ContinuousActionConfig:
    """Loss and normalisation of a continuous output (PHOENIX §7)."""

    loss_weight: float = 0.0
    loss_type: Literal["mae", "tweedie"] = "mae"
    tweedie_power: float = 1.5
    norm_config: NormConfig = NormConfig()

    def __post_init__(self) -> None:
        _check(_is_number(self.loss_weight) and self.loss_weight >= 0, "loss_weight", self.loss_weight, "0 or more")
        _check(self.loss_type in ("mae", "tweedie"), "loss_type", self.loss_type, "'mae' or 'tweedie'")
        power = self.tweedie_power
        _check(_is_number(power) and 1 < power < 2, "tweedie_power", power, "between 1 and 2 (exclusive)")


@dataclass(frozen=True)
class PhoenixConfig:
    """Sizes and switches of one tower (ranker or retrieval); hashable, so a jitted function can be keyed by it.

    Fields carry the published key names. Those of the second group are absent from published files, and their
    defaults are what the published pipeline hard-codes (PHOENIX §7).
    """

    emb_size: int
    key_size: int
    num_heads: int
    num_layers: int
    num_actions: int
    history_seq_len: int
    candidate_seq_len: int
    num_user_hashes: int
    num_item_hashes: int
    num_author_hashes: int
    user_vocab_size: int
    item_vocab_size: int
    author_vocab_size: int
    user_hash: HashFamily
    item_hash: HashFamily
    author_hash: HashFamily
    product_surface_vocab_size: int = 16
    post_age_granularity_mins: int = 60

    actions: str | tuple[str | None, ...] = "proto"
    context_attention: Literal["causal", "bidirectional"] = "causal"
    num_kv_heads: int = 0  # 0: as many as num_heads
    widening_factor: float = 2.0
    attn_output_multiplier: float = 0.125
    right_anchored_rope: bool = False
    enable_linear_proj: bool = True
    num_ip_hashes: int = 0
    use_ip_address: bool = False  # carried, read by nothing (PHOENIX §2.1)
    num_continuous_actions: int = 8
    continuous_action_hidden_dim: int = 64
    continuous_action_config: ContinuousActionConfig = ContinuousActionConfig()
    # Per output column where it differs from continuous_action_config; JSON: {"2": {...}}.
    continuous_action_configs: tuple[tuple[int, ContinuousActionConfig], ...] = ()
    mask_neg_feedback_on_negatives: bool = True

    # Keys of the file that nothing here reads, as JSON text, so that a round trip loses nothing.
    unknown: tuple[tuple[str, str], ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_kv_heads == 0 and _is_int(self.num_heads):
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        for key in (
            "emb_size", "key_size", "num_heads", "num_layers", "num_actions", "history_seq_len", "candidate_seq_len",
            "num_user_hashes", "num_item_hashes", "num_author_hashes", "product_surface_vocab_size",
            "num_kv_heads", "num_continuous_actions", "continuous_action_hidden_dim",
        ):  # fmt: skip
            value = getattr(self, key)
            _check(_is_int(value) and 1 <= value < 2**24, key, value, "an integer in 1 .. 16777215")
        for kind in ("user", "item", "author"):
            size, hashes = getattr(self, f"{kind}_vocab_size"), getattr(self, f"num_{kind}_hashes")
            _check(_is_int(size) and 2 <= size < 2**31, f"{kind}_vocab_size", size, "an integer in 2 .. 2**31 - 1")
            family = getattr(self, f"{kind}_hash")
            _check(isinstance(family, HashFamily), f"{kind}_hash", family, "a HashFamily")
            _check(
                len(family.scales) >= hashes, f"num_{kind}_hashes", hashes,
                f"at most the {len(family.scales)} functions that hash_params gives for {kind}",
            )  # fmt: skip
        _check(self.key_size % 2 == 0, "key_size", self.key_size, "even (RoPE pairs features)")
        _check(
            self.num_heads % self.num_kv_heads == 0, "num_kv_heads", self.num_kv_heads,
            f"a divisor of num_heads ({self.num_heads})",
        )  # fmt: skip
        minutes = self.post_age_granularity_mins
        _check(
            _is_int(minutes) and 1 <= minutes <= MAX_POST_AGE_MINUTES, "post_age_granularity_mins", minutes,
            f"an integer in 1 .. {MAX_POST_AGE_MINUTES}",
        )  # fmt: skip
        _check(_is_int(self.num_ip_hashes) and self.num_ip_hashes >= 0, "num_ip_hashes", self.num_ip_hashes, ">= 0")
        for key in ("widening_factor", "attn_output_multiplier"):
            value = getattr(self, key)
            _check(_is_number(value) and 0 < value < 1e6, key, value, "a positive number")
        for key in (
            "right_anchored_rope", "enable_linear_proj", "use_ip_address", "mask_neg_feedback_on_negatives",
        ):  # fmt: skip
            _check(isinstance(getattr(self, key), bool), key, getattr(self, key), "true or false")
        _check(
            self.context_attention in ("causal", "bidirectional"), "context_attention", self.context_attention,
            "'causal' or 'bidirectional'",
        )  # fmt: skip
        for column, _ in self.continuous_action_configs:
            _check(
                0 <= column < self.num_continuous_actions, "continuous_action_configs", column,
                f"a column in 0 .. {self.num_continuous_actions - 1}",
            )  # fmt: skip
        _check(
            isinstance(self.actions, str) or len(self.actions) == self.num_actions, "actions", self.actions,
            f"a vocabulary name or a list of num_actions ({self.num_actions}) names",
        )  # fmt: skip
        vocabulary(self.actions)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the action columns mean."""
        return vocabulary(self.actions)

    @property
    def ffn_size(self) -> int:
        """Width of the feed-forward branches: floor(widening * D) * 2 // 3, up to a multiple of 8 (PHOENIX §3.5)."""
        width = int(self.widening_factor * self.emb_size) * 2 // 3
        return max(-(-width // 8) * 8, 8)

    @property
    def num_age_buckets(self) -> int:
        """Rows of the post age table (PHOENIX §2.5)."""
        return MAX_POST_AGE_MINUTES // self.post_age_granularity_mins + 2

    def continuous_config(self, column: int) -> ContinuousActionConfig:
        """Loss and normalisation of one continuous output."""
        return dict(self.continuous_action_configs).get(column, self.continuous_action_config)

    def replace(self, **overrides: Any) -> PhoenixConfig:
        """Return a changed copy. Takes any field, any JSON key, and ``use_log`` and ``norm_scale`` of the dwell input.

        Raises
        ------
        ConfigurationError
            An unknown key or a value out of range.
        """
        document = self.to_json()
        norm = {key: overrides.pop(key) for key in ("use_log", "norm_scale") if key in overrides}
        known = {f.name for f in dataclasses.fields(self)} - {"unknown"} | {"hash_params"}
        for key in overrides:
            _check(key in known, "config_overrides", key, f"one of {', '.join(sorted(known))}, use_log, norm_scale")
        if "num_heads" in overrides and self.num_kv_heads == self.num_heads:
            document.pop("num_kv_heads", None)
        for key, value in overrides.items():
            if key.endswith("_hash") and isinstance(value, HashFamily):
                document["hash_params"].update(_family_to_json(key.removesuffix("_hash"), value))
            else:
                document[key] = _to_json(value)
        if norm:
            continuous = document.setdefault("continuous_action_config", {})
            continuous["norm_config"] = {**continuous.get("norm_config", {}), **norm}
        return PhoenixConfig.from_json(document)

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | str | bytes) -> PhoenixConfig:
        """Read the published form (``hash_params`` nested, lists). Unknown keys are kept for the way back.

        Raises
        ------
        ConfigurationError
            Not a JSON object, a missing key, or a value of the wrong type or out of range.
        """
        if isinstance(document, (str, bytes)):
            try:
                document = json.loads(document)
            except ValueError as error:
                raise ConfigurationError(f"not valid JSON: {error}") from error
            except RecursionError as error:
                raise ConfigurationError("not valid JSON: nested too deeply") from error
        if not isinstance(document, Mapping):
            raise ConfigurationError(f"the configuration is a {type(document).__name__}, must be a JSON object")
        rest = dict(document)
        values: dict[str, Any] = {}
        params = rest.pop("hash_params", None)
        _check(isinstance(params, Mapping), "hash_params", params, "an object with the hash constants")
        for kind in ("user", "item", "author"):
            values[f"{kind}_hash"] = _family_from_json(kind, cast(Mapping[str, Any], params))
        for f in dataclasses.fields(cls):
            if f.name in values or f.name == "unknown":
                continue
            if f.name not in rest:
                _check(f.default is not dataclasses.MISSING, f.name, None, "given (the key is missing)")
                continue
            values[f.name] = _from_json(f.name, rest.pop(f.name))
        values["unknown"] = tuple((key, json.dumps(value)) for key, value in rest.items())
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return the published form; keys that published files lack appear only where they differ from the default."""
        document: dict[str, Any] = {}
        extra = False
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            extra = extra or f.name == "actions"
            if f.name == "unknown" or isinstance(value, HashFamily):
                continue
            default = self.num_heads if f.name == "num_kv_heads" else f.default
            if not extra or value != default:
                document[f.name] = _to_json(value)
        document["hash_params"] = {
            **_family_to_json("user", self.user_hash),
            **_family_to_json("item", self.item_hash),
            **_family_to_json("author", self.author_hash),
        }
        return document | {key: json.loads(text) for key, text in self.unknown}


def _family_to_json(kind: str, family: HashFamily) -> dict[str, Any]:
    return {
        f"{kind}_hash_scales": list(family.scales),
        f"{kind}_biases": list(family.biases),
        f"{kind}_modulus": family.modulus,
    }


def _family_from_json(kind: str, params: Mapping[str, Any]) -> HashFamily:
    keys = (f"{kind}_hash_scales", f"{kind}_biases", f"{kind}_modulus")
    for key in keys:
        _check(key in params, f"hash_params.{key}", None, "given (the key is missing)")
    for key in keys[:2]:
        _check(isinstance(params[key], (list, tuple)), f"hash_params.{key}", params[key], "a list of integers")
    try:
        return HashFamily(tuple(params[keys[0]]), tuple(params[keys[1]]), params[keys[2]])
    except ConfigurationError as error:
        raise ConfigurationError(f"hash_params of {kind}: {error}") from error


def _to_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple):
        if value and isinstance(value[0], tuple):
            return {str(key): _to_json(item) for key, item in value}
        return list(value)
    return value


def _from_json(key: str, value: Any) -> Any:
    if key == "actions" and not isinstance(value, str):
        _check(isinstance(value, (list, tuple)), key, value, "a vocabulary name or a list of names")
        return tuple(value)
    if key == "continuous_action_config":
        return _nested(ContinuousActionConfig, key, value)
    if key == "continuous_action_configs":
        _check(isinstance(value, Mapping), key, value, "an object {column: settings}")
        _check(all(str(column).isdecimal() for column in value), key, list(value), "keyed by column numbers")
        return tuple((int(c), _nested(ContinuousActionConfig, f"{key}.{c}", item)) for c, item in value.items())
    if key == "num_kv_heads" and value is None:
        return 0
    return value


def _nested(cls: type, key: str, value: Any) -> Any:
    if isinstance(value, cls):
        return value
    _check(isinstance(value, Mapping), key, value, "a JSON object")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    for name in value:
        _check(name in known, key, name, f"made of the keys {', '.join(sorted(known))}")
    items = {
        name: _nested(hints[name], f"{key}.{name}", item) if dataclasses.is_dataclass(hints[name]) else item
        for name, item in value.items()
    }
    return cls(**items)

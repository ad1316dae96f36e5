"""Names of the things a viewer can do with a post, their aliases, and the column numberings that models use.

A model predicts one probability per column; which action a column stands for is the model's *vocabulary*. Three are
public: ``proto`` (HOME_MIXER §8.1, what the published checkpoint and our own models use), ``runner19`` (the field order
of the published runner, PHOENIX §4) and ``research18`` (RESEARCH §1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from xfast.errors import ParameterError

__all__ = [
    "ALIASES",
    "CONTINUOUS_HEADS",
    "DISCRETE_HEADS",
    "NEGATIVE",
    "PROTO",
    "RESEARCH18",
    "RUNNER19",
    "VOCABULARIES",
    "Vocabulary",
    "canonical",
    "vocabulary",
]

# The heads that the ranking scorer reads (HOME_MIXER §1), in its order.
DISCRETE_HEADS = (
    "favorite", "reply", "retweet", "photo_expand", "click", "profile_click", "vqv", "share", "share_via_dm",
    "share_via_copy_link", "dwell", "quote", "quoted_click", "quoted_vqv", "follow_author", "not_interested",
    "block_author", "mute_author", "report", "not_dwelled",
)  # fmt: skip
CONTINUOUS_HEADS = ("dwell_time", "click_dwell_time")
#: Explicit negative feedback (PHOENIX §4).
NEGATIVE = ("not_interested", "block_author", "mute_author", "report")

#: Other spellings -> the canonical name.
ALIASES = MappingProxyType(
    {
        "fav": "favorite",
        "like": "favorite",
        "repost": "retweet",
        "rt": "retweet",
        "video_view": "vqv",
        "video_quality_view": "vqv",
        "quoted_video_view": "quoted_vqv",
        "photo": "photo_expand",
        "dm": "share_via_dm",
        "copy_link": "share_via_copy_link",
        "follow": "follow_author",
        "block": "block_author",
        "mute": "mute_author",
        "profile": "profile_click",
        "recap_dwelled": "dwell",
        "recap_not_dwelled": "not_dwelled",
        "not_dwell": "not_dwelled",
        "cont_dwell_time": "dwell_time",
        "cont_click_dwell_time": "click_dwell_time",
    }
)
# Continuous outputs that the published code names beside the two heads (PHOENIX §4).
_OTHER_CONTINUOUS = ("video_watch_time", "scroll_depth")
_KNOWN = frozenset((*DISCRETE_HEADS, *CONTINUOUS_HEADS, *_OTHER_CONTINUOUS))


def canonical(name: str) -> str:
    """Return the canonical spelling of an action: ``repost`` -> ``retweet``, ``like_score`` -> ``favorite``.

    Case, ``-`` for ``_`` and the published runner's ``p_`` prefix and ``_score`` suffix do not matter.

    Raises
    ------
    ParameterError
        ``name`` is no known action or alias.
    """
    key = name.strip().lower().replace("-", "_").removeprefix("p_").removesuffix("_score")
    key = ALIASES.get(key, key)
    if key not in _KNOWN:
        raise ParameterError(f"action {name!r} is unknown, must be one of {', '.join(sorted(_KNOWN | set(ALIASES)))}")
    return key


@dataclass(frozen=True)
class Vocabulary:
    """A numbering of actions: which column of a model's output and input stands for which action.

    Parameters
    ----------
    name
        What it is called in a configuration.
    columns
        Column -> canonical action name, ``None`` for columns without a public meaning.
    continuous
        The same for the continuous outputs.
    """

    name: str
    columns: tuple[str | None, ...]
    continuous: tuple[str | None, ...] = ()
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {action: column for column, action in enumerate(self.columns) if action is not None}
        if len(index) != sum(action is not None for action in self.columns):
            raise ParameterError(f"actions {self.name!r} names an action twice")
        object.__setattr__(self, "_index", index)

    def __len__(self) -> int:
        return len(self.columns)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield (action, column) of the named columns, in column order."""
        return iter(self._index.items())

    def __contains__(self, name: str) -> bool:
        return canonical(name) in self._index

    def column(self, name: str) -> int:
        """Column of an action or alias.

        Raises
        ------
        ParameterError
            The action is unknown or has no column here.
        """
        action = canonical(name)
        if action not in self._index:
            raise ParameterError(
                f"action {name!r} has no column in the vocabulary {self.name!r} of {len(self)} columns"
            )
        return self._index[action]

    def continuous_column(self, name: str) -> int:
        """Column of a continuous output, for example ``dwell_time``."""
        action = canonical(name)
        if action not in self.continuous:
            raise ParameterError(f"continuous output {name!r} has no column in the vocabulary {self.name!r}")
        return self.continuous.index(action)

    def heads(self, num_actions: int) -> dict[str, int]:
        """Return the scorer's heads that a model with ``num_actions`` columns fills: {head: column}, in head order."""
        return {
            head: self._index[head]
            for head in DISCRETE_HEADS
            if head in self._index and self._index[head] < num_actions
        }

    def unset_heads(self, num_actions: int) -> tuple[str, ...]:
        """Return the scorer's heads that such a model leaves unset; ``xfast doctor`` and ``explain`` name them."""
        filled = self.heads(num_actions)
        return tuple(head for head in DISCRETE_HEADS if head not in filled)

    def label(self, column: int) -> str:
        """Name of a column for people: the action, or ``action_<column>`` where it has no public meaning."""
        name = self.columns[column] if 0 <= column < len(self.columns) else None
        return name or f"action_{column}"


def _sparse(size: int, **columns: int) -> tuple[str | None, ...]:
    names: list[str | None] = [None] * size
    for name, column in columns.items():
        names[column] = name
    return tuple(names)


#: The enum of the published protocol (HOME_MIXER §8.1); our own models use it with 49 columns.
PROTO = Vocabulary(
    "proto",
    _sparse(
        49, favorite=1, reply=4, quote=5, retweet=6, dwell=11, not_dwelled=12, vqv=13, photo_expand=14, report=16,
        not_interested=17, follow_author=21, block_author=23, mute_author=25, click=29, profile_click=30,
        share_via_copy_link=32, share_via_dm=33, share=37, quoted_click=38, quoted_vqv=48,
    ),
    _sparse(8, dwell_time=1, click_dwell_time=2),
)  # fmt: skip
#: The field order of the published runner (PHOENIX §4).
RUNNER19 = Vocabulary(
    "runner19",
    (
        "favorite", "reply", "retweet", "photo_expand", "click", "profile_click", "vqv", "share", "share_via_dm",
        "share_via_copy_link", "dwell", "quote", "quoted_click", "follow_author", "not_interested", "block_author",
        "mute_author", "report", "dwell_time",
    ),
    _sparse(8, dwell_time=1, video_watch_time=2, scroll_depth=3),
)  # fmt: skip
#: The order of the preference research (RESEARCH §1).
RESEARCH18 = Vocabulary(
    "research18",
    (
        "favorite", "reply", "retweet", "photo_expand", "click", "profile_click", "vqv", "share", "share_via_dm",
        "share_via_copy_link", "dwell", "quote", "quoted_click", "follow_author", "not_interested", "block_author",
        "mute_author", "report",
    ),
)  # fmt: skip

VOCABULARIES = MappingProxyType({v.name: v for v in (PROTO, RUNNER19, RESEARCH18)})


def vocabulary(spec: str | Sequence[str | None]) -> Vocabulary:
    """Return a vocabulary by name, or one made of a list of action names (``None`` or ``""`` for an unused column).

    Raises
    ------
    ParameterError
        The name or an action in the list is unknown.
    """
    if isinstance(spec, str):
        if spec not in VOCABULARIES:
            raise ParameterError(f"actions is {spec!r}, must be one of {', '.join(VOCABULARIES)} or a list of actions")
        return VOCABULARIES[spec]
    return Vocabulary("custom", tuple(canonical(name) if name else None for name in spec), PROTO.continuous)

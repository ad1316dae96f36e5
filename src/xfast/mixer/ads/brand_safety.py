"""Brand safety: from safety labels to a verdict (HOME_MIXER §10)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

from xfast.mixer.clients import PostLabel
from xfast.mixer.enums import BotMakerCategory, BrandSafetyVerdict, SafetyLabel, worst

__all__ = ["botmaker_category", "candidate_brand_safety", "compute_verdict", "merge_labels"]

#: Posts from this id on need the policy review before an ad may stand beside them.
PTOS_FIRST_ID = 2_054_275_414_225_846_272

_MEDIUM_RISK = frozenset(
    {
        "NSFW_HIGH_PRECISION",
        "NSFW_HIGH_RECALL",
        "NSFA_HIGH_PRECISION",
        "NSFA_KEYWORDS_HIGH_PRECISION",
        "GORE_AND_VIOLENCE_HIGH_PRECISION",
        "NSFW_REPORTED_HEURISTICS",
        "GORE_AND_VIOLENCE_REPORTED_HEURISTICS",
        "NSFW_CARD_IMAGE",
        "DO_NOT_AMPLIFY",
        "NSFA_COMMUNITY_NOTE",
        "PDNA",
        "EGREGIOUS_NSFW",
        "GROK_NSFA",
        "NSFW_TEXT",
    }
)
_REVIEWED = frozenset({"GROK_SFA", "GROK_NSFA_LIMITED"})
_LOW_RISK = frozenset({"NSFA_LIMITED_INVENTORY", "GROK_NSFA_LIMITED", "NSFA_HIGH_RECALL"})

#: First rule id of each family, and the first that belongs to none again.
_RULE_FAMILIES = (
    (1_000, BotMakerCategory.CONTENT),
    (1_100, BotMakerCategory.CONTENT_LIMITED),
    (1_200, BotMakerCategory.SAFETY),
    (1_400, BotMakerCategory.GROK),
    (1_500, BotMakerCategory.QUOTE),
    (1_601, BotMakerCategory.LEGACY),
)
_DESCRIPTION_LENGTH = 250


def compute_verdict(labels: Collection[str], post_id: int) -> BrandSafetyVerdict:
    """The verdict for one post.

    A post nobody reviewed is medium risk, and so is one from the review's start on that lacks ``PTOS_REVIEWED``.

    Parameters
    ----------
    labels
        Names of :class:`xfast.mixer.enums.SafetyLabelType`; others decide nothing.
    post_id
        Unsigned id.
    """
    return _verdict(frozenset(labels), post_id >= PTOS_FIRST_ID)


def _verdict(names: frozenset[str], needs_review: bool) -> BrandSafetyVerdict:
    if names & _MEDIUM_RISK or not names & _REVIEWED:
        return BrandSafetyVerdict.MEDIUM_RISK
    if needs_review and "PTOS_REVIEWED" not in names:
        return BrandSafetyVerdict.MEDIUM_RISK
    return BrandSafetyVerdict.LOW_RISK if names & _LOW_RISK else BrandSafetyVerdict.SAFE


def botmaker_category(rule_id: int) -> BotMakerCategory:
    """The family of a rule by its id."""
    category = BotMakerCategory.LEGACY
    for first, family in _RULE_FAMILIES:
        if rule_id >= first:
            category = family
    return category


def candidate_brand_safety(
    original_id: int, quoted_id: int | None, labels: Mapping[int, Sequence[PostLabel] | Exception]
) -> tuple[BrandSafetyVerdict, tuple[SafetyLabel, ...]]:
    """Verdict and labels of a candidate: its original post, merged with the post it quotes.

    Raises
    ------
    Exception
        The one that the lookup of the original gave; a failed quoted lookup is medium risk instead.
    """
    primary = labels.get(original_id, ())
    if isinstance(primary, Exception):
        raise primary
    if quoted_id is None:
        return _verdict_and_labels(tuple(primary), original_id >= PTOS_FIRST_ID)
    verdict, _ = _verdict_and_labels(tuple(primary), original_id >= PTOS_FIRST_ID)
    quoted = labels.get(quoted_id, ())
    if isinstance(quoted, Exception):
        return worst(verdict, BrandSafetyVerdict.MEDIUM_RISK), merge_labels(primary)
    other, _ = _verdict_and_labels(tuple(quoted), quoted_id >= PTOS_FIRST_ID)
    return worst(verdict, other), merge_labels([*primary, *quoted])


# Most posts of a page carry the same few labels.
@lru_cache(maxsize=4_096)
def _verdict_and_labels(
    labels: tuple[PostLabel, ...], needs_review: bool
) -> tuple[BrandSafetyVerdict, tuple[SafetyLabel, ...]]:
    return _verdict(frozenset(label.label_type for label in labels), needs_review), merge_labels(labels)


def merge_labels(labels: Sequence[PostLabel]) -> tuple[SafetyLabel, ...]:
    """One label per type, the first given, sorted by numeric type."""
    first: dict[str, PostLabel] = {}
    for label in labels:
        first.setdefault(label.label_type, label)
    return tuple(
        SafetyLabel(
            label.label_type,
            None if label.source is None else label.source[:_DESCRIPTION_LENGTH],
            None if label.rule_id is None else botmaker_category(label.rule_id),
        )
        for label in sorted(first.values(), key=lambda label: (label.number, label.label_type))
    )

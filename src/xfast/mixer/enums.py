"""The closed vocabularies of the home mixer: served types, verdicts, labels, visibility, request contexts.

Where the release publishes no numbers the ones here are ours; they are part of our cache and wire formats and never
reused (HOME_MIXER §1, §10).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from xfast.errors import DataError

__all__ = [
    "BotMakerCategory",
    "BrandSafetyRisk",
    "BrandSafetyVerdict",
    "RequestContext",
    "SafetyLabel",
    "SafetyLabelType",
    "ServedType",
    "SubscriptionLevel",
    "VisibilityReason",
    "pascal_case",
    "worst",
]


def pascal_case(name: str) -> str:
    """``FOR_YOU_IN_NETWORK`` -> ``ForYouInNetwork``."""
    return "".join(word[:1].upper() + word[1:].lower() for word in name.split("_"))


class ServedType(IntEnum):
    """Where a post came from; cached as its number."""

    UNDEFINED = 0
    FOR_YOU_IN_NETWORK = 1
    RANKED_FOLLOWING = 2
    FOR_YOU_TWEET_MIXER = 3
    FOR_YOU_PHOENIX_RETRIEVAL = 4
    FOR_YOU_PHOENIX_RETRIEVAL_MOE = 5
    FOR_YOU_PUSH_TO_HOME = 6
    FOR_YOU_FALLBACK = 7

    @classmethod
    def decode(cls, value: int | str) -> ServedType:
        """The type of a cached number, or of a public name in either spelling; an unknown one is a DataError."""
        for member in cls:
            if value in ((member.name, member.pascal) if isinstance(value, str) else (member.value,)):
                return member
        known = [f"{member.value} {member.pascal}" for member in cls]
        raise DataError(f"served_type is {value!r}, known are {known}")

    @property
    def pascal(self) -> str:
        """The name as served history writes it."""
        return pascal_case(self.name)


class BrandSafetyVerdict(IntEnum):
    """How risky it is to show an ad beside a post; ordered."""

    UNSPECIFIED = 0
    SAFE = 1
    LOW_RISK = 2
    MEDIUM_RISK = 3

    @property
    def pascal(self) -> str:
        """Public spelling: ``LowRisk``."""
        return pascal_case(self.name)

    @classmethod
    def parse(cls, name: str) -> BrandSafetyVerdict:
        """The verdict of a public spelling."""
        for verdict in cls:
            if verdict.pascal == name:
                return verdict
        raise DataError(f"brand safety verdict {name!r} is unknown, known are {[v.pascal for v in cls]}")


def worst(first: BrandSafetyVerdict, second: BrandSafetyVerdict) -> BrandSafetyVerdict:
    """The riskier of two verdicts."""
    return max(first, second)


class BrandSafetyRisk(StrEnum):
    """What an advertiser asked for in terms of neighbours."""

    UNKNOWN = "BsrUnknown"
    NORMAL = "BsrNormal"
    LOW = "BsrLow"
    IAS = "BsrIas"


class SubscriptionLevel(StrEnum):
    """Paid tier of a viewer; changes nothing in the scores."""

    BASIC = "Basic"
    PREMIUM = "Premium"
    PREMIUM_PLUS = "PremiumPlus"


class RequestContext(StrEnum):
    """Why the client asks (HOME_MIXER §7.9; wire strings are ours)."""

    NONE = ""
    LAUNCH = "Launch"
    FOREGROUND = "Foreground"
    PULL_TO_REFRESH = "PullToRefresh"
    VIEWPORT_AWARE_REFRESH = "ViewportAwareRefresh"
    BACKGROUND_FETCH = "BackgroundFetch"
    FOREGROUND_TRUNCATE = "ForegroundTruncate"


class SafetyLabelType(IntEnum):
    """The labels that decide about ads (HOME_MIXER §10); numbers ours."""

    NSFW_HIGH_PRECISION = 1
    NSFW_HIGH_RECALL = 2
    NSFA_HIGH_PRECISION = 3
    NSFA_KEYWORDS_HIGH_PRECISION = 4
    GORE_AND_VIOLENCE_HIGH_PRECISION = 5
    NSFW_REPORTED_HEURISTICS = 6
    GORE_AND_VIOLENCE_REPORTED_HEURISTICS = 7
    NSFW_CARD_IMAGE = 8
    DO_NOT_AMPLIFY = 9
    NSFA_COMMUNITY_NOTE = 10
    PDNA = 11
    EGREGIOUS_NSFW = 12
    GROK_NSFA = 13
    NSFW_TEXT = 14
    GROK_SFA = 15
    GROK_NSFA_LIMITED = 16
    NSFA_LIMITED_INVENTORY = 17
    NSFA_HIGH_RECALL = 18
    PTOS_REVIEWED = 19


class BotMakerCategory(StrEnum):
    """Family of the rule that set a label."""

    LEGACY = "Legacy"
    CONTENT = "Content"
    CONTENT_LIMITED = "ContentLimited"
    SAFETY = "Safety"
    GROK = "Grok"
    QUOTE = "Quote"


@dataclass(frozen=True, slots=True, order=True)
class SafetyLabel:
    """A label on a post as candidates carry it.

    Attributes
    ----------
    label_type
        A name of :class:`SafetyLabelType`; other names are kept but decide nothing.
    description
        What the labeller said, at most 250 characters.
    source
        Rule family, unset when no rule id is known.
    """

    label_type: str
    description: str | None = None
    source: BotMakerCategory | None = None


@dataclass(frozen=True, slots=True)
class VisibilityReason:
    """Why a post may have to be hidden.

    ``kind`` is ``"SafetyResult"`` with an ``action`` (``Drop``, ``Interstitial``, ``Allow``, …) or any other kind of
    reason, which always hides.
    """

    kind: str
    action: str | None = None
    detail: str | None = None

    @property
    def drops(self) -> bool:
        """Whether the post must not be shown."""
        return self.kind != "SafetyResult" or self.action == "Drop"

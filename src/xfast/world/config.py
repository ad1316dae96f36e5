"""SyntheticConfig: the size and shape of a synthetic network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xfast.errors import ParameterError
from xfast.ids import SNOWFLAKE_EPOCH_MS
from xfast.world.vocabulary import LANGUAGES


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """The size and shape of a synthetic network; the defaults are the demo's and take about a second.

    Parameters
    ----------
    users
        In [20, 4000000].
    posts
        Originals, replies, reposts and quotes together; at least 50.
    impressions
        How many posts are shown to somebody, about; at least 0. A tenth of it per user or more is asking for repeats,
        which are left out.
    days
        Simulated days on which pages are served; posts begin a day earlier. In (0, 365].
    start_ms
        When the first page is served, Unix milliseconds. The default, 1 June 2026, lies after the id from which a post
        needs a policy review before ads may stand next to it (HOME_MIXER §10), so that rule is exercised.
    follows_per_user
        Mean number drawn per user before duplicates are removed; in (0, 5000].
    communities
        In [1, 10000]; divided among the languages by their share, at least one each.
    page_size
        Posts per request; in [1, 100].
    exploration
        Share of impressions that the serving policy picks blindly; in [0, 1].
    languages
        Some of en, ja, es, pt, de, fr, ar, each at most once.

    Raises
    ------
    ParameterError
        A value is out of range; the message names it.
    """

    users: int = 600
    posts: int = 6_000
    impressions: int = 150_000
    days: float = 4.0
    start_ms: int = 1_780_272_000_000
    follows_per_user: float = 30.0
    communities: int = 14
    page_size: int = 12
    exploration: float = 0.1
    languages: tuple[str, ...] = LANGUAGES

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "users": (20, 4_000_000),
            "posts": (50, 1_000_000_000),
            "impressions": (0, 1_000_000_000),
            "days": (0.01, 365),
            "start_ms": (1_325_376_000_000, SNOWFLAKE_EPOCH_MS + 2**40),
            "follows_per_user": (0.1, 5_000),
            "communities": (1, 10_000),
            "page_size": (1, 100),
            "exploration": (0, 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ParameterError(f"{name} is {value!r}, must be in [{low}, {high}]")
            if name not in ("days", "follows_per_user", "exploration") and not isinstance(value, int):
                raise ParameterError(f"{name} is {value!r}, must be an integer")
        if not self.languages or len(set(self.languages)) != len(self.languages):
            raise ParameterError(
                f"languages is {self.languages!r}, must hold each language at most once, and one at least"
            )
        for code in self.languages:
            if code not in LANGUAGES:
                raise ParameterError(f"languages holds {code!r}, must be among {', '.join(LANGUAGES)}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

"""Ads from a campaign file, with budgets spread over the day and a cap per viewer."""

from __future__ import annotations

import threading
import tomllib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from xfast.errors import ConfigurationError
from xfast.mixer.clients import AdInfo
from xfast.mixer.enums import BrandSafetyRisk
from xfast.mixer.query import ScoredPostsQuery

__all__ = ["Campaign", "CampaignAds"]

_DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """One campaign of the file.

    Attributes
    ----------
    bid
        Order among campaigns, highest first.
    daily_impressions
        Offers per day, released evenly over it; 0: unlimited.
    per_viewer, per_viewer_hours
        At most that many offers to one viewer within that time; 0: no cap.
    languages, countries
        Where it runs; empty: everywhere.
    """

    post_id: int
    author_id: int = 0
    account_id: int = 0
    bid: float = 1.0
    daily_impressions: int = 0
    per_viewer: int = 3
    per_viewer_hours: float = 24.0
    risk: str = "BsrNormal"
    handles: tuple[int, ...] = ()
    keywords: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    text: str = ""

    def __post_init__(self) -> None:
        if self.post_id <= 0:
            raise ConfigurationError(f"campaign post_id is {self.post_id}, must be positive")
        if self.risk not in {risk.value for risk in BrandSafetyRisk}:
            raise ConfigurationError(
                f"campaign risk is {self.risk!r}, must be one of {', '.join(risk.value for risk in BrandSafetyRisk)}"
            )
        for name in ("bid", "daily_impressions", "per_viewer", "per_viewer_hours"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"campaign {name} is {getattr(self, name)}, must be 0 or more")

    def targets(self, query: ScoredPostsQuery) -> bool:
        """Whether the campaign runs for the request's language and country."""
        language = not self.languages or query.language_code in self.languages
        return language and (not self.countries or query.country_code in self.countries)


@dataclass
class _Pace:
    """What a campaign has spent today."""

    day: int = -1
    offered: int = 0
    viewers: dict[int, deque[int]] = field(default_factory=dict)


class CampaignAds:
    """An ad index in the process.

    Parameters
    ----------
    campaigns
        In any order.
    first_position, gap
        Wished places: the first ad, and the distance of the next ones.
    max_ads
        Ads per request.
    """

    def __init__(
        self, campaigns: Sequence[Campaign], *, first_position: int = 2, gap: int = 5, max_ads: int = 6
    ) -> None:
        self._campaigns = sorted(campaigns, key=lambda campaign: -campaign.bid)
        self._first, self._gap, self._max = first_position, gap, max_ads
        self._lock = threading.Lock()
        self._pace = {id(campaign): _Pace() for campaign in self._campaigns}
        self._impressions = 0

    @classmethod
    def load(cls, path: str | Path) -> CampaignAds:
        """Read a TOML file with ``[[campaign]]`` tables whose keys are the fields of :class:`Campaign`.

        Raises
        ------
        ConfigurationError
            Malformed TOML, an unknown key, a bad value; names the file.
        """
        try:
            tables = tomllib.loads(Path(path).read_text()).get("campaign", [])
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        known = {item.name for item in fields(Campaign)}
        made = []
        for table in tables:
            if unknown := set(table) - known:
                raise ConfigurationError(f"{path}: campaign has unknown keys {sorted(unknown)}")
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
            made.append(Campaign(**values))
        return cls(made)

    def ads(self, query: ScoredPostsQuery) -> list[AdInfo]:
        """Ads for a request, highest bid first; each offer counts against budget and cap."""
        found: list[AdInfo] = []
        with self._lock:
            for campaign in self._campaigns:
                if len(found) == self._max:
                    break
                if campaign.targets(query) and self._spend(campaign, query):
                    self._impressions += 1
                    found.append(
                        AdInfo(
                            post_id=campaign.post_id,
                            author_id=campaign.author_id,
                            account_id=campaign.account_id,
                            impression_id=(query.request_id << 16 | self._impressions & 0xFFFF) & (2**64 - 1),
                            insert_position=self._first + self._gap * len(found),
                            risk=campaign.risk,
                            handles=campaign.handles,
                            keywords=campaign.keywords,
                            text=campaign.text,
                        )
                    )
        return found

    def _spend(self, campaign: Campaign, query: ScoredPostsQuery) -> bool:
        now, pace = query.request_time_ms, self._pace[id(campaign)]
        day, into_day = divmod(now, _DAY_MS)
        if pace.day != day:
            pace.day, pace.offered = day, 0
        released = campaign.daily_impressions * (into_day + 1) / _DAY_MS
        if campaign.daily_impressions and pace.offered >= max(released, 1):
            return False
        if campaign.per_viewer:
            offers = pace.viewers.setdefault(query.user_id, deque())
            while offers and offers[0] <= now - campaign.per_viewer_hours * 3_600_000:
                offers.popleft()
            if len(offers) >= campaign.per_viewer:
                return False
            offers.append(now)
        pace.offered += 1
        return True

"""The users of a synthetic network and who follows whom."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xfast.ids import snowflake
from xfast.world.config import SyntheticConfig
from xfast.world.vocabulary import Language, language, topics

TASTE_DIMENSIONS = 6
_OLDEST_ACCOUNT_MS = 1_293_840_000_000  # 1 January 2011


@dataclass(frozen=True, slots=True, eq=False)
class Users:
    """The users, one row each, ascending by id. U users, K topics, L languages.

    ``interest`` [U, K], ``taste`` and ``style`` [U, 6] and ``weight`` are hidden: what they like, how they write, and
    how popular they are; no event shows them.
    """

    user_id: npt.NDArray[np.uint64]
    created_ms: npt.NDArray[np.int64]
    language: npt.NDArray[np.int8]
    reads: npt.NDArray[np.bool_]
    community: npt.NDArray[np.int16]
    interest: npt.NDArray[np.float32]
    taste: npt.NDArray[np.float32]
    style: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float64]
    posting: npt.NDArray[np.float64]
    reading: npt.NDArray[np.float64]
    protected: npt.NDArray[np.bool_]
    age_years: npt.NDArray[np.int32]
    subscription_level: npt.NDArray[np.uint8]
    sells_subscription: npt.NDArray[np.bool_]
    screen_name: list[str]
    display_name: list[str]
    description: list[str]
    country_code: list[str]
    languages: list[tuple[str, ...]]

    def __len__(self) -> int:
        return int(self.user_id.size)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Edges between user rows, sorted by ``source`` then ``target``: follows, and which of them pay a subscription."""

    source: npt.NDArray[np.int64]
    target: npt.NDArray[np.int64]
    since_ms: npt.NDArray[np.int64]
    subscribed: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    users: int

    def follows(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which pairs of user rows are edges."""
        return self._has(source, target)[0]

    def subscribes(self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which pairs of user rows are paid subscriptions."""
        known, place = self._has(source, target)
        return known & self.subscribed[place] if self.keys.size else known

    def _has(
        self, source: npt.NDArray[np.int64], target: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        if not self.keys.size:
            return np.zeros(np.shape(source), bool), np.zeros(np.shape(source), np.int64)
        wanted = source * self.users + target
        place = np.minimum(np.searchsorted(self.keys, wanted), self.keys.size - 1)
        return self.keys[place] == wanted, place


def make_users(config: SyntheticConfig, rng: np.random.Generator) -> Users:
    """Draw the users: language, community, interests, popularity, names."""
    count, words = config.users, [language(code) for code in config.languages]
    shares = np.array([entry.share for entry in words])
    spoken = rng.choice(len(words), count, p=shares / shares.sum()).astype(np.int8)
    reads = np.zeros((count, len(words)), bool)
    reads[np.arange(count), spoken] = True
    if "en" in config.languages:
        reads[rng.random(count) < 0.4, config.languages.index("en")] = True
    second = rng.integers(0, len(words), count)
    bilingual = rng.random(count) < 0.08
    reads[bilingual, second[bilingual]] = True

    # Communities belong to a language; each burns for three topics.
    per_language = np.maximum(1, np.round(config.communities * shares / shares.sum())).astype(int)
    first = np.r_[0, np.cumsum(per_language)]
    community = (first[spoken] + rng.integers(0, per_language[spoken])).astype(np.int16)
    kinds = len(topics())
    hearts = rng.normal(0.0, 0.5, (first[-1], kinds))
    for row in hearts:
        row[rng.choice(kinds, 3, replace=False)] += 1.9
    interest = (0.9 * hearts[community] + rng.normal(0.0, 0.6, (count, kinds))).astype(np.float32)

    weight = (rng.permutation(count) + 3.0) ** -0.9
    created = np.sort(rng.integers(_OLDEST_ACCOUNT_MS, config.start_ms - 60 * 86_400_000, count))
    sells = weight >= np.quantile(weight, 0.95)
    names = _names(config, rng, spoken, interest)
    return Users(
        user_id=snowflake(created, np.arange(count)),
        created_ms=created,
        language=spoken,
        reads=reads,
        community=community,
        interest=interest,
        taste=rng.normal(0.0, 1.0, (count, TASTE_DIMENSIONS)).astype(np.float32),
        style=rng.normal(0.0, 1.0, (count, TASTE_DIMENSIONS)).astype(np.float32),
        weight=weight / weight.sum(),
        posting=_shares(np.exp(rng.normal(0.0, 0.9, count)) * weight**0.35),
        reading=_shares(np.exp(rng.normal(0.0, 0.7, count))),
        protected=(rng.random(count) < 0.015) & ~sells,
        age_years=np.clip(rng.normal(33, 11, count), 18, 85).astype(np.int32) * (rng.random(count) < 0.7),
        subscription_level=rng.choice(4, count, p=[0.86, 0.05, 0.07, 0.02]).astype(np.uint8),
        sells_subscription=sells,
        screen_name=names[0],
        display_name=names[1],
        description=names[2],
        country_code=names[3],
        languages=[
            tuple(config.languages[index] for index in (own, *(i for i in np.flatnonzero(row).tolist() if i != own)))
            for own, row in zip(spoken.tolist(), reads)
        ],
    )


def _shares(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = values / values.sum()
    return shares


def _names(
    config: SyntheticConfig, rng: np.random.Generator, spoken: npt.NDArray[np.int8], interest: npt.NDArray[np.float32]
) -> tuple[list[str], list[str], list[str], list[str]]:
    words: list[Language] = [language(code) for code in config.languages]
    subjects = topics()
    best = np.argsort(-interest, axis=1, kind="stable")[:, :2]
    draws = rng.integers(0, 1 << 30, (len(spoken), 6)).tolist()
    taken: set[str] = set()
    screen, display, about, country = [], [], [], []
    for own, (top, next_best), (a, b, c, d, e, f) in zip(spoken.tolist(), best.tolist(), draws):
        tongue, subject = words[own], subjects[top]
        given, family = tongue.given[a % len(tongue.given)], tongue.family[b % len(tongue.family)]
        handle = f"{_ascii(given)}{'_' if f % 3 else ''}{subject.handles[c % len(subject.handles)]}"
        while handle in taken:
            handle = f"{handle}{d % 10}"
            d = d // 10 + 7
        taken.add(handle)
        screen.append(handle)
        display.append(f"{given} {family}" + (f" {subject.emoji[e % len(subject.emoji)]}" if e % 4 == 0 else ""))
        tags = tongue.tags[top], tongue.tags[next_best]
        about.append(f"{tags[0][c % len(tags[0])]} · {tags[1][d % len(tags[1])]}")
        country.append(tongue.countries[e % len(tongue.countries)])
    return screen, display, about, country


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z]", "", plain.lower())


def make_graph(config: SyntheticConfig, users: Users, rng: np.random.Generator) -> Graph:
    """Draw the follow graph: heavy-tailed out-degrees, popular targets, most of them in one's own community."""
    count = len(users)
    wanted = config.follows_per_user * np.exp(rng.normal(-0.32, 0.8, count))  # mean 1
    degree = np.clip(np.round(wanted), 1, max(1, count // 3)).astype(np.int64)
    source = np.repeat(np.arange(count), degree)
    where = rng.random(source.size)
    groups = [
        (where < 0.62, users.community.astype(np.int64)),
        ((where >= 0.62) & (where < 0.84), users.language.astype(np.int64)),
        (where >= 0.84, np.zeros(count, np.int64)),
    ]
    target = np.empty(source.size, np.int64)
    for mask, group in groups:
        target[mask] = _popular_member(users.weight, group, group[source[mask]], rng)
    # A stranger whose language one cannot read is rarely followed.
    keep = users.reads[source, users.language[target]] | (rng.random(source.size) < 0.12)
    source, target = source[keep], target[keep]
    # Some follow back; the famous do so less.
    back = rng.random(source.size) < 0.3 * np.exp(-users.weight[target] * count / 3)
    source, target = np.r_[source, target[back]], np.r_[target, source[back]]
    source, target = source[source != target], target[source != target]
    keys = np.unique(source * count + target)
    source, target = keys // count, keys % count
    youngest = np.maximum(users.created_ms[source], users.created_ms[target])
    since = config.start_ms - 60_000 - (rng.random(keys.size) ** 2 * 500 * 86_400_000).astype(np.int64)
    since = np.maximum(since, youngest + 60_000)
    pays = users.sells_subscription[target] & (rng.random(keys.size) < 0.06)
    offsets = np.searchsorted(source, np.arange(count + 1))
    return Graph(source, target, since, pays, offsets, keys, count)


def _popular_member(
    weight: npt.NDArray[np.float64],
    group: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draw for each wanted group one of its members by weight."""
    order = np.argsort(group, kind="stable")
    total = np.r_[0.0, np.cumsum(weight[order])]
    bounds = np.searchsorted(group[order], np.arange(group.max() + 2))
    low, high = total[bounds[wanted]], total[bounds[wanted + 1]]
    place = np.searchsorted(total, low + rng.random(wanted.size) * (high - low), side="right") - 1
    members: npt.NDArray[np.int64] = order[np.clip(place, bounds[wanted], bounds[wanted + 1] - 1)]
    return members

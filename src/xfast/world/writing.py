"""The posts of a synthetic network: who writes what, when, in answer to what, with which words, media and labels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from xfast.events import MEDIA_DTYPE, MediaKind, Ragged
from xfast.events.batch import rank_within
from xfast.ids import snowflake
from xfast.world.config import SyntheticConfig
from xfast.world.people import Users
from xfast.world.vocabulary import PEAK_HOUR_UTC, language, topics

DAY_MS = 86_400_000
_CJK = ("ja",)


class Form(IntEnum):
    """What a post is."""

    ORIGINAL = 0
    REPLY = 1
    REPOST = 2
    QUOTE = 3


_FORM_SHARES = (0.62, 0.19, 0.12, 0.07)


@dataclass(frozen=True, slots=True, eq=False)
class Posts:
    """The posts, one row each, in time order (ids ascend). P posts.

    ``author``, ``parent`` (what a reply answers, a repost shows, a quote quotes; -1 for originals), ``root`` (of the
    conversation) and ``content`` (the reposted row for a repost, else the row itself) are row numbers. ``craft`` is the
    hidden quality.
    """

    post_id: npt.NDArray[np.uint64]
    created_ms: npt.NDArray[np.int64]
    author: npt.NDArray[np.int64]
    form: npt.NDArray[np.int8]
    parent: npt.NDArray[np.int64]
    root: npt.NDArray[np.int64]
    content: npt.NDArray[np.int64]
    topic: npt.NDArray[np.int8]
    language: npt.NDArray[np.int8]
    craft: npt.NDArray[np.float32]
    medium: npt.NDArray[np.uint8]
    duration_ms: npt.NDArray[np.int32]
    media: Ragged
    exclusive: npt.NDArray[np.bool_]
    deleted_ms: npt.NDArray[np.int64]
    text: list[str]
    label_row: npt.NDArray[np.int64]
    label_name: npt.NDArray[np.object_]
    label_rule: npt.NDArray[np.int64]
    label_score: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.post_id.size)


def daily_times(
    config: SyntheticConfig,
    spoken: npt.NDArray[np.int8],
    first_ms: int,
    last_ms: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Draw a time for each element: any day, near the evening of the language's speakers."""
    peaks = np.array([PEAK_HOUR_UTC[code] for code in config.languages])
    day = rng.random(spoken.size) * (last_ms - first_ms) // DAY_MS
    hour = (peaks[spoken] - 3.0 + rng.normal(0.0, 4.5, spoken.size)) % 24.0
    times = first_ms - first_ms % DAY_MS + (day * DAY_MS).astype(np.int64) + (hour * 3_600_000).astype(np.int64)
    # What falls off either end of the simulated time comes back evenly inside it.
    outside = (times < first_ms) | (times >= last_ms)
    times[outside] = first_ms + (rng.random(int(outside.sum())) * (last_ms - first_ms)).astype(np.int64)
    return times


def write_posts(config: SyntheticConfig, users: Users, rng: np.random.Generator) -> Posts:
    """Draw the posts."""
    count = config.posts
    author = rng.choice(len(users), count, p=users.posting)
    spoken = users.language[author].copy()
    away = np.argmax(rng.random((count, len(config.languages))) * users.reads[author], axis=1)
    switches = rng.random(count) < 0.12
    spoken[switches] = away[switches]
    end_ms = config.start_ms + int(config.days * DAY_MS)
    created = daily_times(config, users.language[author], config.start_ms - DAY_MS, end_ms, rng)
    order = np.argsort(created, kind="stable")
    author, spoken, created = author[order], spoken[order], created[order]

    form, parent = _threads(author, spoken, rng)
    content = _follow(np.where(form == Form.REPOST, parent, np.arange(count)))
    # A repost of a repost shows the original; so does an answer to one.
    parent = np.where(parent >= 0, content[np.maximum(parent, 0)], -1)
    own = (parent >= 0) & (form != Form.REPLY) & (author[np.maximum(parent, 0)] == author)
    form[own], parent[own] = Form.ORIGINAL, -1
    rows = np.arange(count)
    content = np.where(form == Form.REPOST, parent, rows)
    root = _follow(np.where(form == Form.REPLY, parent, rows))
    source = _follow(np.where(parent >= 0, parent, rows))

    charm = 1.3 * users.interest[author] + rng.gumbel(size=(count, len(topics())))
    topic = np.argmax(charm, axis=1).astype(np.int8)[source]
    spoken = np.where(form == Form.REPOST, spoken[content], spoken).astype(np.int8)
    craft = rng.normal(0.0, 0.7, count).astype(np.float32)
    medium, duration, media = _media(form, topic, rng)
    sells = users.sells_subscription[author] & (form == Form.ORIGINAL)
    lifetime = np.where(rng.random(count) < 0.01, rng.exponential(8 * 3_600_000, count) + 60_000, np.inf)
    deleted = np.where(created + lifetime < end_ms, created + lifetime, 0).astype(np.int64)
    label_row, label_name, label_rule, label_score = _labels(form, topic, rng)
    return Posts(
        post_id=snowflake(created, rank_within(created)),
        created_ms=created,
        author=author,
        form=form,
        parent=parent,
        root=root,
        content=content,
        topic=topic,
        language=spoken,
        craft=craft[content],
        medium=medium[content],
        duration_ms=duration[content],
        media=media,
        exclusive=sells & (rng.random(count) < 0.12),
        deleted_ms=deleted,
        text=_texts(config, users, author, form, parent, topic, spoken, rng),
        label_row=label_row,
        label_name=label_name,
        label_rule=label_rule,
        label_score=label_score,
    )


def _threads(
    author: npt.NDArray[np.int64], spoken: npt.NDArray[np.int8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Give each post a form, and to what is no original an earlier post of the same language, mostly a recent one."""
    count = author.size
    form = rng.choice(4, count, p=_FORM_SHARES).astype(np.int8)
    order = np.argsort(spoken, kind="stable")  # by language, then time
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    begin = np.searchsorted(spoken[order], spoken)
    back = 1 + np.floor(rng.exponential(40.0, count)).astype(np.int64)
    found = place - back
    form[found < begin] = Form.ORIGINAL
    parent = np.where(form == Form.ORIGINAL, -1, order[np.maximum(found, 0)])
    return form, parent


def _follow(pointer: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where each chain of pointers ends; a row that points at itself is an end."""
    while True:
        further = pointer[pointer]
        if np.array_equal(further, pointer):
            return pointer
        pointer = further


def _media(
    form: npt.NDArray[np.int8], topic: npt.NDArray[np.int8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], Ragged]:
    count = form.size
    photo = np.array([entry.photo for entry in topics()])[topic]
    video = np.array([entry.video for entry in topics()])[topic]
    scale = np.array([1.0, 0.2, 0.0, 0.35])[form]
    draw = rng.random(count)
    medium = np.select(
        [draw < video * scale, draw < (video + photo) * scale, draw < (video + photo + 0.05) * scale],
        [MediaKind.VIDEO, MediaKind.PHOTO, MediaKind.GIF],
        0,
    ).astype(np.uint8)
    video_ms = np.clip(np.exp(rng.normal(10.2, 1.0, count)), 2_500, 600_000)  # median 27 s
    gif_ms = rng.uniform(1_200, 6_000, count)
    duration = np.select([medium == MediaKind.VIDEO, medium == MediaKind.GIF], [video_ms, gif_ms], 0).astype(np.int32)
    photos = 1 + (rng.random(count) < 0.22) + (rng.random(count) < 0.1) + (rng.random(count) < 0.06)
    lengths = np.where(medium == MediaKind.PHOTO, photos, (medium > 0).astype(np.int64))
    values = np.zeros(int(lengths.sum()), MEDIA_DTYPE)
    values["kind"], values["duration_ms"] = np.repeat(medium, lengths), np.repeat(duration, lengths)
    return medium, duration, Ragged(np.r_[0, np.cumsum(lengths)], values)


def _labels(
    form: npt.NDArray[np.int8], topic: npt.NDArray[np.int8], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Label every post that is not a repost, as a content-understanding service would (names of HOME_MIXER §10)."""
    rows = np.flatnonzero(form != Form.REPOST)
    names = [entry.name for entry in topics()]
    heated = np.isin(topic[rows], [names.index("POLITICS"), names.index("CRYPTOCURRENCY")])
    draw = rng.random((4, rows.size))
    limited = draw[0] < np.where(heated, 0.22, 0.05)
    unsafe = draw[1] < np.where(heated, 0.03, 0.012)
    harmful = rng.choice(4, rows.size)
    choices = np.array(
        ["NSFW_TEXT", "DO_NOT_AMPLIFY", "GORE_AND_VIOLENCE_HIGH_PRECISION", "NSFW_HIGH_PRECISION"], object
    )
    parts = [
        (rows[~limited & ~unsafe & (draw[2] < 0.97)], "GROK_SFA", 1_401),
        (rows[limited & ~unsafe], "GROK_NSFA_LIMITED", 1_402),
        (rows[draw[3] < 0.97], "PTOS_REVIEWED", 1_450),
        *((rows[unsafe & (harmful == index)], choice, 1_210 + index) for index, choice in enumerate(choices)),
    ]
    label_row = np.concatenate([part for part, _, _ in parts])
    label_name = np.concatenate([np.full(part.size, name, object) for part, name, _ in parts])
    label_rule = np.concatenate([np.full(part.size, rule) for part, _, rule in parts])
    return label_row, label_name, label_rule, rng.uniform(0.6, 1.0, label_row.size).astype(np.float32)


def _texts(
    config: SyntheticConfig,
    users: Users,
    author: npt.NDArray[np.int64],
    form: npt.NDArray[np.int8],
    parent: npt.NDArray[np.int64],
    topic: npt.NDArray[np.int8],
    spoken: npt.NDArray[np.int8],
    rng: np.random.Generator,
) -> list[str]:
    words = [language(code) for code in config.languages]
    subjects = topics()
    handles = users.screen_name
    chance = rng.random((author.size, 6), np.float32).tolist()
    draws = rng.integers(0, 1 << 30, (author.size, 8)).tolist()
    mentions = rng.choice(len(users), author.size, p=users.weight).tolist()
    texts: list[str] = []
    rows = zip(
        form.tolist(), parent.tolist(), topic.tolist(), spoken.tolist(), author.tolist(), chance, draws, mentions
    )
    for kind, before, about, tongue_index, writer, luck, (a, b, c, d, e, f, g, h), friend in rows:
        tongue, subject = words[tongue_index], subjects[about]
        smile = f" {subject.emoji[e % len(subject.emoji)]}" if luck[2] < 0.3 else ""
        if kind == Form.REPOST:
            whole = f"RT @{handles[author[before]]}: {texts[before]}"
            texts.append(whole if len(whole) <= 140 else f"{whole[:139]}…")
            continue
        if kind == Form.REPLY:
            texts.append(f"@{handles[author[before]]} {tongue.replies[a % len(tongue.replies)]}{smile}")
            continue
        if kind == Form.QUOTE:
            texts.append(f"{tongue.quotes[a % len(tongue.quotes)]}{smile}")
            continue
        sentences, tags = tongue.sentences[about], tongue.tags[about]
        text = sentences[a % len(sentences)].format(name=subject.names[b % len(subject.names)], n=2 + c % 11)
        if luck[0] < 0.2:
            text = tongue.openers[d % len(tongue.openers)].format(n=2 + f % 60) + text
        elif luck[0] < 0.7:
            text = text[0].upper() + text[1:]
        if luck[1] < 0.22:
            closer = tongue.closers[f % len(tongue.closers)]
            text += closer if tongue.code in _CJK or text[-1] in ".!?" else f".{closer}"
        if luck[3] < 0.05 and friend != writer:
            text += f" @{handles[friend]}"
        text += smile
        if luck[4] < 0.42:
            text += f" {tags[g % len(tags)]}"
            if luck[5] < 0.3:
                text += f" {tags[(g + 1 + h % (len(tags) - 1)) % len(tags)]}"
        texts.append(text)
    return texts

"""Muted keywords over a column of posts; rivals find substrings and check the boundaries themselves.

The posts are drawn here: 189 bytes each, words by Zipf's law, capitals, punctuation, hashtags, mentions, a link now and
then. The rivals see lower-cased text (their fold) and accept a hit between two non-word characters, which is what one
would write with them; they fold no accents, know no scripts without spaces, and are timed without the fold.
"""

from __future__ import annotations

import random
import re
from typing import Any

from xfast.text import KeywordMatcher, tokenize, word_boundaries

POST_BYTES = 189
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def vocabulary(size: int = 5000) -> list[str]:
    rng = random.Random(1)
    lengths = (2, 3, 4, 5, 5, 6, 7, 8, 10)
    return ["".join(rng.choice(_ALPHABET) for _ in range(rng.choice(lengths))) for _ in range(size)]


def make_posts(count: int, *, foreign: bool = False) -> list[str]:
    rng = random.Random(2)
    words = vocabulary()
    weights = [1 / (rank + 10) for rank in range(len(words))]
    extra = ("café", "naïve", "寿司が好き", "привет", "👍🏽", "don’t") if foreign else ()
    posts = []
    for _ in range(count):
        parts: list[str] = []
        size = 0
        for word in rng.choices(words, weights, k=60):
            chance = rng.random()
            if chance < 0.1:
                word = word.capitalize()
            elif chance < 0.18:
                word += rng.choice(".,!?:")
            elif chance < 0.21:
                word = rng.choice("#@") + word
            elif chance < 0.22:
                word = "https://t.co/" + word.title()
            elif extra and chance < 0.4:
                word = rng.choice(extra)
            parts.append(word)
            size += len(word.encode()) + 1
            if size > POST_BYTES:
                break
        posts.append(" ".join(parts).encode()[:POST_BYTES].decode(errors="ignore"))
    return posts


def make_keywords(count: int) -> list[str]:
    """Rare words, one in five a phrase of two, as viewers mute them: a few posts in a hundred match."""
    rng = random.Random(3)
    words = vocabulary()[1000:]
    return [" ".join(rng.sample(words, 2 if index % 5 == 0 else 1)) for index in range(count)]


class Matcher:
    """20,000 posts in one call."""

    params = ([20, 185],)
    param_names = ("keywords",)
    timeout = 120.0

    def setup_cache(self) -> tuple[list[str], list[str]]:
        return make_posts(20_000), make_posts(20_000, foreign=True)

    def setup(self, data: tuple[list[str], list[str]], count: int) -> None:
        import pyarrow as pa

        self.posts, self.foreign = data
        self.column = pa.array(self.posts)
        self.lower = [post.lower() for post in self.posts]
        self.keywords = make_keywords(count)
        self.matcher = KeywordMatcher(self.keywords)

    def time_match_list(self, data: Any, count: int) -> None:
        self.matcher.match(self.posts)

    def time_match_arrow(self, data: Any, count: int) -> None:
        self.matcher.match(self.column)

    def time_match_foreign(self, data: Any, count: int) -> None:
        self.matcher.match(self.foreign)

    def time_first(self, data: Any, count: int) -> None:
        self.matcher.first(self.posts)

    def time_build(self, data: Any, count: int) -> None:
        KeywordMatcher(self.keywords)

    def track_matching_share(self, data: Any, count: int) -> float:
        return float(self.matcher.match(self.posts).mean())

    def track_agreement_with_re(self, data: Any, count: int) -> float:
        """Share of posts on which the regular expression says the same; it also finds words inside links."""
        expected = [self._re().search(post) is not None for post in self.lower]
        return float((self.matcher.match(self.posts) == expected).mean())

    def _re(self) -> re.Pattern[str]:
        parts = sorted((r"\s+".join(map(re.escape, word.split())) for word in self.keywords), key=len, reverse=True)
        return re.compile(r"(?<!\w)(?:" + "|".join(parts) + r")(?!\w)")

    def time_rival_re(self, data: Any, count: int) -> None:
        search = self._re().search
        for post in self.lower:
            search(post)

    def time_rival_pyahocorasick(self, data: Any, count: int) -> None:
        import ahocorasick

        automaton = ahocorasick.Automaton()
        for word in self.keywords:
            automaton.add_word(word, len(word))
        automaton.make_automaton()
        for post in self.lower:
            any(bounded(post, end + 1 - size, end + 1) for end, size in automaton.iter(post))

    def time_rival_ahocorasick_rs(self, data: Any, count: int) -> None:
        import ahocorasick_rs

        automaton = ahocorasick_rs.AhoCorasick(self.keywords)
        for post in self.lower:
            any(
                bounded(post, start, end) for _, start, end in automaton.find_matches_as_indexes(post, overlapping=True)
            )


def bounded(text: str, start: int, end: int) -> bool:
    """Whether no word goes on to either side."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() or before == "_") and not (after.isalnum() or after == "_")


class Tokens:
    """One text at a time."""

    def setup(self) -> None:
        self.posts = make_posts(1000, foreign=True)

    def time_tokenize(self) -> None:
        for post in self.posts:
            tokenize(post)

    def time_word_boundaries(self) -> None:
        for post in self.posts:
            word_boundaries(post)

    def time_rival_uniseg(self) -> None:
        """Word boundaries of UAX #29, a tenth of the posts."""
        from uniseg.wordbreak import words

        for post in self.posts[:100]:
            list(words(post))

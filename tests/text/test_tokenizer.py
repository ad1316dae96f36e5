"""What becomes a token (HOME_MIXER §7.10)."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError
from xfast.text import tokenize

CASES = {
    # words and folding
    "Hello, World!": ["hello", "world"],
    "don't DON’T don‘t": ["don't", "don't", "don't"],
    "rock-n-roll 1,000 3.14 U.S.A.": ["rock", "n", "roll", "1,000", "3.14", "u.s.a"],
    "__init__ _foo_ _ snake_case": ["init", "foo", "snake_case"],
    "Straße STRASSE ﬁne ＡＢＣ 𝐛𝐨𝐥𝐝 ⓢⓟⓐⓜ ² ⑴": ["strasse", "strasse", "fine", "abc", "bold", "spam", "2", "1"],
    "café cafe\u0301 Ångström Łódź søt œuvre": ["cafe", "cafe", "angstrom", "lodz", "sot", "oeuvre"],
    "İstanbul ISPARTA ısparta": ["istanbul", "isparta", "isparta"],
    "ΟΔΟΣ οδός": ["οδοσ", "οδοσ"],
    "Ёлка ёлка мой мои мои\u0306 Їжак": ["елка", "елка", "мой", "мои", "мой", "їжак"],
    "שָׁלוֹם שלום": ["שלום", "שלום"],
    "مُحَمَّد محمد محـــمد أحمد احمد سؤال": ["محمد", "محمد", "محمد", "احمد", "احمد", "سؤال"],
    "می‌خواهم میخواهم": ["میخواهم", "میخواهم"],
    "soft\u00adhyphen a\u2060b": ["softhyphen", "ab"],
    # scripts whose marks are vowels, tones or other letters
    "हिन्दी हिन्द": ["हिन्दी", "हिन्द"],
    "か が カ ｶﾞ ガ は゜": ["か", "が", "カ", "ガ", "ガ", "は"],
    "한국어 \u1112\u1161\u11ab국어": ["한국어", "한국어"],
    # no spaces between words
    "寿司が好き": ["寿", "司", "が", "好", "き"],
    "スパムメールです": ["スパムメール", "で", "す"],
    "สวัสดี": ["ส", "วั", "ส", "ดี"],
    # units
    "#Widget ＃Widget #2024 ##x #": ["#widget", "#widget", "#2024", "#x"],
    "#Café #寿司大好き #foo_bar #मराठी": ["#cafe", "#寿司大好き", "#foo_bar", "#मराठी"],
    "À@0 A\u0300@0 a#b R&D &#39; foo@bar.com": ["a", "0", "a", "0", "a", "b", "r", "d", "39", "foo", "bar.com"],
    "#McDonald's (#tag) #a#b": ["#mcdonald", "s", "#tag", "#a", "b"],
    "@Example_User hi ＠you .@me @user寿司 @ünal": ["@example_user", "hi", "@you", "@me", "@user", "寿", "司", "unal"],
    "$TSLA, $brk.b $100 US$5 $": ["$tsla", "$brk.b", "100", "us", "5"],
    # addresses
    "see https://www.Example.com/A-b?c=D#e).": ["see", "example.com", "/a-b?c=d#e"],
    "http://t.co/AbC123😀 t.co/x": ["t.co", "/abc123", "😀", "t.co", "/x"],
    "https://my-site.co.uk": ["my", "site.co.uk"],
    "https://example.jp/寿司": ["example.jp", "寿", "司"],
    "https://a.example?q=@you#top and/or": ["a.example", "/?q=@you#top", "and", "or"],
    "https:// http://": [],
    # emoji
    "👩‍👩‍👧 👍🏽👍 ❤️ ❤ ❤️‍🔥": ["👩‍👩‍👧", "👍", "👍", "❤", "❤", "❤‍🔥"],
    "🇩🇪🇫🇷 1️⃣ 1 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🏴": ["🇩🇪", "🇫🇷", "1\u20e3", "1", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴"],
    "Brand™ © + = €": ["brand"],
    "": [],
    " \t\n!?…": [],
    "a\ud800b": ["a", "b"],
}


@pytest.mark.parametrize("text", CASES)
def test_tokens(text: str) -> None:
    assert tokenize(text) == [unicodedata.normalize("NFC", token) for token in CASES[text]]


@given(st.text(st.sampled_from('abZ09_ -!?()/\\+*=<>[]{}|~^%&"\n'), max_size=60))
def test_plain_ascii_is_split_at_everything_but_word_characters(text: str) -> None:
    runs = re.findall(r"[A-Za-z0-9_]+", text)
    assert tokenize(text) == [run.lower().strip("_") for run in runs if run.strip("_")]


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_tokens_of_joined_tokens_are_the_same_tokens(text: str) -> None:
    tokens = [token for token in tokenize(text) if not token.startswith("/")]
    assert tokenize(" ".join(tokens)) == tokens


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_spelling_does_not_matter(text: str) -> None:
    # Not NFKC and not upper(): the first turns signs into punctuation, the second is no inverse of folding.
    assert tokenize(unicodedata.normalize("NFC", text)) == tokenize(text)
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(text)


def test_a_text_is_required() -> None:
    with pytest.raises(ParameterError, match="text is a int, must be str"):
        tokenize(3)  # type: ignore[arg-type]


# A ligature of two kana, which are two tokens; halfwidth voicing marks on their own; a struck arrow, which is no emoji
# although the arrow that it is made of is.
ODD = {0x309F, 0xFF9E, 0xFF9F, 0x21AE}


def test_every_character_folds_to_something_that_stays() -> None:
    for code in range(0x20000):
        text = chr(code)
        if code in ODD or 0xD800 <= code < 0xE000 or unicodedata.normalize("NFKD", text).casefold() == text:
            continue
        tokens = tokenize(text)
        assert tokenize(" ".join(tokens)) == tokens, hex(code)
        assert tokenize(unicodedata.normalize("NFD", text)) == tokens, hex(code)
        assert tokenize(text.upper()) == tokens or len(text.upper()) > 1 or text.upper().lower() != text, hex(code)

"""Word boundaries against the official tests of UAX #29 and against independent segmenters."""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.text import word_boundaries

UCD = Path(__file__).resolve().parents[2] / "third_party" / "unicode-15.0.0"


def official_cases() -> list[tuple[str, list[int]]]:
    cases = []
    for line in (UCD / "WordBreakTest.txt").read_text(encoding="utf-8").splitlines():
        rule = line.split("#")[0].split()
        if not rule:
            continue
        text, ends = "", []
        for part in rule[1:]:
            if part == "÷":
                ends.append(len(text))
            elif part != "×":
                text += chr(int(part, 16))
        cases.append((text, ends))
    return cases


def test_official_word_break_cases() -> None:
    cases = official_cases()
    assert len(cases) == 1823
    failing = [(text, ends, word_boundaries(text)) for text, ends in cases if word_boundaries(text) != ends]
    assert failing == []


# Without scripts that ICU cuts by dictionary where the standard leaves the choice, and without "@" between letters,
# which ICU's locale data join.
TEXTS = [
    "The quick (“brown”) fox can’t jump 32.3 feet, right?",
    "Der Straßenname „Königsallee“ kostet ca. 1.000,50 €; z.B. heute um 12:30 Uhr.",
    "L'été dernier, c’était l'une des plus belles journées — n'est-ce pas ?",
    "Можно ли это сделать? Да, конечно: 5,5 процента.",
    "Το ελληνικό κείμενο, με τόνους· και άνω τελεία.",
    "צה\"ל הודיע ​​כי ג'ורג' הגיע ב-15:00",
    "هذا نصٌّ عربيٌّ، مع تشكيل ١٢٣٫٤ وعلامات؟",
    "می‌خواهم فردا بیایم",
    "क्षत्रिय हिन्दी में लिखा हुआ १२३ वाक्य।",
    "தமிழ் எழுத்துக்கள் மற்றும் சொற்கள்",
    "한국어 문장은 띄어쓰기가 있습니다. ㅋㅋㅋ 100 원",
    "İstanbul'da ığdır ağacı çiçek açtı",
    "foo_bar __init__ a.b.c 3.14 1,000 https://example.com/a?b=c#d",
    "👩‍👩‍👧‍👦 🇩🇪🇫🇷🇯 👍🏽 ❤️‍🔥 1️⃣ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 end",
    "tabs\tand  spaces\r\nnew\nlines\u2028sep",
]


class Icu:
    """ICU's own word break iterator with the root locale, through its C library."""

    def __init__(self, library: ctypes.CDLL, version: str) -> None:
        self.open = getattr(library, f"ubrk_open_{version}")
        self.next = getattr(library, f"ubrk_next_{version}")
        self.close = getattr(library, f"ubrk_close_{version}")
        self.open.restype = ctypes.c_void_p
        self.open.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p]
        self.next.argtypes = self.close.argtypes = [ctypes.c_void_p]

    def boundaries(self, text: str) -> list[int]:
        units = text.encode("utf-16-le", "surrogatepass")
        status = ctypes.c_int(0)
        iterator = self.open(1, b"en", units, len(units) // 2, ctypes.byref(status))
        assert status.value <= 0
        ends = []
        while (end := self.next(iterator)) != -1:
            ends.append(len(units[: 2 * end].decode("utf-16-le", "surrogatepass")))
        self.close(iterator)
        return ends


@pytest.fixture(scope="session")
def icu() -> Icu:
    name = ctypes.util.find_library("icuuc")
    if name is None:
        pytest.skip("libicuuc is not installed on this machine")
    return Icu(ctypes.CDLL(name), name.rpartition(".")[2])


@pytest.mark.parametrize("text", TEXTS)
def test_agrees_with_icu_on_multilingual_text(icu: Icu, text: str) -> None:
    assert word_boundaries(text) == icu.boundaries(text)


@pytest.mark.parametrize("text", TEXTS)
def test_agrees_with_uniseg_on_multilingual_text(text: str) -> None:
    uniseg = pytest.importorskip("uniseg.wordbreak")
    ends = list(np.cumsum([len(word) for word in uniseg.words(text)]))
    assert word_boundaries(text) == ends


# One of every class that the rules name, and joiners; the official file tries pairs, this tries long mixtures.
MIXTURE = "aZ1٣_ .,:;'\"’·אבカｶあ漢한ㅎกั́\u200d\u200c\u00ad\u2060🇩🇪👍🏽❤️☎\r\n\u2028\u0308x"


@given(st.text(st.sampled_from(MIXTURE), max_size=24))
def test_agrees_with_uniseg_on_random_mixtures(text: str) -> None:
    uniseg = pytest.importorskip("uniseg.wordbreak")
    assert word_boundaries(text) == list(np.cumsum([len(word) for word in uniseg.words(text)]))


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_boundaries_cover_any_text(text: str) -> None:
    ends = word_boundaries(text)
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(text)

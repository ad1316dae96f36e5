"""Keywords in texts: the vectors' rules, and the automaton against the obvious search."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xfast.errors import ParameterError
from xfast.text import KeywordMatcher, tokenize

RULES = [
    ("spam", "This is SPAM!", True),
    ("pot", "This shows potential", False),
    ("widget", "#widget launch", True),
    ("#widget", "widget launch", False),
    ("#widget", "#Widgets", False),
    ("#widget", "the “#WIDGET”", True),
    ("#widget", "@widget", False),
    ("exampleuser", "Hey @exampleuser look", True),
    ("@exampleuser", "exampleuser posted", False),
    ("tsla", "buying $TSLA.", True),
    ("$tsla", "buying TSLA", False),
    ("café", "I love cafe", True),
    ("cafe", "I love CAFE\u0301s", False),
    ("san francisco", "San Francisco", True),
    ("san francisco", "San-Francisco", True),
    ("san francisco", "San Diego and Francisco", False),
    ("ice cream", "ice #cream", True),
    ("ice #cream", "ice cream", False),
    ("ice #cream", "nice ice #cream", True),
    ("#ice cream", "#ice #cream", True),
    ("18", "In 2018 things", False),
    ("寿司", "昨日は寿司でした", True),
    ("寿司", "司寿", False),
    ("寿司", "#寿司大好き", True),
    ("#寿司", "#寿司大好き", False),
    ("#寿司", "今日 #寿司", True),
    ("สวัสดี", "สวัสดีครับ", True),
    ("스팸", "스팸 광고", True),
    ("👍", "ok 👍🏿", True),
    ("👩", "👩‍👩‍👧", False),
    ("🇫🇷", "🇩🇪🇫🇷", True),
    ("🇪🇫", "🇩🇪🇫🇷", False),
    ("example.com", "see https://www.example.com/x", True),
    ("https://example.com/x", "see https://www.example.com/y", False),
    ("https://example.com/x", "see example.com/x", True),
    ("x", "https://example.com/x", False),
    ("", "anything", False),
    ("!?", "what!?", False),
]


@pytest.mark.parametrize(("keyword", "text", "expected"), RULES)
def test_rules(keyword: str, text: str, expected: bool) -> None:
    matcher = KeywordMatcher([keyword])
    assert matcher.match([text]).tolist() == [expected]
    assert matcher.match_any(text) is expected
    assert matcher.first([text]).tolist() == [0 if expected else -1]
    assert bool(matcher.find(text)) is expected


def units(text: str) -> list[tuple[str, list[str]]]:
    """(sigil, plain tokens) for each token, by means of `tokenize` alone."""
    return [
        (token[0], tokenize(token[1:])) if token[0] in "#@$" and len(token) > 1 else ("", [token])
        for token in tokenize(text)
    ]


def flat(text: str) -> list[tuple[str, int, int]]:
    """(plain token, number of its unit, place in the unit)."""
    return [(plain, number, place) for number, (_, run) in enumerate(units(text)) for place, plain in enumerate(run)]


def obvious(keyword: str, text: str) -> int:
    """How often a keyword occurs, by trying every place."""
    wanted, there, in_text = units(keyword), flat(text), units(text)
    plain = [token for _, run in wanted for token in run]
    count = 0
    for start in range(len(there) - len(plain) + 1 if plain else 0):
        if [token for token, _, _ in there[start : start + len(plain)]] != plain:
            continue
        at, fits = start, True
        for sigil, run in wanted:
            _, number, place = there[at]
            if sigil and (place != 0 or in_text[number] != (sigil, run)):
                fits = False
            at += len(run)
        count += fits
    return count


WORDS = st.sampled_from(["a", "b", "A", "#a", "#b", "@a", "$b", "#寿司", "寿", "司", "寿司", "#司", "ab", "!"])
PHRASES = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@given(st.lists(PHRASES, max_size=8), st.lists(st.lists(WORDS, max_size=10).map(" ".join), max_size=6))
def test_automaton_agrees_with_the_obvious_search(keywords: list[str], texts: list[str]) -> None:
    matcher = KeywordMatcher(keywords)
    counts = np.array([[obvious(keyword, text) for keyword in keywords] for text in texts]).reshape(
        len(texts), len(keywords)
    )
    assert matcher.match(texts).tolist() == counts.any(axis=1).tolist()
    expected_first = [int(np.flatnonzero(row)[0]) if row.any() else -1 for row in counts]
    assert matcher.first(texts).tolist() == expected_first
    for text, row in zip(texts, counts):
        found = matcher.find(text)
        assert [sum(each.keyword == k for each in found) for k in range(len(keywords))] == row.tolist()
        for each in found:
            assert tokenize(text[each.start : each.end]) == tokenize(keywords[each.keyword]) or "#" in text


def test_find_says_where() -> None:
    matcher = KeywordMatcher(["crème brûlée", "#寿司", "寿司"])
    text = "🙂 Creme  Brûlée & #寿司!"
    assert [(text[f.start : f.end], f.keyword) for f in matcher.find(text)] == [
        ("Creme  Brûlée", 0),
        ("#寿司", 1),
        ("寿司", 2),
    ]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=5))
def test_every_text_contains_itself(texts: list[str]) -> None:
    for text in texts:
        assert KeywordMatcher([text]).match_any(text) == bool(tokenize(text))


def columns(texts: list[str | None]) -> list[object]:
    pa = pytest.importorskip("pyarrow")
    array = pa.array(texts, pa.string())
    out: list[object] = [
        texts,
        tuple(texts),
        np.array(texts, object),
        array,
        pa.array(texts, pa.large_string()),
        pa.chunked_array([array[:2], array[2:2], array[2:]]),
        pa.array(["pad", None, *texts, "pad"])[2:-1],
    ]
    if hasattr(pa, "string_view"):
        out.append(pa.array(texts, pa.string_view()))
    return out


def test_columns_of_every_kind_give_the_same_answer() -> None:
    texts = ["spam", None, "", "ham", "a much longer text with spam in it", "ｓｐａｍ", None]
    for column in columns(texts):
        assert KeywordMatcher(["spam"]).match(column).tolist() == [True, False, False, False, True, True, False]
        assert KeywordMatcher(["x", "spam"]).first(column).tolist() == [1, -1, -1, -1, 1, 1, -1]
    pa = pytest.importorskip("pyarrow")
    assert KeywordMatcher(["spam"]).match(pa.nulls(3)).tolist() == [False] * 3
    assert KeywordMatcher(["spam"]).match([]).shape == (0,)
    assert KeywordMatcher([]).match(texts).tolist() == [False] * 7


def test_malformed_utf8_and_lone_surrogates_are_symbols() -> None:
    pa = pytest.importorskip("pyarrow")
    raw = pa.array([b"spam\xff", b"\xc3spam", b"\xf0\x9f", b"sp\xe3\x81am"], pa.binary())
    # A zero-copy view keeps the bytes as they are, valid or not.
    column = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    assert KeywordMatcher(["spam"]).match(column).tolist() == [True, True, False, False]
    assert KeywordMatcher(["spam"]).match(["spam\ud800"]).tolist() == [True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KeywordMatcher("spam"), "keywords is a single str"),
        (lambda: KeywordMatcher(["a", 3]), r"keywords\[1\] is a int, must be str"),
        (lambda: KeywordMatcher(["a"]).match("text"), "texts is a single text"),
        (lambda: KeywordMatcher(["a"]).match(["a", 3]), r"texts\[1\] is a int, must be str or None"),
        (lambda: KeywordMatcher(["a"]).match(7), "texts is a int, must be a sequence of str or an Arrow string array"),
        (lambda: KeywordMatcher(["a"]).find(None), "text is a NoneType, must be str"),
    ],
)
def test_bad_arguments(call: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()  # type: ignore[operator]


def test_bad_arrow_type() -> None:
    pa = pytest.importorskip("pyarrow")
    for column in (pa.array([1]), pa.chunked_array([[1.5]]), pa.array(["a"]).dictionary_encode()):
        with pytest.raises(ParameterError, match="texts is an Arrow array of format"):
            KeywordMatcher(["a"]).match(column)


def test_a_matcher_can_be_pickled_and_shared_between_threads() -> None:
    matcher = pickle.loads(pickle.dumps(KeywordMatcher(["spam", "ham"])))
    assert repr(matcher) == "KeywordMatcher(['spam', 'ham'])"
    assert len(matcher) == 2 and matcher and not KeywordMatcher(["!", ""])
    texts = ["some spam here", "nothing"] * 2000
    results: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: results.append(matcher.match(texts).tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[True, False] * 2000] * 4


def test_a_hostile_keyword_list_stays_linear() -> None:
    """Keywords that are prefixes of each other, over a text of the same letter: one automaton step per token."""
    matcher = KeywordMatcher([" ".join(["a"] * n) + " b" for n in range(1, 150)])
    assert matcher.match(["a " * 50_000]).tolist() == [False]

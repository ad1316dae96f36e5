"""Write ``unicode_tables.cpp`` from the Unicode Character Database in ``third_party/unicode-15.0.0``.

``python csrc/text/generate_tables.py`` from the checkout root; ``tests/text/test_tables.py`` checks that the committed
file is what this script writes. Two tries over all code points come out:

* properties: the Word_Break class (UAX #29) in five bits, then the flags ``kPictographic`` (Extended_Pictographic),
  ``kWord`` (a segment that holds such a character is a token) and ``kCjk`` (scripts written without spaces, which end
  a URL's path);
* folding: what a character becomes when keywords are compared, as UTF-8.

Folding is full case folding, then NFKD, then removal of those marks that are accents: combining marks that belong to no
script of their own (Inherited) or to Latin, Greek, Cyrillic, Hebrew, Arabic and Syriac. Marks of Indic and South-East
Asian scripts are vowels and tones, the kana voicing marks change the letter: they stay. Letters that only look
accented stay as well (``KEPT``), and a few Latin letters that have no decomposition are folded by hand (``STROKES``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UCD = ROOT / "third_party" / "unicode-15.0.0"
OUTPUT = Path(__file__).with_name("unicode_tables.cpp")
LIMIT = 0x110000
BLOCK = 128

# In the order of enum WordBreak (unicode_tables.h).
CLASSES = [
    "Other",
    "CR",
    "LF",
    "Newline",
    "Extend",
    "ZWJ",
    "Format",
    "Katakana",
    "Hebrew_Letter",
    "ALetter",
    "Single_Quote",
    "Double_Quote",
    "MidNumLet",
    "MidLetter",
    "MidNum",
    "Numeric",
    "ExtendNumLet",
    "Regional_Indicator",
    "WSegSpace",
]
WORD_CLASSES = {"ALetter", "Katakana", "Regional_Indicator"}
PICTOGRAPHIC, WORD, CJK = 32, 64, 128

ACCENT_SCRIPTS = {"Inherited", "Latin", "Greek", "Cyrillic", "Hebrew", "Arabic", "Syriac"}
CJK_SCRIPTS = {"Han", "Hiragana", "Katakana", "Hangul", "Bopomofo"}
# Kana voicing marks; the enclosing keycap, which tells an emoji from a digit.
NOT_ACCENTS = {0x3099, 0x309A, 0x20E3}
# Letters of their own right: Cyrillic short i, yi, short u, gje, kje; Arabic and Urdu letters under a hamza.
KEPT = [0x0439, 0x0457, 0x045E, 0x0453, 0x045C, 0x0624, 0x0626, 0x06C0, 0x06C2, 0x06D3]
STROKES = {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "‘": "'", "’": "'"}
# Signs of trade and punctuation that Extended_Pictographic happens to cover; they make no token.
NOT_WORDS = {0xA9, 0xAE, 0x203C, 0x2049, 0x2122, 0x3030, 0x303D}
# Vowels and ligatures of scripts whose every character is a token: taken apart, they would be two tokens in one.
WHOLE = {0x0E33, 0x0EB3, 0x0EDC, 0x0EDD}
# Invisible letters: Hangul fillers, and the Arabic tatweel that only stretches a line.
INVISIBLE = {0x115F, 0x1160, 0x3164, 0xFFA0, 0x0640}
HANGUL = range(0xAC00, 0xD7A4)


def ranges(name: str) -> Iterator[tuple[range, str]]:
    """Lines ``first..last ; value`` of a property file."""
    for line in (UCD / name).read_text(encoding="utf-8").splitlines():
        fields = line.split("#")[0].split(";")
        if len(fields) < 2:
            continue
        first, _, last = fields[0].strip().partition("..")
        yield range(int(first, 16), int(last or first, 16) + 1), fields[1].strip()


def unicode_data() -> tuple[list[str], dict[int, list[int]]]:
    """General categories of all code points, and one step of (compatibility) decomposition."""
    category = ["Cn"] * LIMIT
    decomposition: dict[int, list[int]] = {}
    start = 0
    for line in (UCD / "UnicodeData.txt").read_text(encoding="utf-8").splitlines():
        fields = line.split(";")
        code = int(fields[0], 16)
        if fields[1].endswith("First>"):
            start = code
            continue
        for each in range(start if fields[1].endswith("Last>") else code, code + 1):
            category[each] = fields[2]
        if fields[5]:
            decomposition[code] = [int(part, 16) for part in fields[5].split() if not part.startswith("<")]
    return category, decomposition


class Folding:
    """The folding of each code point, closed under itself."""

    def __init__(self, category: list[str], decomposition: dict[int, list[int]]) -> None:
        self.category, self.decomposition = category, decomposition
        self.case: dict[int, list[int]] = {}
        for line in (UCD / "CaseFolding.txt").read_text(encoding="utf-8").splitlines():
            fields = line.split("#")[0].split("; ")
            if len(fields) >= 3 and fields[1] in "CF":
                self.case[int(fields[0], 16)] = [int(part, 16) for part in fields[2].split()]
        self.script = ["Zzzz"] * LIMIT
        for codes, value in ranges("Scripts.txt"):
            for code in codes:
                self.script[code] = value
        self.by_hand = {ord(key): [ord(c) for c in value] for key, value in STROKES.items()}

    def is_accent(self, code: int) -> bool:
        if code in NOT_ACCENTS:
            return False
        return self.category[code] in ("Mn", "Me") and self.script[code] in ACCENT_SCRIPTS

    def is_dropped(self, code: int) -> bool:
        return self.is_accent(code) or code in INVISIBLE or self.category[code] == "Cf"

    def __call__(self, code: int) -> list[int]:
        if code in HANGUL or code in WHOLE:  # syllables are composed at run time
            return [code]
        current = [code]
        while True:
            step: list[int] = []
            for each in current:
                if each in KEPT:
                    step.append(each)
                elif each in self.case:
                    step += self.case[each]
                elif each in self.by_hand:
                    step += self.by_hand[each]
                elif each in self.decomposition:
                    step += self.decomposition[each]
                elif not self.is_dropped(each):
                    step.append(each)
            if step == current:
                return self.trimmed(code, step)
            current = step

    def trimmed(self, code: int, folded: list[int]) -> list[int]:
        """Without the signs around a letter or number ("⑴" folds to "(1)"), as around a word; and without spaces."""
        folded = [each for each in folded if each != 0x20]
        if self.category[code][0] in "LN":
            inner = [place for place, each in enumerate(folded) if self.category[each][0] in "LNM"]
            folded = folded[inner[0] : inner[-1] + 1] if inner else []
        return folded


def trie(values: list[int]) -> tuple[list[int], list[int]]:
    """Two stages: block numbers, and the distinct blocks one after another."""
    seen: dict[tuple[int, ...], int] = {}
    stage1 = [seen.setdefault(tuple(values[at : at + BLOCK]), len(seen)) for at in range(0, LIMIT, BLOCK)]
    return stage1, [value for block in seen for value in block]


def array(kind: str, name: str, values: list[int]) -> str:
    lines, line = [], ""
    for value in values:
        text = f"{value},"
        if len(line) + len(text) > 118:
            lines.append(line)
            line = ""
        line += text
    lines.append(line)
    return f"const {kind} {name}[{len(values)}] = {{\n" + "\n".join(lines) + "\n};\n"


def render() -> str:
    category, decomposition = unicode_data()
    folding = Folding(category, decomposition)
    properties = [0] * LIMIT
    for codes, value in ranges("WordBreakProperty.txt"):
        for code in codes:
            properties[code] |= CLASSES.index(value)
    for codes, value in ranges("emoji-data.txt"):
        if value == "Extended_Pictographic":
            for code in codes:
                properties[code] |= PICTOGRAPHIC
    for code in range(LIMIT):
        # Circled letters are signs that spell words; kana voicing marks share their class and do not.
        circled = category[code] == "So" and CLASSES[properties[code] & 31] in WORD_CLASSES
        wordlike = category[code][0] in "LN" or circled
        if (wordlike or properties[code] & PICTOGRAPHIC) and code not in NOT_WORDS:
            properties[code] |= WORD
        if folding.script[code] in CJK_SCRIPTS or 0x3000 <= code < 0x3040 or 0xFF00 <= code < 0xFFF0:
            properties[code] |= CJK

    # Folding 0 is "stays"; the pool holds each distinct result once, its length first.
    pool = bytearray()
    offsets: dict[bytes, int] = {}
    fold_values = [0] * LIMIT
    starts = [0]
    for code in range(LIMIT):
        if 0xD800 <= code < 0xE000:
            continue
        folded = folding(code)
        if folded == [code]:
            continue
        text = "".join(map(chr, folded)).encode()
        if text not in offsets:
            offsets[text] = len(starts)
            starts.append(len(pool))
            pool += bytes([len(text)]) + text
        fold_values[code] = offsets[text]

    # A kept letter that arrives as base and mark: the pair, and the letter it makes.
    compositions = sorted((*decomposition[code], code) for code in KEPT if len(decomposition[code]) == 2)
    property1, property2 = trie(properties)
    fold1, fold2 = trie(fold_values)
    parts = [
        "// Written by csrc/text/generate_tables.py from the Unicode Character Database 15.0.0; do not edit.",
        "// clang-format off",
        '#include "text/unicode_tables.h"\n',
        "namespace xfast::text {\n",
        array("std::uint16_t", "kPropertyBlocks", property1),
        array("std::uint8_t", "kProperties", property2),
        array("std::uint16_t", "kFoldBlocks", fold1),
        array("std::uint16_t", "kFolds", fold2),
        array("std::uint32_t", "kFoldStarts", starts),
        array("std::uint8_t", "kFoldPool", list(pool)),
        f"const Composition kCompositions[{len(compositions)}] = {{",
        *(f"{{{base}, {mark}, {letter}}}," for base, mark, letter in compositions),
        "};",
        f"const std::size_t kCompositionCount = {len(compositions)};\n",
        "}  // namespace xfast::text",
        "// clang-format on\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    text = render()
    if "--check" in sys.argv:
        sys.exit(text != OUTPUT.read_text())
    OUTPUT.write_text(text)

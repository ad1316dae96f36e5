"""The tokens of one text."""

from __future__ import annotations

from unicodedata import normalize

from xfast.errors import ParameterError
from xfast.text import _native

__all__ = ["tokenize", "word_boundaries"]


def _require_text(text: str) -> str:
    if not isinstance(text, str):
        raise ParameterError(f"text is a {type(text).__name__}, must be str")
    return text


def tokenize(text: str) -> list[str]:
    """Split a text into the tokens that keywords are compared with.

    A hashtag, mention or cashtag is one token with its sigil; a URL gives the words of its host and its path as one
    token that begins with ``/``; Han, Hiragana, Thai and other scripts without spaces give one token per character; an
    emoji, joined or with a skin tone, and a flag are one token each. Punctuation and symbols give none.

    Parameters
    ----------
    text
        Any text; a lone surrogate counts as a symbol.

    Returns
    -------
    list of str
        Tokens in order, folded (case, width, accents), in normal form C.

    Raises
    ------
    ParameterError
        ``text`` is not a str.

    Examples
    --------
    >>> tokenize("Don’t miss the CAFÉ-opening: #Picnic with @ana!")
    ["don't", 'miss', 'the', 'cafe', 'opening', '#picnic', 'with', '@ana']
    """
    return [token if token.isascii() else normalize("NFC", token) for token in _native.tokenize(_require_text(text))]


def word_boundaries(text: str) -> list[int]:
    """Where the segments of UAX #29 end (every segment, also spaces and punctuation).

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    list of int
        Ascending positions in code points; the last is ``len(text)``. Empty for an empty text.
    """
    return _native.word_boundaries(_require_text(text))

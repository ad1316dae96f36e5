"""Many keywords over a column of texts in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xfast.errors import ParameterError
from xfast.text import _native

__all__ = ["Found", "KeywordMatcher"]


class Found(NamedTuple):
    """One occurrence of a keyword: its index, and the code points ``text[start:end]`` that it covers."""

    keyword: int
    start: int
    end: int


class KeywordMatcher:
    """Keywords compiled into one automaton over tokens.

    Building takes some microseconds per keyword; a matcher is immutable, may be shared between threads and releases the
    GIL while it scans. A keyword without any token (empty, or only punctuation) never matches.

    Parameters
    ----------
    keywords
        Words, phrases, ``#hashtags``, ``@handles``, ``$cashtags``, domains or emoji, in any case and spelling.

    Raises
    ------
    ParameterError
        ``keywords`` is a single string, or one of them is no str.

    Examples
    --------
    >>> muted = KeywordMatcher(["spoiler", "season finale", "#ad"])
    >>> muted.match(["No Spoilers!", "SPOILER: he wins", "the season  finale", "an ad", "#AD buy"]).tolist()
    [False, True, True, False, True]
    """

    __slots__ = ("_native", "keywords")

    def __init__(self, keywords: Iterable[str]) -> None:
        if isinstance(keywords, str):
            raise ParameterError("keywords is a single str, must be a sequence of them")
        self.keywords = tuple(keywords)
        for index, keyword in enumerate(self.keywords):
            if not isinstance(keyword, str):
                raise ParameterError(f"keywords[{index}] is a {type(keyword).__name__}, must be str")
        self._native = _native.KeywordMatcher(self.keywords)

    def __len__(self) -> int:
        return len(self.keywords)

    def __bool__(self) -> bool:
        """Whether any keyword can match at all."""
        return self._native.live > 0

    def __repr__(self) -> str:
        return f"KeywordMatcher({list(self.keywords)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return KeywordMatcher, (self.keywords,)

    def match(self, texts: Any) -> NDArray[np.bool_]:
        """Tell for each text whether any keyword is in it.

        Parameters
        ----------
        texts
            A sequence of str and None of length N, or anything that exports the Arrow C interface as string,
            large_string or string_view (pyarrow arrays and chunked arrays, polars series, …), read without a copy.

        Returns
        -------
        ndarray of bool, shape [N]
            False where the text is None or null.

        Raises
        ------
        ParameterError
            ``texts`` is a single string, holds something else than str and None, or is an Arrow array of another type.
        """
        return self._native.match(texts)

    def match_any(self, text: str | None) -> bool:
        """Tell whether any keyword is in one text; False for None."""
        return bool(self._native.match((text,))[0])

    def first(self, texts: Any) -> NDArray[np.int32]:
        """Give for each text the lowest index of a keyword that is in it, -1 where there is none.

        Takes what :meth:`match` takes; slower, because no text can be left early. For explanations.
        """
        return self._native.first(texts)

    def find(self, text: str) -> list[Found]:
        """Every occurrence of every keyword in one text, by end, then by keyword index."""
        if not isinstance(text, str):
            raise ParameterError(f"text is a {type(text).__name__}, must be str")
        return [Found(*each) for each in self._native.find(text)]

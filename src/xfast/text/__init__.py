"""Words of posts: the tokenizer of muted keywords, and a matcher of many keywords over a column of texts.

The rules are HOME_MIXER §7.10, made precise in ``docs/text.md``: words after UAX #29, compared without case, width and
accents; whole tokens only; several words are a contiguous run; a plain word also finds ``#word``, ``@word`` and
``$word``, a word with a sigil finds only that. The ads keyword rule (HOME_MIXER §10) is the same matcher.
"""

from xfast.text.matcher import Found, KeywordMatcher
from xfast.text.tokenizer import tokenize, word_boundaries

__all__ = ["Found", "KeywordMatcher", "tokenize", "word_boundaries"]

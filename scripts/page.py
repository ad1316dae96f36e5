"""Measured blocks of documentation pages: what stands between ``<!-- begin NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace blocks by name.

    Raises
    ------
    ValueError
        The page has no block of that name.
    """
    text = page.read_text(encoding="utf-8")
    for name, block in blocks.items():
        pattern = rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, partial(_between, block), text, flags=re.DOTALL)
        if not count:
            raise ValueError(f"{page} has no block <!-- begin {name} -->")
    page.write_text(text, encoding="utf-8")


def _between(block: str, match: re.Match[str]) -> str:
    return f"{match[1]}{block}\n{match[2]}"

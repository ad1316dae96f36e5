"""The examples in the documentation run."""

import doctest
import re
from pathlib import Path

import pytest

import xfast.world.synthetic

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_example_of_the_synthetic_network() -> None:
    result = doctest.testmod(xfast.world.synthetic)
    assert result.attempted >= 5 and result.failed == 0


@pytest.mark.parametrize(("page", "marker"), [("events.md", "NetworkEvent(Post("), ("world.md", "generate(")])
def test_the_examples_of_the_pages(page: str, marker: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    code = next(block for block in blocks if marker in block)
    names: dict[str, object] = {}
    exec(compile(code, page, "exec"), names)
    if page == "events.md":
        assert names["batch"].counts() == {"post": 1, "follow": 1}  # type: ignore[attr-defined]

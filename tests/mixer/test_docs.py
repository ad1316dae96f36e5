"""The pages of the mixer say what is true: names exist, examples run."""

from __future__ import annotations

import contextlib
import io
import re
from importlib import import_module
from pathlib import Path

from xfast import mixer
from xfast.mixer import filters, hydrators, query_hydrators, side_effects, sources
from xfast.pipeline import Component, prometheus_name

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_name_on_the_page_exists_and_every_component_is_there() -> None:
    text = (DOCS / "names.md").read_text()
    named = set()
    for path in re.findall(r"`((?:mixer|pipeline)\.[\w.]+)`", text):
        module, _, attribute = f"xfast.{path}".rpartition(".")
        try:
            named.add(getattr(import_module(module), attribute))
        except (ImportError, AttributeError):
            named.add(import_module(f"xfast.{path}"))
    for package in (filters, hydrators, query_hydrators, side_effects, sources):
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, type) and issubclass(value, Component):
                assert value in named, name
    assert "SelfpostFilter" in text and "RepostDeduplicationFilter" in text


def test_every_counter_is_on_the_page_under_its_prometheus_name() -> None:
    text = (DOCS / "names.md").read_text().partition("## Counters")[2]
    table = dict(re.findall(r"^\| `([\w.]+)` \| `(\w+)` \|", text, re.MULTILINE))
    assert table == {name: prometheus_name(name) for name in table}
    source = Path(mixer.__file__).parent
    written = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"metrics\.(?:count|observe)\(\s*\"([\w.]+)\"", path.read_text())
    }
    assert len(written) > 10 and written <= set(table)


def test_the_example_of_the_framework_runs() -> None:
    (example,) = re.findall(r"```python\n(from typing.*?)```", (DOCS / "pipeline.md").read_text(), re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(example, "pipeline.md", "exec"), {"__name__": "example"})
    assert out.getvalue().splitlines() == ["[4, 3]", "song 2 was heard"]

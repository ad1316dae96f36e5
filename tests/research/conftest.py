"""Small shared worlds, loaded once per session."""

from __future__ import annotations

from pathlib import Path

import pytest

from xfast.research import datasets, synthetic
from xfast.research.environment import Environment


@pytest.fixture(scope="session")
def ml100k(shared: Path) -> Environment:
    return datasets.load("ml-100k", shared / "data" / "ml-100k")


@pytest.fixture(scope="session")
def small() -> Environment:
    return synthetic.environment(60, seed=3)
